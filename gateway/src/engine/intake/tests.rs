//! Hostile and ordinary archives, as a table.

use std::io::{Read, Write};

use super::limits::{LIMITS, Limits};
use super::normalise::{Packing, Source, take_in};

/// Builds a tar without any of the checks that the tar crate's own builder makes.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: tar::EntryType, path: &[u8], link: &[u8], data: &[u8]) -> Self {
        let mut header = tar::Header::new_old();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o4777);
        header.set_uid(1000);
        header.set_mtime(1_700_000_000);
        let bytes = header.as_old_mut();
        bytes.name[..path.len()].copy_from_slice(path);
        bytes.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, path: &str, data: &str) -> Self {
        self.entry(tar::EntryType::Regular, path.as_bytes(), b"", data.as_bytes())
    }
    fn folder(self, path: &str) -> Self {
        self.entry(tar::EntryType::Directory, path.as_bytes(), b"", b"")
    }
    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path.as_bytes(), target.as_bytes(), b"")
    }
    fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, path.as_bytes(), target.as_bytes(), b"")
    }
    fn long(self, path: &str) -> Self {
        let name = [path.as_bytes(), b"\0"].concat();
        self.entry(tar::EntryType::GNULongName, b"././@LongLink", b"", &name).file("short", "x")
    }
    fn pax(self, key: &str, value: &str) -> Self {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while format!("{length}{body}").len() != length {
            length = format!("{length}{body}").len();
        }
        self.entry(tar::EntryType::XHeader, b"pax", b"", format!("{length}{body}").as_bytes()).file("short", "x")
    }
    fn take_in(&self, limits: &Limits) -> (Result<Source, String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(&[0; 1024]);
        let packed = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        let result = take_in(packed.as_slice(), Packing::Zstd, folder.path(), limits).map_err(|e| e.to_string());
        if result.is_err() {
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a refused archive leaves nothing");
        }
        (result, folder)
    }
}

fn check(archive: Tar, expect: &str) {
    let small = Limits { unpacked: 64 << 10, file: 4 << 10, entries: 20, ratio: 100, ratio_from: 16 << 10, ..LIMITS };
    match archive.take_in(&small).0 {
        Ok(source) => assert_eq!(source.tree.files.into_iter().collect::<Vec<_>>().join(" "), expect),
        Err(error) => assert!(error.contains(expect), "{error:?} does not say {expect:?}"),
    }
}

#[test]
fn archives_are_taken_or_refused() {
    let tar = Tar::default;
    check(tar().file("index.php", "hi").folder("web/").file("./web//a.txt", "a"), "index.php web/a.txt");
    check(tar().file("../up", "x"), "leaves the app's folder");
    check(tar().file("a/../../up", "x"), "leaves the app's folder");
    check(tar().file("/etc/passwd", "x"), "is an absolute path");
    check(tar().entry(tar::EntryType::Regular, b"a\x01b", b"", b"x"), "control character");
    check(tar().entry(tar::EntryType::Regular, b"a\xff", b"", b"x"), "is not a UTF-8 name");
    check(tar().entry(tar::EntryType::Fifo, b"pipe", b"", b""), "is a named pipe");
    check(tar().entry(tar::EntryType::Char, b"null", b"", b""), "is a device");
    check(tar().entry(tar::EntryType::Block, b"disk", b"", b""), "is a device");
    check(tar().symlink("l", "/etc/passwd"), "absolute path");
    check(tar().symlink("d/l", "../../etc"), "outside the app's folder");
    check(tar().file("x", "").symlink("d/l", "../x"), "x");
    check(tar().symlink("d/l", "e/../../../x"), "with `..` inside it");
    check(tar().symlink("l", "d").file("l/f", "x"), "which is not a folder");
    check(tar().symlink("l", "d").file("l", "x"), "twice");
    check(tar().file("l", "x").folder("l"), "twice");
    check(tar().folder("d").folder("d/").file("d/f", "x"), "d/f");
    check(tar().hard_link("h", "/etc/shadow"), "is an absolute path");
    check(tar().hard_link("h", "nothing"), "outside the archive");
    check(tar().file("f", "x").hard_link("h", "./f"), "f h");
    check(tar().symlink("l", "f").hard_link("h", "l"), "outside the archive");
    check(tar().file("a/.git/config", "x").file(".git", "x").file("b", "x"), "b");
    check(tar().file(".git/config", "x"), "holds no file");
    check(tar(), "holds no file");
    check(tar().long(&"a/".repeat(600)), "longer than the limit of 1024 bytes");
    check(tar().long(&"a".repeat(256)), "longer than the limit of 255 bytes");
    check(tar().long(&"b/".repeat(100)), &"b/".repeat(100)[..199]);
    check(tar().pax("path", "pax/name"), "pax/name");
    check(tar().pax("path", "../up"), "leaves the app's folder");
    check(tar().pax("path", "a\0b"), "control character");
    check(tar().pax("size", "9"), "extended header");
    check(tar().entry(tar::EntryType::XHeader, b"pax", b"", &[b'x'; 4096].repeat(17)), "extended header");
    let noise = |n: usize| magrathea_core::plan::hash_text(&n.to_string()).repeat(20);
    check(
        (0..19).fold(tar(), |tar, n| tar.file(&format!("f{n}"), &[noise(n), noise(n + 50), noise(n + 99)].concat())),
        "unpacked, larger than",
    );
    check(tar().file("big", &"x".repeat(5000)), "larger than the limit");
    check((0..30).fold(tar(), |tar, n| tar.file(&format!("f{n}"), "")), "holds more entries than its limit of 20");
    check((0..9).fold(tar(), |tar, n| tar.file(&format!("f{n}"), &"x".repeat(4000))), "compressed more than its limit");
    check(tar().entry(tar::EntryType::Regular, b"magrathea.yml", b"", b"\xff"), "UTF-8");
}

#[test]
fn an_extended_header_is_bounded() {
    let archive = Tar::default().entry(tar::EntryType::GNULongName, b"x", b"", &vec![b'a'; 70 << 10]);
    assert!(archive.take_in(&LIMITS).0.unwrap_err().contains("extended header"));
}

#[test]
fn what_is_stored_is_normalised_and_addressed_by_content() {
    let archive = Tar::default().file("./run.sh", "echo").symlink("l", "run.sh").file("magrathea.yml", "app: blog");
    let (source, folder) = archive.take_in(&LIMITS);
    let source = source.unwrap();
    assert_eq!(source.manifest.as_deref(), Some("app: blog"));
    let (again, _other) = archive.take_in(&LIMITS);
    assert_eq!(source.blob, again.unwrap().blob);
    let stored = std::fs::read(folder.path().join(&source.blob.sha256)).unwrap();
    assert_eq!(stored.len() as u64, source.blob.size);
    let mut tar = tar::Archive::new(zstd::Decoder::new(stored.as_slice()).unwrap());
    let entries: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let path = entry.path().unwrap().display().to_string();
            (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap())
        })
        .collect();
    assert_eq!(
        entries,
        [
            ("run.sh".into(), 0o755, 0, 1_700_000_000),
            ("l".into(), 0o777, 0, 1_700_000_000),
            ("magrathea.yml".into(), 0o755, 0, 1_700_000_000),
        ]
    );
    let wanted = ["run.sh".to_owned(), "missing".to_owned()].into();
    let texts = super::stored::read_texts(&folder.path().join(&source.blob.sha256), &wanted).unwrap();
    assert_eq!(texts.into_iter().collect::<Vec<_>>(), [("run.sh".to_owned(), "echo".to_owned())]);
}

#[test]
fn broken_streams_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = zstd::encode_all(Tar::default().file("f", &"x".repeat(9000)).0.as_slice(), 1).unwrap();
    for bytes in [b"not zstd at all".as_slice(), &whole[..whole.len() / 2]] {
        let error = take_in(bytes, Packing::Zstd, folder.path(), &LIMITS).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}

#[tokio::test]
async fn a_body_is_received_in_pieces() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&Tar::default().file("index.html", "hello").0).unwrap();
    let bytes = encoder.finish().unwrap();
    let pieces: Vec<_> = bytes.chunks(7).map(|c| Ok::<_, String>(bytes::Bytes::copy_from_slice(c))).collect();
    let folder = tempfile::tempdir().unwrap();
    let source =
        super::receive(futures_util::stream::iter(pieces), Packing::Zstd, folder.path().to_owned()).await.unwrap();
    let mut stored = Vec::new();
    let file = std::fs::File::open(super::blob_path(folder.path(), &source.blob.sha256)).unwrap();
    zstd::Decoder::new(file).unwrap().read_to_end(&mut stored).unwrap();
    assert!(String::from_utf8_lossy(&stored).contains("hello"));

    let broken = vec![Ok(bytes::Bytes::from(bytes[..9].to_vec())), Err("connection reset")];
    let error =
        super::receive(futures_util::stream::iter(broken), Packing::Zstd, folder.path().to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("the upload broke off"), "{error}");
}
