//! Follows a file that somebody else appends to and renames away (`X` → `X.1` → `X.2` …): every whole line once, also
//! when this program was gone in between.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magrathea_core::plan::hash_text;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Bytes that are read at once.
pub const CHUNK: usize = 256 << 10;
/// A line of more bytes is nothing that the engine writes.
const LONGEST: usize = 1 << 20;
/// Bytes at a file's start that tell it from a later one with the same inode number.
const HEAD: u64 = 256;
/// How many files are looked for beside the newest.
const ROTATED: usize = 16;

/// A place in one of the files, to go on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    inode: u64,
    /// Of the file's first bytes: as many as lie before the offset, up to [`HEAD`].
    print: String,
    pub offset: u64,
}

impl Position {
    /// Whether it is in the same file, and not before the other place.
    pub fn is_after(&self, other: &Position) -> bool {
        self.inode == other.inode && self.offset >= other.offset
    }
}

/// Which file lines come from.
#[derive(Debug, Clone)]
pub struct Origin {
    inode: u64,
    head: Vec<u8>,
}

impl Origin {
    pub fn at(&self, offset: u64) -> Position {
        Position { inode: self.inode, print: self.print(offset), offset }
    }

    /// Whether the place is in this file.
    pub fn holds(&self, position: &Position) -> bool {
        self.inode == position.inode && self.print(position.offset) == position.print
    }

    fn print(&self, offset: u64) -> String {
        let length = usize::try_from(offset.min(HEAD)).unwrap_or(usize::MAX).min(self.head.len());
        let hash = hash_text(&hex::encode(self.head.get(..length).unwrap_or_default()));
        hash.get(..16).unwrap_or_default().to_owned()
    }
}

/// Whole lines.
#[derive(Debug)]
pub struct Lines {
    pub origin: Arc<Origin>,
    /// Where the first begins.
    pub start: u64,
    pub bytes: Vec<u8>,
    /// What stood before them is not there any more.
    pub lost: bool,
}

impl Lines {
    /// Each line with the place after it.
    pub fn each(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.bytes.split_inclusive(|byte| *byte == b'\n').scan(self.start, |place, line| {
            *place += line.len() as u64;
            Some((line.trim_ascii_end(), *place))
        })
    }
}

/// The files, from the one that is read to the newest. They are held open: what is removed is read to its end.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    files: VecDeque<Followed>,
    resume: Option<Position>,
}

#[derive(Debug)]
struct Followed {
    file: File,
    inode: u64,
    offset: u64,
    origin: Option<Arc<Origin>>,
    lost: bool,
    /// The offset is inside a line whose beginning is not there any more.
    torn: bool,
}

impl Tail {
    /// Goes on at a place, or begins with the oldest file there is.
    pub fn new(path: &Path, resume: Option<Position>) -> Self {
        Tail { path: path.to_owned(), files: VecDeque::new(), resume }
    }

    /// The next lines; none when there are none at present.
    pub fn read(&mut self) -> io::Result<Option<Lines>> {
        loop {
            if let Some(lines) = self.read_first()? {
                return Ok(Some(lines));
            }
            self.look()?;
            // What was written between the read and the look.
            if let Some(lines) = self.read_first()? {
                return Ok(Some(lines));
            }
            if self.files.len() < 2 {
                return Ok(None);
            }
            self.files.pop_front();
        }
    }

    /// Where the next read begins.
    pub fn position(&self) -> Option<Position> {
        let followed = self.files.front()?;
        Some(followed.origin.as_ref()?.at(followed.offset))
    }

    fn read_first(&mut self) -> io::Result<Option<Lines>> {
        match self.files.front_mut() {
            Some(followed) => followed.read(),
            None => Ok(None),
        }
    }

    /// Looks for files that are newer than the newest one known.
    fn look(&mut self) -> io::Result<()> {
        if let Some(newest) = self.files.back() {
            match std::fs::metadata(&self.path) {
                Ok(found) if found.ino() == newest.inode => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        let mut found = self.candidates()?;
        if let Some(newest) = self.files.back() {
            let known = found.iter().position(|followed| followed.inode == newest.inode);
            found.truncate(known.unwrap_or(found.len()));
            if known.is_none()
                && let Some(oldest) = found.last_mut()
            {
                oldest.lost = true;
            }
        } else if let Some(position) = self.resume.take() {
            if found.is_empty() {
                self.resume = Some(position);
                return Ok(());
            }
            let known = found.iter_mut().position(|followed| followed.is_at(&position));
            match known.and_then(|index| found.get_mut(index).map(|followed| (index, followed))) {
                Some((index, followed)) => {
                    followed.offset = position.offset;
                    found.truncate(index + 1);
                }
                None => found.iter_mut().last().into_iter().for_each(|oldest| oldest.lost = true),
            }
        }
        self.files.extend(found.into_iter().rev());
        while self.files.len() > ROTATED {
            self.files.pop_front();
            if let Some(first) = self.files.front_mut() {
                first.lost = true;
            }
        }
        Ok(())
    }

    /// The files there are, the newest first. One that is renamed meanwhile may be met twice; the first counts.
    fn candidates(&self) -> io::Result<Vec<Followed>> {
        let mut found: Vec<Followed> = Vec::new();
        for number in 0..ROTATED {
            let path = match number {
                0 => self.path.clone(),
                _ => {
                    let mut name = self.path.clone().into_os_string();
                    name.push(format!(".{number}"));
                    PathBuf::from(name)
                }
            };
            let file = match File::open(&path) {
                Ok(file) => file,
                // Between two renames the newest is not there for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if found.iter().all(|followed| followed.inode != inode) {
                found.push(Followed { file, inode, offset: 0, origin: None, lost: false, torn: false });
            }
        }
        Ok(found)
    }
}

/// What one look at a file brings.
enum Piece {
    Lines(Lines),
    /// Something that is not a line.
    Passed,
    End,
}

impl Followed {
    fn read(&mut self) -> io::Result<Option<Lines>> {
        loop {
            match self.piece()? {
                Piece::Lines(lines) => return Ok(Some(lines)),
                Piece::Passed => {}
                Piece::End => return Ok(None),
            }
        }
    }

    fn piece(&mut self) -> io::Result<Piece> {
        // Most looks find nothing new: they must cost next to nothing.
        let held = self.file.metadata()?.len();
        if held <= self.offset {
            if held < self.offset {
                (self.offset, self.lost, self.origin) = (0, true, None);
            }
            return Ok(Piece::End);
        }
        let mut bytes = vec![0; CHUNK.min(usize::try_from(held - self.offset).unwrap_or(CHUNK))];
        let mut length = read_at(&self.file, &mut bytes, self.offset)?;
        let end = loop {
            let read = bytes.get(..length).unwrap_or_default();
            // No line has a zero byte: that is where a file's front was freed, or never written.
            let hole = read.iter().position(|byte| *byte == 0);
            match read.iter().take(hole.unwrap_or(length)).rposition(|byte| *byte == b'\n') {
                Some(last) => break last + 1,
                None if hole.is_some() => {
                    let last = read.iter().rposition(|byte| *byte == 0).unwrap_or_default();
                    self.pass(self.offset + last as u64)?;
                    return Ok(Piece::Passed);
                }
                None if length < LONGEST => {
                    bytes.resize((length * 2).clamp(CHUNK, LONGEST), 0);
                    let more = bytes.get_mut(length..).unwrap_or_default();
                    match read_at(&self.file, more, self.offset + length as u64)? {
                        0 => return Ok(Piece::End),
                        count => length += count,
                    }
                }
                None => {
                    (self.offset, self.lost, self.torn) = (self.offset + length as u64, true, true);
                    return Ok(Piece::Passed);
                }
            }
        };
        bytes.truncate(end);
        if std::mem::take(&mut self.torn) {
            let rest = bytes.iter().position(|byte| *byte == b'\n').map_or(end, |first| first + 1);
            bytes.drain(..rest);
            self.offset += rest as u64;
            if bytes.is_empty() {
                return Ok(Piece::Passed);
            }
        }
        let origin = self.origin()?;
        let start = self.offset;
        self.offset += bytes.len() as u64;
        Ok(Piece::Lines(Lines { origin, start, bytes, lost: std::mem::take(&mut self.lost) }))
    }

    /// Goes on behind a hole.
    fn pass(&mut self, hole: u64) -> io::Result<()> {
        let data = match seek(&self.file, SeekFrom::Data(hole)) {
            Ok(data) => data,
            Err(Errno::NXIO) => self.file.metadata()?.len(),
            Err(error) => return Err(error.into()),
        };
        (self.offset, self.lost, self.torn) = (data.max(hole + 1), true, true);
        Ok(())
    }

    fn is_at(&mut self, position: &Position) -> bool {
        self.inode == position.inode && self.origin().is_ok_and(|origin| origin.holds(position))
    }

    fn origin(&mut self) -> io::Result<Arc<Origin>> {
        if let Some(origin) = self.origin.as_ref().filter(|origin| origin.head.len() as u64 == HEAD) {
            return Ok(origin.clone());
        }
        let mut head = vec![0; HEAD as usize];
        let length = read_at(&self.file, &mut head, 0)?;
        head.truncate(length);
        let origin = Arc::new(Origin { inode: self.inode, head });
        self.origin = Some(origin.clone());
        Ok(origin)
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Log {
        folder: tempfile::TempDir,
        file: File,
    }

    impl Log {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = File::create(folder.path().join("log")).unwrap();
            Log { folder, file }
        }
        fn path(&self) -> PathBuf {
            self.folder.path().join("log")
        }
        fn say(&mut self, text: &str) {
            self.file.write_all(text.as_bytes()).unwrap();
        }
        /// As the engine does it, with three files.
        fn rotate(&mut self) {
            let path = |n: u32| self.folder.path().join(format!("log.{n}"));
            let _ = std::fs::rename(path(1), path(2));
            std::fs::rename(self.path(), path(1)).unwrap();
            self.file = File::create(self.path()).unwrap();
        }
    }

    fn all(tail: &mut Tail) -> (String, Option<Position>, bool) {
        let (mut text, mut position, mut lost) = (String::new(), None, false);
        while let Some(lines) = tail.read().unwrap() {
            position = Some(lines.origin.at(lines.start + lines.bytes.len() as u64));
            lost |= lines.lost;
            text.push_str(str::from_utf8(&lines.bytes).unwrap());
        }
        (text, position, lost)
    }

    #[test]
    fn every_line_comes_once_over_rotations_and_restarts() {
        let mut log = Log::new();
        let mut tail = Tail::new(&log.path(), None);
        log.say("a\nb\nhal");
        let (text, position, _) = all(&mut tail);
        assert_eq!(text, "a\nb\n");
        log.say("f\n");
        log.rotate();
        log.say("c\n");
        log.rotate();
        log.say("d\n");
        let mut restarted = Tail::new(&log.path(), position);
        for tail in [&mut tail, &mut restarted] {
            let (text, _, lost) = all(tail);
            assert_eq!((text.as_str(), lost), ("half\nc\nd\n", false));
        }
        assert!(tail.read().unwrap().is_none());
    }

    #[test]
    fn what_is_removed_is_read_to_its_end() {
        let mut log = Log::new();
        log.say("a\n");
        let mut tail = Tail::new(&log.path(), None);
        all(&mut tail);
        log.say("b\n");
        std::fs::remove_file(log.path()).unwrap();
        assert_eq!(all(&mut tail).0, "b\n");
    }

    #[test]
    fn a_gap_is_told() {
        let mut log = Log::new();
        log.say("a\n");
        let mut tail = Tail::new(&log.path(), None);
        let position = all(&mut tail).1;
        for text in ["b\n", "c\n", "d\n"] {
            log.rotate();
            log.say(text);
        }
        for tail in [&mut tail, &mut Tail::new(&log.path(), position)] {
            let (text, _, lost) = all(tail);
            assert_eq!((text.as_str(), lost), ("b\nc\nd\n", true));
        }
    }

    #[test]
    fn another_file_with_the_same_number_is_another() {
        let mut log = Log::new();
        log.say("first\n");
        let mut position = all(&mut Tail::new(&log.path(), None)).1.unwrap();
        std::fs::remove_file(log.path()).unwrap();
        log.file = File::create(log.path()).unwrap();
        log.say("other\nlines\n");
        position.inode = log.file.metadata().unwrap().ino();
        let (text, _, lost) = all(&mut Tail::new(&log.path(), Some(position)));
        assert_eq!((text.as_str(), lost), ("other\nlines\n", true));
    }

    #[test]
    fn a_front_that_was_freed_is_passed_over_and_told() {
        let mut log = Log::new();
        let line = |n: u32| format!("{n:09}\n");
        log.say(&(0..10).map(line).collect::<String>());
        let mut tail = Tail::new(&log.path(), None);
        let position = all(&mut tail).1;
        log.say(&(10..1_000_000).map(line).collect::<String>());
        let file = File::options().write(true).open(log.path()).unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 4096, 8_192_000 - 4096).unwrap();
        for tail in [&mut tail, &mut Tail::new(&log.path(), position)] {
            let (mut numbers, mut gaps) = (Vec::new(), 0);
            while let Some(lines) = tail.read().unwrap() {
                gaps += u32::from(lines.lost);
                numbers.extend(lines.each().map(|(line, _)| str::from_utf8(line).unwrap().parse::<u32>().unwrap()));
            }
            // The first page stays; both ends of the hole are inside a line.
            assert_eq!(gaps, 1);
            assert_eq!(numbers, (10..409).chain(819_201..1_000_000).collect::<Vec<_>>());
        }
        log.say("000000001\n");
        assert_eq!(all(&mut tail).0, "000000001\n");
    }

    #[test]
    fn a_monster_is_passed_over() {
        let mut log = Log::new();
        log.say(&"x".repeat(3 * LONGEST + 5));
        log.say("\nafter\n");
        let (text, _, lost) = all(&mut Tail::new(&log.path(), None));
        assert_eq!((text.as_str(), lost), ("after\n", true));
    }
}
