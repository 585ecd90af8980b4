//! The router's own file, to which it appends a line for every request: no line is lost while this program is away or
//! slow. What has been taken over is freed at the front of the file, which so never has to be renamed under the router.
//! Beside the router, `bound-log` frees more of it when nobody takes anything over for too long.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::tail::{Lines, Position, Tail};
use crate::folders;

/// How often the place is stored, and what lies before it freed.
const STORE: Duration = Duration::from_secs(2);
/// Stays, so that the file is known again.
const HEAD: u64 = 4096;
/// Fewer bytes are not worth freeing.
const WORTH: u64 = 1 << 20;

/// The most that the router's image keeps of the file.
pub const KEPT_MIB: u64 = 256;

/// What is known after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    #[serde(flatten)]
    position: Position,
    /// The time of the last request before it.
    #[serde(default)]
    reached: Option<Timestamp>,
}

/// The file, and how far all of it is in the instances' logs.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    tail: Tail,
    state: PathBuf,
    stored: Option<Settled>,
    reached: Option<Timestamp>,
    stored_at: Option<Instant>,
    freed: u64,
}

impl AccessLog {
    pub fn open(path: PathBuf, state: PathBuf) -> Self {
        let stored = folders::load::<Settled>(&state).ok().flatten();
        let position = stored.as_ref().map(|stored| stored.position.clone());
        AccessLog {
            freed: position.as_ref().map_or(HEAD, |position| position.offset.max(HEAD)),
            tail: Tail::new(&path, position),
            reached: stored.as_ref().and_then(|stored| stored.reached),
            path,
            state,
            stored,
            stored_at: None,
        }
    }

    pub fn read(&mut self) -> io::Result<Option<Lines>> {
        self.tail.read()
    }

    /// How far in time requests were read, as far as that is known.
    pub fn reached(&self) -> Option<Timestamp> {
        self.reached
    }

    pub fn reach(&mut self, time: Timestamp) {
        self.reached = Some(time);
    }

    /// Everything that was read is in the instances' logs. Goes no further than what is counted for ever.
    pub fn settle(&mut self, is_counted: impl Fn(&Position) -> bool) {
        if self.stored_at.is_some_and(|at| at.elapsed() < STORE) {
            return;
        }
        let Some(position) = self.tail.position().filter(is_counted) else { return };
        let settled = Settled { position, reached: self.reached };
        if self.stored.as_ref() == Some(&settled) {
            return;
        }
        self.stored_at = Some(Instant::now());
        if let Err(error) = folders::store(&self.state, &settled) {
            tracing::warn!(%error, "how far the router's log is read is not stored");
            return;
        }
        let end = settled.position.offset & !4095;
        if end < self.freed {
            self.freed = HEAD;
        }
        if end >= self.freed + WORTH {
            match self.free(end) {
                Ok(()) => self.freed = end,
                Err(error) => tracing::warn!(%error, "the router's log is not freed"),
            }
        }
        self.stored = Some(settled);
    }

    fn free(&self, end: u64) -> io::Result<()> {
        let file = std::fs::File::options().write(true).open(&self.path)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&file, flags, self.freed, end - self.freed)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_was_taken_over_is_freed_and_the_rest_comes_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, state) = (folder.path().join("access.log"), folder.path().join("state.json"));
        let mut file = std::fs::File::create(&path).unwrap();
        let line = format!("{}\n", "x".repeat(999));
        for _ in 0..5_000 {
            file.write_all(line.as_bytes()).unwrap();
        }
        let mut log = AccessLog::open(path.clone(), state.clone());
        let count = |log: &mut AccessLog| {
            let mut count = 0;
            while let Some(lines) = log.read().unwrap() {
                assert!(!lines.lost);
                count += lines.bytes.len() / 1000;
            }
            count
        };
        assert_eq!(count(&mut log), 5_000);
        log.settle(|_| false);
        assert!(!state.exists());
        log.settle(|_| true);
        let metadata = std::fs::metadata(&path).unwrap();
        assert!(metadata.len() == 5_000_000 && metadata.blocks() * 512 < 100_000, "{}", metadata.blocks());
        file.write_all(line.as_bytes()).unwrap();
        let mut again = AccessLog::open(path, state);
        assert_eq!((count(&mut log), count(&mut again)), (1, 1));
    }
}
