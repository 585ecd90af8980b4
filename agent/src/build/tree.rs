//! From a source archive or a folder to the archive of the release's files, all root's, below `app/`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

/// What cannot become a release.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("{0} is a device, a socket or a pipe; a release holds files, folders and links")]
    Special(String),
    #[error("{0} leads outside of the source")]
    Outside(String),
    #[error("reading the source: {0}")]
    Io(#[from] std::io::Error),
}

/// The archive of a release's files, while it is written.
pub struct Release<W: Write> {
    files: Builder<W>,
    /// When the release was built: the time of whatever has none.
    built: u64,
    /// Folders below which memory is mounted.
    in_memory: BTreeSet<PathBuf>,
}

impl<W: Write> Release<W> {
    /// Starts the archive.
    pub fn begin(out: W, in_memory: BTreeSet<PathBuf>) -> Result<Self, TreeError> {
        let built = jiff::Timestamp::now().as_second().try_into().unwrap_or(0);
        let mut release = Self { files: Builder::new(out), built, in_memory };
        release.append_folder(Path::new(""), built)?;
        Ok(release)
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<W, TreeError> {
        Ok(self.files.into_inner()?)
    }

    /// Copies a source archive (zstd) into it and tells the path of each file.
    pub fn append_archive(&mut self, source: File, seen: &mut dyn FnMut(&Path)) -> Result<(), TreeError> {
        let mut archive = Archive::new(zstd::Decoder::new(source)?);
        // The engine follows links of the archive inside the image: through one, a file would land beside the release.
        let mut links = BTreeSet::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = inside(&entry.path()?)?;
            if path.as_os_str().is_empty() {
                continue;
            }
            let kind = entry.header().entry_type();
            let shown = || path.display().to_string();
            if path.ancestors().any(|step| links.contains(step)) {
                return Err(TreeError::Outside(shown()));
            }
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                links.insert(path.clone());
            }
            let changed = entry.header().mtime().unwrap_or(0);
            match kind {
                EntryType::Regular | EntryType::Continuous => {
                    let mut header = self.header(EntryType::Regular, entry.header().mode().unwrap_or(0o644), changed);
                    header.set_size(entry.size());
                    self.files.append_data(&mut header, release_path(&path), &mut entry)?;
                    seen(&path);
                }
                EntryType::Directory => self.append_folder(&path, changed)?,
                EntryType::Symlink => {
                    let link = entry.link_name()?.ok_or_else(|| TreeError::Outside(shown()))?.into_owned();
                    self.append_link(kind, &path, &link, changed)?;
                }
                EntryType::Link => {
                    let link = entry.link_name()?.ok_or_else(|| TreeError::Outside(shown()))?;
                    self.append_link(kind, &path, &release_path(&inside(&link)?), changed)?;
                }
                EntryType::XGlobalHeader | EntryType::XHeader => {}
                _ => return Err(TreeError::Special(shown())),
            }
        }
        Ok(())
    }

    /// Copies a folder into it, following no link, and tells the path of each file.
    pub fn append_tree(&mut self, root: &Path, seen: &mut dyn FnMut(&Path)) -> Result<(), TreeError> {
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(root.join(&folder))?.collect::<Result<_, _>>()?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let path = folder.join(entry.file_name());
                let held = entry.metadata()?;
                let changed = held.mtime().try_into().unwrap_or(0);
                if held.is_dir() {
                    self.append_folder(&path, changed)?;
                    open.push(path);
                } else if held.is_symlink() {
                    self.append_link(EntryType::Symlink, &path, &std::fs::read_link(entry.path())?, changed)?;
                } else if held.is_file() {
                    let mut header = self.header(EntryType::Regular, held.mode(), changed);
                    header.set_size(held.len());
                    let file = File::open(entry.path())?;
                    // One that grows meanwhile would spoil the archive.
                    self.files.append_data(&mut header, release_path(&path), file.take(held.len()))?;
                    seen(&path);
                } else {
                    return Err(TreeError::Special(path.display().to_string()));
                }
            }
        }
        Ok(())
    }

    fn append_folder(&mut self, path: &Path, changed: u64) -> Result<(), TreeError> {
        let mut header = self.header(EntryType::Directory, 0o755, changed);
        if self.in_memory.contains(path) {
            // What is mounted there takes its mode from here.
            header.set_mode(0o1777);
        }
        self.files.append_data(&mut header, release_path(path), std::io::empty())?;
        Ok(())
    }

    fn append_link(&mut self, kind: EntryType, path: &Path, to: &Path, changed: u64) -> Result<(), TreeError> {
        let mut header = self.header(kind, 0o644, changed);
        self.files.append_link(&mut header, release_path(path), to)?;
        Ok(())
    }

    /// Of the mode only whether it may be run counts. Of the time all, since web servers and browsers compare by it.
    fn header(&self, kind: EntryType, mode: u32, changed: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if mode & 0o111 == 0 { 0o644 } else { 0o755 });
        header.set_size(0);
        // Unpacking makes a one of a nought.
        header.set_mtime(if changed > 1 { changed } else { self.built });
        header
    }
}

fn release_path(path: &Path) -> PathBuf {
    Path::new("app").components().chain(path.components()).collect()
}

/// Unpacks a source archive (zstd) into an empty folder.
pub fn unpack(source: File, into: &Path) -> Result<(), TreeError> {
    let mut archive = Archive::new(zstd::Decoder::new(source)?);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = inside(&entry.path()?)?;
        match entry.header().entry_type() {
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::Directory
            | EntryType::Symlink
            | EntryType::Link => {
                // The crate refuses what would land outside, also through links made before.
                entry.unpack_in(into)?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            _ => return Err(TreeError::Special(path.display().to_string())),
        }
    }
    Ok(())
}

/// The path with only plain steps.
fn inside(path: &Path) -> Result<PathBuf, TreeError> {
    let mut plain = PathBuf::new();
    for step in path.components() {
        match step {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(TreeError::Outside(path.display().to_string())),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: u64 = 1_700_000_000;

    fn archive(entries: &[(&str, EntryType, &str)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut tar = Builder::new(zstd::Encoder::new(&mut file, 1).unwrap());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(if *path == "timeless" { 0 } else { CHANGED });
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind == EntryType::Symlink {
                header.set_link_name(content).unwrap();
                header.set_size(0);
                header.set_cksum();
                tar.append(&header, std::io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                tar.append(&header, content.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap().finish().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    fn release(entries: &[(&str, EntryType, &str)]) -> Result<Vec<u8>, TreeError> {
        let mut release = Release::begin(Vec::new(), BTreeSet::from(["cache".into()]))?;
        release.append_archive(archive(entries), &mut |_| ())?;
        release.finish()
    }

    /// Path, mode and time of each entry.
    fn read(archive: &[u8]) -> Vec<(String, u32, u64)> {
        let mut archive = Archive::new(archive);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.mtime().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_source_becomes_a_release() {
        let entries = [("./web/index.php", EntryType::Regular, "x"), ("link", EntryType::Symlink, "/etc/passwd")];
        let paths: Vec<_> = read(&release(&entries).unwrap()).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(paths, ["app", "app/web/index.php", "app/link"]);
    }

    #[test]
    fn files_keep_their_times_and_get_the_builds_when_they_have_none() {
        let entries = [("new", EntryType::Regular, "x"), ("timeless", EntryType::Regular, "x")];
        let made = read(&release(&entries).unwrap());
        let folder = tempfile::tempdir().unwrap();
        unpack(archive(&entries), folder.path()).unwrap();
        let mut copied = Release::begin(Vec::new(), BTreeSet::new()).unwrap();
        copied.append_tree(folder.path(), &mut |_| ()).unwrap();
        for entries in [made, read(&copied.finish().unwrap())] {
            let [_, new, timeless] = entries.as_slice() else { panic!("{entries:?}") };
            assert_eq!(new, &("app/new".to_owned(), 0o644, CHANGED));
            assert!(timeless.2 > CHANGED, "{timeless:?}");
        }
    }

    #[test]
    fn folders_in_memory_are_open_to_the_app() {
        let made = read(&release(&[("cache", EntryType::Directory, ""), ("lib", EntryType::Directory, "")]).unwrap());
        let modes: Vec<_> = made.iter().map(|(path, mode, _)| (path.as_str(), *mode)).collect();
        assert_eq!(modes, [("app", 0o755), ("app/cache", 0o1777), ("app/lib", 0o755)]);
    }

    #[test]
    fn what_leads_outside_is_refused() {
        assert!(matches!(release(&[("../x", EntryType::Regular, "x")]), Err(TreeError::Outside(_))));
        assert!(matches!(release(&[("/etc/x", EntryType::Regular, "x")]), Err(TreeError::Outside(_))));
        assert!(matches!(release(&[("dev", EntryType::Char, "")]), Err(TreeError::Special(_))));
        let through = [("link", EntryType::Symlink, "/etc"), ("link/passwd", EntryType::Regular, "x")];
        assert!(matches!(release(&through), Err(TreeError::Outside(_))));
    }

    #[test]
    fn a_folder_with_a_pipe_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "a").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let mut release = Release::begin(Vec::new(), BTreeSet::new()).unwrap();
        let result = release.append_tree(folder.path(), &mut |_| ());
        assert!(matches!(result, Err(TreeError::Special(_))));
    }
}
