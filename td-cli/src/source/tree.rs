//! A folder as it lies there, without what ignore files name and without `.git`. Links are kept, never followed.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ignore::WalkBuilder;
use magrathea_buildpacks::Tree;

/// The app's own ignore file, for what git keeps but the platform need not have.
const IGNORE_FILE: &str = ".magratheaignore";
/// Most that is read of a file that a buildpack wants to look into.
const MAX_TEXT: u64 = 1 << 20;

/// One thing in the folder.
struct Found {
    path: PathBuf,
    /// Relative to the folder.
    name: PathBuf,
    metadata: Metadata,
}

fn walk(folder: &Path, repository: bool) -> impl Iterator<Item = anyhow::Result<Found>> {
    let walk = WalkBuilder::new(folder)
        .hidden(false)
        .require_git(false)
        .parents(repository)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(|entry| entry.file_name() != ".git")
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .build();
    let folder = folder.to_owned();
    walk.filter_map(move |entry| {
        let found = entry.map_err(anyhow::Error::from).and_then(|entry| {
            let name = entry.path().strip_prefix(&folder)?.to_owned();
            let metadata =
                std::fs::symlink_metadata(entry.path()).with_context(|| entry.path().display().to_string())?;
            Ok(Found { path: entry.into_path(), name, metadata })
        });
        // The folder itself is no entry.
        Some(found).filter(|found| !found.as_ref().is_ok_and(|found| found.name.as_os_str().is_empty()))
    })
}

/// Writes the folder as a tar archive.
pub fn pack(folder: &Path, repository: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(out);
    for found in walk(folder, repository) {
        let found = found?;
        append(&mut tar, &found).with_context(|| found.name.display().to_string())?;
    }
    tar.finish()?;
    Ok(())
}

fn append(tar: &mut tar::Builder<&mut impl Write>, found: &Found) -> anyhow::Result<()> {
    let kind = found.metadata.file_type();
    let mut header = tar::Header::new_gnu();
    header.set_mtime(u64::try_from(found.metadata.mtime()).unwrap_or_default());
    header.set_mode(if kind.is_dir() || found.metadata.mode() & 0o100 != 0 { 0o755 } else { 0o644 });
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, &found.name, io::empty())?;
    } else if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, &found.name, std::fs::read_link(&found.path)?)?;
    } else if kind.is_file() {
        header.set_size(found.metadata.len());
        let mut file = File::open(&found.path)?.take(found.metadata.len());
        tar.append_data(&mut header, &found.name, &mut file)?;
        if file.limit() > 0 {
            bail!("became shorter while it was being read");
        }
    }
    // Sockets, pipes and devices are no source.
    Ok(())
}

/// What detection needs to know of the folder.
pub fn read_tree(folder: &Path) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    for found in walk(folder, true) {
        let found = found?;
        if !found.metadata.is_file() {
            continue;
        }
        let name = found.name.to_string_lossy().into_owned();
        if magrathea_buildpacks::wanted(&name) {
            let mut text = Vec::new();
            File::open(&found.path)?.take(MAX_TEXT).read_to_end(&mut text).with_context(|| name.clone())?;
            tree.texts.insert(name.clone(), String::from_utf8_lossy(&text).into_owned());
        }
        tree.files.insert(name);
    }
    Ok(tree)
}
