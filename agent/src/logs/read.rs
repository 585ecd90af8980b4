//! Reads an instance's log forwards from a place: plain or packed segments, from one into the next, as far as is
//! written. Blocking, and of one piece at a time, so that who reads slowly holds nothing but its place.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use magrathea_core::logs::Cursor;

use super::segment;

/// Bytes that are read at once; and the most that a line can have.
const PIECE: usize = 256 << 10;
const LONGEST: usize = 8 << 20;

/// What one step of reading came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The buffer holds whole lines.
    Lines,
    /// Nothing more is written at present.
    End,
    /// Lines between here and the place before are not kept any more.
    Gap,
}

/// A place in a log, with the file open that it is in.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    cursor: Cursor,
    open: Option<Open>,
}

enum Open {
    Plain(File),
    /// With what was unpacked beyond the last whole line.
    Packed(Box<zstd::Decoder<'static, BufReader<File>>>, Vec<u8>),
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Open::Plain(_) => "plain",
            Open::Packed(..) => "packed",
        })
    }
}

impl Reader {
    pub fn new(folder: PathBuf, cursor: Cursor) -> Self {
        Reader { folder, cursor, open: None }
    }

    /// Where the next step begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Reads on, no further than what is written.
    pub fn read(&mut self, written: Cursor, buffer: &mut Vec<u8>) -> io::Result<Step> {
        buffer.clear();
        loop {
            if self.cursor >= written {
                return Ok(Step::End);
            }
            if self.open.is_none() && !self.open()? {
                let from = self.cursor;
                self.cursor = self.next_held(written)?;
                // Before the first line ever there is nothing to miss.
                if from.segment > 0 {
                    return Ok(Step::Gap);
                }
                continue;
            }
            let limit = (self.cursor.segment == written.segment).then(|| written.offset - self.cursor.offset);
            self.fill(limit, buffer)?;
            if buffer.is_empty() {
                if self.cursor.segment == written.segment {
                    return Ok(Step::End);
                }
                (self.cursor, self.open) = (Cursor { segment: self.cursor.segment + 1, offset: 0 }, None);
                continue;
            }
            self.cursor.offset += buffer.len() as u64;
            return Ok(Step::Lines);
        }
    }

    /// Whole lines from the open segment; none at its end.
    fn fill(&mut self, limit: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut wanted = PIECE.min(limit);
        if let Some(Open::Packed(_, rest)) = &mut self.open {
            buffer.append(rest);
        }
        loop {
            let from = buffer.len();
            buffer.resize(wanted, 0);
            let into = buffer.get_mut(from..).unwrap_or_default();
            let count = match &mut self.open {
                Some(Open::Plain(file)) => read_at(file, into, self.cursor.offset + from as u64)?,
                Some(Open::Packed(decoder, _)) => read_full(decoder, into)?,
                None => 0,
            };
            buffer.truncate(from + count);
            let end = buffer.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
            match end {
                Some(end) => {
                    if let Some(Open::Packed(_, rest)) = &mut self.open {
                        rest.extend_from_slice(buffer.get(end..).unwrap_or_default());
                    }
                    buffer.truncate(end);
                    return Ok(());
                }
                None if from + count < wanted || wanted >= LONGEST.min(limit) => {
                    buffer.clear();
                    return Ok(());
                }
                None => wanted = (wanted * 2).min(LONGEST).min(limit),
            }
        }
    }

    /// Opens the segment of the place. Says whether it is there.
    fn open(&mut self) -> io::Result<bool> {
        let Cursor { segment, offset } = self.cursor;
        // It may be packed between the two tries; then the second finds it.
        for path in [segment::plain_path(&self.folder, segment), segment::packed_path(&self.folder, segment)] {
            let packed = path.extension().is_some_and(|extension| extension == "zst");
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            self.open = Some(if packed {
                let mut decoder = zstd::Decoder::new(file)?;
                io::copy(&mut decoder.by_ref().take(offset), &mut io::sink())?;
                Open::Packed(Box::new(decoder), Vec::new())
            } else {
                Open::Plain(file)
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// The beginning of the oldest segment that is kept.
    fn next_held(&self, written: Cursor) -> io::Result<Cursor> {
        let mut next = written.segment;
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.split_once(".log")?.0.parse::<u64>().ok());
            if let Some(number) = number.filter(|number| *number > self.cursor.segment) {
                next = next.min(number);
            }
        }
        Ok(Cursor { segment: next, offset: 0 })
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}
