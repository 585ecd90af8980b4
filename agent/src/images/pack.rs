//! From the engine's own tar to what travels.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{MAX_CONFIG, layer_name};

/// The engine's `manifest.json`, for one image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

/// Where an entry's bytes lie in the engine's tar; a layer that occurs twice is a link the second time.
enum Place {
    Bytes { from: u64, size: u64 },
    Link(PathBuf),
}

/// Writes the configuration and the layers but the first ones.
pub fn pack(mut tar: File, skip: usize, to: impl Write) -> io::Result<()> {
    let places = find(&mut tar)?;
    let manifest = read(&mut tar, &places, Path::new("manifest.json"))?;
    let [manifest]: [Manifest; 1] =
        serde_json::from_slice::<Vec<Manifest>>(&manifest)?.try_into().map_err(|_| bad("it is not one image"))?;
    let mut packed = tar::Builder::new(to);
    let config = read(&mut tar, &places, &manifest.config)?;
    append(&mut packed, "config", config.len() as u64, config.as_slice())?;
    for (number, layer) in manifest.layers.iter().enumerate().skip(skip) {
        let (from, size) = place(&places, layer)?;
        tar.seek(SeekFrom::Start(from))?;
        append(&mut packed, &layer_name(number), size, (&mut tar).take(size))?;
    }
    packed.into_inner()?.flush()
}

/// Adds a plain file.
pub(super) fn append(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, data: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, data)
}

fn find(tar: &mut File) -> io::Result<HashMap<PathBuf, Place>> {
    let mut places = HashMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let place = match entry.header().entry_type() {
            tar::EntryType::Regular => Place::Bytes { from: entry.raw_file_position(), size: entry.size() },
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| bad("a link leads nowhere"))?.into_owned();
                Place::Link(beside(&path, &target))
            }
            _ => continue,
        };
        places.insert(path, place);
    }
    Ok(places)
}

/// The path that a link stands for, inside the archive.
fn beside(link: &Path, target: &Path) -> PathBuf {
    let mut path = link.parent().unwrap_or(Path::new("")).to_owned();
    for part in target.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

fn place(places: &HashMap<PathBuf, Place>, path: &Path) -> io::Result<(u64, u64)> {
    match places.get(path) {
        Some(Place::Bytes { from, size }) => Ok((*from, *size)),
        Some(Place::Link(target)) => match places.get(target) {
            Some(Place::Bytes { from, size }) => Ok((*from, *size)),
            _ => Err(bad("a link leads nowhere")),
        },
        None => Err(bad("a part of it is missing")),
    }
}

fn read(tar: &mut File, places: &HashMap<PathBuf, Place>, path: &Path) -> io::Result<Vec<u8>> {
    let (from, size) = place(places, path)?;
    if size > MAX_CONFIG {
        return Err(bad("a description in it is too large"));
    }
    tar.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    tar.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the engine's image cannot be read: {what}"))
}
