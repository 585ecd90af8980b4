//! The files of one instance's log: numbered segments of JSON lines. Beside records they hold lines that say how far
//! each source has been read, written together with the records: so a record is stored if and only if its source's
//! place is, whenever this program ends. The newest segment is written to, older ones are packed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::tail::Position;

/// How far each source has been read, by its key.
pub type Positions = BTreeMap<String, Position>;

/// How old segments are packed.
const LEVEL: i32 = 3;

/// A record's line begins so; others are the store's own.
pub const RECORD: &[u8] = b"{\"time\"";

/// The first line of a segment.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    segment: u64,
    /// The time of its first record.
    from: Timestamp,
    at: Positions,
}

/// The line after some records.
#[derive(Debug, Serialize, Deserialize)]
struct Reached {
    at: Positions,
}

/// A segment that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub number: u64,
    pub from: Timestamp,
    pub size: u64,
    pub packed: bool,
}

/// What an instance's folder holds.
#[derive(Debug, Default)]
pub struct Held {
    pub segments: Vec<Segment>,
    pub positions: Positions,
}

pub fn header(segment: u64, from: Timestamp, at: &Positions) -> io::Result<Vec<u8>> {
    line(&Header { segment, from, at: at.clone() })
}

pub fn reached(at: &Positions) -> io::Result<Vec<u8>> {
    line(&Reached { at: at.clone() })
}

fn line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

pub fn plain_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

pub fn packed_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log.zst"))
}

/// Reads what is there, and cuts off what was being written when this program last ended.
pub fn recover(folder: &Path) -> io::Result<Held> {
    let mut held = Held::default();
    let mut numbers = BTreeMap::new();
    for entry in entries(folder)? {
        let name = entry.file_name();
        let Some((number, packed)) = name.to_str().and_then(parse_name) else {
            if name.to_str().is_some_and(|name| name.ends_with(".new")) {
                std::fs::remove_file(entry.path())?;
            }
            continue;
        };
        // Both are there when packing was cut off before its last step: the packed one is whole.
        *numbers.entry(number).or_insert(packed) |= packed;
    }
    let mut newest = numbers.last_key_value().map(|(number, _)| *number);
    while let Some(number) = newest {
        if numbers.get(&number) == Some(&true) {
            break;
        }
        match cut(&plain_path(folder, number))? {
            Some(positions) => {
                held.positions = positions;
                break;
            }
            None => {
                std::fs::remove_file(plain_path(folder, number))?;
                numbers.remove(&number);
                newest = numbers.last_key_value().map(|(number, _)| *number);
            }
        }
    }
    for (number, packed) in numbers {
        let path = if packed { packed_path(folder, number) } else { plain_path(folder, number) };
        if packed {
            let _ = std::fs::remove_file(plain_path(folder, number));
        }
        match first_line(&path, packed) {
            Ok(header) => {
                let size = std::fs::metadata(&path)?.len();
                if held.positions.is_empty() && Some(number) == newest {
                    held.positions = header.at;
                }
                held.segments.push(Segment { number, from: header.from, size, packed });
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a damaged part of a log is left out");
                std::fs::rename(&path, path.with_extension("damaged"))?;
            }
        }
    }
    Ok(held)
}

fn entries(folder: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse_name(name: &str) -> Option<(u64, bool)> {
    match name.strip_suffix(".log.zst") {
        Some(number) => Some((number.parse().ok()?, true)),
        None => Some((name.strip_suffix(".log")?.parse().ok()?, false)),
    }
}

/// Cuts a segment off after its last whole batch. None when there is not even one.
fn cut(path: &Path) -> io::Result<Option<Positions>> {
    let bytes = std::fs::read(path)?;
    let (mut offset, mut end, mut positions) = (0, 0, Positions::new());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        offset += line.len();
        if !line.ends_with(b"\n") {
            break;
        }
        if line.starts_with(RECORD) {
            continue;
        }
        let Ok(Reached { at }) = serde_json::from_slice(line) else { break };
        // The header alone is not a batch: it is written together with the first.
        let is_header = end == 0 && offset == line.len();
        positions.extend(at);
        if !is_header {
            end = offset;
        }
    }
    if end == 0 {
        return Ok(None);
    }
    if end < bytes.len() {
        File::options().write(true).open(path)?.set_len(end as u64)?;
    }
    Ok(Some(positions))
}

fn first_line(path: &Path, packed: bool) -> io::Result<Header> {
    let file = File::open(path)?;
    let mut reader: Box<dyn Read> = if packed { Box::new(zstd::Decoder::new(file)?) } else { Box::new(file) };
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = reader.read(&mut piece)?;
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.is_some() || count == 0 || bytes.len() > 1 << 20 {
            let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            return Ok(serde_json::from_slice(line)?);
        }
    }
}

/// Packs a segment that is not written to any more; readers that have it open go on with what they have. Its size after.
pub fn pack(folder: &Path, number: u64) -> io::Result<u64> {
    let (plain, packed) = (plain_path(folder, number), packed_path(folder, number));
    let fresh = packed.with_extension("new");
    let mut encoder = zstd::Encoder::new(File::create(&fresh)?, LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut File::open(&plain)?, &mut encoder)?;
    let mut file = encoder.finish()?;
    file.flush()?;
    // The plain one goes only when the packed one cannot be lost any more.
    file.sync_data()?;
    let size = file.metadata()?.len();
    std::fs::rename(&fresh, &packed)?;
    std::fs::remove_file(&plain)?;
    Ok(size)
}

/// Removes a segment in whatever form it is there.
pub fn remove(folder: &Path, number: u64) -> io::Result<()> {
    for path in [plain_path(folder, number), packed_path(folder, number)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
