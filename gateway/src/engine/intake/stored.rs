//! Reads sources that are stored: what was taken in is trusted to be whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::limits::TEXT;

/// The contents of some files of a stored archive; a path without a file, or with more than [`TEXT`] bytes or other
/// than UTF-8, is missing in the answer. Blocks.
pub fn read_texts(archive: &Path, paths: &BTreeSet<String>) -> std::io::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let mut archive = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(archive)?)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_file() && entry.size() <= TEXT && paths.contains(&path) {
            let mut text = String::new();
            if entry.read_to_string(&mut text).is_ok() {
                texts.insert(path, text);
            }
        }
        if texts.len() == paths.len() {
            break;
        }
    }
    Ok(texts)
}

/// The hash of every file of a stored archive, and of every link's target, by path.
pub fn list_files(archive: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(archive)?)?);
    let mut buffer = vec![0; 64 << 10];
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut digest = Sha256::new();
        digest.update([kind.as_byte(), u8::from(entry.header().mode()? & 0o100 != 0)]);
        digest.update(entry.link_name_bytes().unwrap_or_default());
        while let count @ 1.. = entry.read(&mut buffer)? {
            digest.update(buffer.get(..count).unwrap_or_default());
        }
        files.insert(path, hex::encode(digest.finalize()));
    }
    Ok(files)
}
