//! From a source archive or a folder to the archive of the release's files, all root's, below `app/`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
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

/// Starts the archive.
pub fn begin<W: Write>(out: W) -> Result<Builder<W>, TreeError> {
    let mut files = Builder::new(out);
    files.mode(tar::HeaderMode::Deterministic);
    files.follow_symlinks(false);
    append_folder(&mut files, Path::new("app"))?;
    Ok(files)
}

/// Copies a source archive (zstd) into it and tells the path of each file.
pub fn append_archive<W: Write>(
    files: &mut Builder<W>,
    source: File,
    mut seen: impl FnMut(&Path),
) -> Result<(), TreeError> {
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
        let mut header = Header::new_gnu();
        let executable = entry.header().mode().unwrap_or(0o644) & 0o111 != 0;
        header.set_entry_type(kind);
        header.set_mode(if executable || kind == EntryType::Directory { 0o755 } else { 0o644 });
        let target = Path::new("app").join(&path);
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(entry.size());
                files.append_data(&mut header, target, &mut entry)?;
                seen(&path);
            }
            EntryType::Directory => append_folder(files, &target)?,
            EntryType::Symlink => {
                let link = entry.link_name()?.ok_or_else(|| TreeError::Outside(shown()))?.into_owned();
                header.set_size(0);
                files.append_link(&mut header, target, link)?;
            }
            EntryType::Link => {
                let link = entry.link_name()?.ok_or_else(|| TreeError::Outside(shown()))?;
                header.set_size(0);
                files.append_link(&mut header, target, Path::new("app").join(inside(&link)?))?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            _ => return Err(TreeError::Special(shown())),
        }
    }
    Ok(())
}

/// Copies a folder into it, following no link.
pub fn append_tree<W: Write>(
    files: &mut Builder<W>,
    root: &Path,
    seen: &mut dyn FnMut(&Path),
) -> Result<(), TreeError> {
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(root.join(&folder))?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = folder.join(entry.file_name());
            let target = Path::new("app").join(&path);
            let held = entry.metadata()?;
            let mut header = Header::new_gnu();
            let executable = std::os::unix::fs::MetadataExt::mode(&held) & 0o111 != 0;
            header.set_mode(if executable { 0o755 } else { 0o644 });
            if held.is_dir() {
                append_folder(files, &target)?;
                open.push(path);
            } else if held.is_symlink() {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                files.append_link(&mut header, target, std::fs::read_link(entry.path())?)?;
            } else if held.is_file() {
                header.set_size(held.len());
                let file = File::open(entry.path())?;
                // One that grows meanwhile would spoil the archive.
                files.append_data(&mut header, target, file.take(held.len()))?;
                seen(&path);
            } else {
                return Err(TreeError::Special(path.display().to_string()));
            }
        }
    }
    Ok(())
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

fn append_folder<W: Write>(files: &mut Builder<W>, path: &Path) -> Result<(), TreeError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    files.append_data(&mut header, path, std::io::empty())?;
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

    fn archive(entries: &[(&str, EntryType, &str)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut tar = Builder::new(zstd::Encoder::new(&mut file, 1).unwrap());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
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

    fn files(entries: &[(&str, EntryType, &str)]) -> Result<Vec<String>, TreeError> {
        let mut files = begin(Vec::new())?;
        append_archive(&mut files, archive(entries), |_| ())?;
        let bytes = files.into_inner()?;
        let mut read = Archive::new(bytes.as_slice());
        Ok(read.entries()?.map(|e| e.unwrap().path().unwrap().display().to_string()).collect())
    }

    #[test]
    fn a_source_becomes_a_release() {
        let paths = files(&[("./web/index.php", EntryType::Regular, "x"), ("link", EntryType::Symlink, "/etc/passwd")])
            .unwrap();
        assert_eq!(paths, ["app", "app/web/index.php", "app/link"]);
    }

    #[test]
    fn what_leads_outside_is_refused() {
        assert!(matches!(files(&[("../x", EntryType::Regular, "x")]), Err(TreeError::Outside(_))));
        assert!(matches!(files(&[("/etc/x", EntryType::Regular, "x")]), Err(TreeError::Outside(_))));
        assert!(matches!(files(&[("dev", EntryType::Char, "")]), Err(TreeError::Special(_))));
        let through = [("link", EntryType::Symlink, "/etc"), ("link/passwd", EntryType::Regular, "x")];
        assert!(matches!(files(&through), Err(TreeError::Outside(_))));
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
        let mut files = begin(Vec::new()).unwrap();
        let result = append_tree(&mut files, folder.path(), &mut |_| ());
        assert!(matches!(result, Err(TreeError::Special(_))));
    }
}
