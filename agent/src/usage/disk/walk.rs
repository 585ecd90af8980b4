//! How much of a disk a tree takes, counted by several threads. Nothing in the tree is trusted: links are not followed, what is
//! mounted in it is not entered, a file with several names counts once, and what vanishes meanwhile is nothing. Memory and
//! open files are bounded, whatever the tree is.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Names of a folder that are read, put in the order of their inodes and looked up together: as they lie on the disk.
const BATCH: usize = 4096;
/// Batches of large folders that wait for another thread.
const MOST_BATCHES: usize = 64;
/// Folders that wait to be read; a tree in which more come together is not counted whole.
const MOST_FOLDERS: usize = 1 << 20;
/// Files with several names that are remembered; of further ones each name counts as its share.
const MOST_LINKED: usize = 1 << 20;
/// For the names of folders, as the kernel gives them.
const BUFFER: usize = 256 << 10;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Disk space: blocks and not lengths, so that a file with holes counts as what it takes.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
    /// Files and folders that could not be looked at: there is more than was counted.
    pub left_out: u64,
}

impl Taken {
    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries += 1;
    }

    /// What is gone, or became something else, takes nothing.
    fn miss(&mut self, error: Errno) {
        if !matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            self.left_out += 1;
        }
    }
}

/// Counts a tree, its own folder included.
pub fn measure(root: &Path, threads: usize) -> std::io::Result<Taken> {
    let folder = open(CWD, root)?;
    let device = rustix::fs::fstat(&folder)?.st_dev;
    let walk = Walk { device, work: Mutex::default(), wake: Condvar::new(), linked: Mutex::default() };
    walk.work().waiting.push(Item::Folder(Arc::new(folder), c".".to_owned()));
    let mut taken = Taken::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| walk.run())).collect();
        for worker in workers {
            let part = worker.join().map_err(|_| std::io::Error::other("a thread ended abnormally"))?;
            taken.bytes = taken.bytes.saturating_add(part.bytes);
            taken.entries += part.entries;
            taken.left_out += part.left_out;
        }
        Ok(taken)
    })
}

struct Walk {
    device: u64,
    work: Mutex<Work>,
    wake: Condvar,
    /// Files with several names that were counted, by inode.
    linked: Mutex<HashSet<u64>>,
}

#[derive(Default)]
struct Work {
    /// The last one that came is the next: what waits stays little, and so do the folders that are held open for it.
    waiting: Vec<Item>,
    batches: usize,
    busy: usize,
}

enum Item {
    /// A folder by its name in another.
    Folder(Arc<OwnedFd>, CString),
    Files(Arc<OwnedFd>, Names),
}

impl Walk {
    fn run(&self) -> Taken {
        let mut taken = Taken::default();
        let mut buffer = Vec::with_capacity(BUFFER);
        while let Some(item) = self.next() {
            match item {
                Item::Folder(parent, name) => self.read(&parent, &name, &mut buffer, &mut taken),
                Item::Files(folder, names) => self.count(&folder, names, &mut taken),
            }
            self.end();
        }
        taken
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next; none when nothing is and nothing more can come.
    fn next(&self) -> Option<Item> {
        let mut work = self.work();
        loop {
            if let Some(item) = work.waiting.pop() {
                work.busy += 1;
                work.batches -= usize::from(matches!(item, Item::Files(..)));
                return Some(item);
            }
            if work.busy == 0 {
                return None;
            }
            work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        let mut work = self.work();
        work.busy -= 1;
        if work.busy == 0 && work.waiting.is_empty() {
            self.wake.notify_all();
        }
    }

    fn read(&self, parent: &OwnedFd, name: &CStr, buffer: &mut Vec<u8>, taken: &mut Taken) {
        let opened = open(parent, name).and_then(|folder| rustix::fs::fstat(&folder).map(|held| (folder, held)));
        let (folder, held) = match opened {
            Ok(opened) => opened,
            Err(error) => return taken.miss(error),
        };
        if held.st_dev != self.device {
            return;
        }
        taken.add(blocks(&held));
        let folder = Arc::new(folder);
        let (mut names, mut folders) = (Names::default(), Vec::new());
        let mut entries = RawDir::new(&*folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    taken.miss(error);
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match kind(&folder, name, entry.file_type()) {
                FileType::Directory => folders.push(name.to_owned()),
                _ => names.push(entry.ino(), name),
            }
            if folders.len() == BATCH {
                taken.left_out += self.hand_over(&folder, &mut folders);
            }
            if names.len() == BATCH {
                let full = std::mem::take(&mut names);
                if let Some(full) = self.offer(&folder, full) {
                    self.count(&folder, full, taken);
                }
            }
        }
        taken.left_out += self.hand_over(&folder, &mut folders);
        self.count(&folder, names, taken);
    }

    /// Has folders read; says how many were too many.
    fn hand_over(&self, parent: &Arc<OwnedFd>, folders: &mut Vec<CString>) -> u64 {
        if folders.is_empty() {
            return 0;
        }
        let mut work = self.work();
        let room = MOST_FOLDERS.saturating_sub(work.waiting.len()).min(folders.len());
        let beyond = folders.len() - room;
        work.waiting.extend(folders.drain(..).take(room).map(|name| Item::Folder(parent.clone(), name)));
        drop(work);
        self.wake.notify_all();
        beyond as u64
    }

    /// Has another thread count files, unless enough wait for one: then they come back.
    fn offer(&self, folder: &Arc<OwnedFd>, names: Names) -> Option<Names> {
        let mut work = self.work();
        if work.batches >= MOST_BATCHES {
            return Some(names);
        }
        work.batches += 1;
        work.waiting.push(Item::Files(folder.clone(), names));
        drop(work);
        self.wake.notify_one();
        None
    }

    fn count(&self, folder: &OwnedFd, names: Names, taken: &mut Taken) {
        names.each(|name| match stat(folder, name) {
            Ok(held) if FileType::from_raw_mode(held.st_mode) == FileType::Directory => {}
            Ok(held) => taken.add(self.share(&held)),
            Err(error) => taken.miss(error),
        });
    }

    /// What a file's name counts for.
    fn share(&self, held: &Stat) -> u64 {
        let bytes = blocks(held);
        if held.st_nlink <= 1 {
            return bytes;
        }
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if linked.contains(&held.st_ino) {
            return 0;
        }
        if linked.len() >= MOST_LINKED {
            let names = usize::try_from(held.st_nlink).unwrap_or(usize::MAX) as u64;
            return bytes.checked_div(names).unwrap_or(bytes);
        }
        linked.insert(held.st_ino);
        bytes
    }
}

/// Names of a folder's files, in one text.
#[derive(Default)]
struct Names {
    text: Vec<u8>,
    /// Inode and place in the text.
    places: Vec<(u64, usize)>,
}

impl Names {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn push(&mut self, inode: u64, name: &CStr) {
        self.places.push((inode, self.text.len()));
        self.text.extend_from_slice(name.to_bytes_with_nul());
    }

    fn each(mut self, mut with: impl FnMut(&CStr)) {
        self.places.sort_unstable();
        for (_, place) in &self.places {
            let name = self.text.get(*place..).and_then(|rest| CStr::from_bytes_until_nul(rest).ok());
            name.into_iter().for_each(&mut with);
        }
    }
}

/// A folder, and never what a link leads to. Its time of access stays.
fn open(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&parent, name, flags, Mode::empty()),
        opened => opened,
    }
}

fn stat(folder: &OwnedFd, name: &CStr) -> rustix::io::Result<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Some file systems do not say with the name what it is of.
fn kind(folder: &OwnedFd, name: &CStr, told: FileType) -> FileType {
    match told {
        FileType::Unknown => stat(folder, name).map_or(told, |held| FileType::from_raw_mode(held.st_mode)),
        told => told,
    }
}

fn blocks(held: &Stat) -> u64 {
    u64::try_from(held.st_blocks).unwrap_or_default().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn du(root: &Path) -> u64 {
        let said = std::process::Command::new("du").args(["-s", "-x", "--block-size=1"]).arg(root).output().unwrap();
        String::from_utf8(said.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    fn write(path: &Path, bytes: usize) {
        std::fs::write(path, vec![7; bytes]).unwrap();
    }

    #[test]
    fn what_du_counts_is_counted() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        for n in 0..3 * BATCH {
            write(&root.join(format!("file-{n}")), n % 3 * 3000);
        }
        for n in 0..50 {
            let folder = root.join(format!("a/b{n}/c"));
            std::fs::create_dir_all(&folder).unwrap();
            write(&folder.join("file"), 10_000);
        }
        // Names that are no text, holes, several names of one file, links to elsewhere and in a circle.
        write(&root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe\n")), 5000);
        std::fs::File::create(root.join("holes")).unwrap().set_len(1 << 30).unwrap();
        write(&root.join("linked"), 50_000);
        std::fs::hard_link(root.join("linked"), root.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("a/elsewhere")).unwrap();
        std::os::unix::fs::symlink(".", root.join("a/circle")).unwrap();
        for threads in [1, 4] {
            let taken = measure(root, threads).unwrap();
            assert_eq!((taken.bytes, taken.left_out), (du(root), 0), "{threads}");
            assert_eq!(taken.entries, 3 * BATCH as u64 + 50 * 3 + 2 + 6, "{threads}");
        }
    }

    #[test]
    fn a_tree_is_as_deep_as_it_likes() {
        let tree = tempfile::tempdir().unwrap();
        // Made step by step: no path reaches the last of them. Each has a second folder beside the next.
        let mut at = open(CWD, tree.path()).unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, "beside", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, "deeper", Mode::RWXU).unwrap();
            at = open(&at, "deeper").unwrap();
        }
        let taken = measure(tree.path(), 2).unwrap();
        assert_eq!((taken.entries, taken.left_out), (3001, 0));
    }

    #[test]
    fn what_vanishes_is_no_failure() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().to_owned();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for n in 0..100 {
                        let folder = root.join(format!("{n}"));
                        std::fs::create_dir(&folder).unwrap();
                        write(&folder.join("file"), 10);
                        std::fs::remove_dir_all(&folder).unwrap();
                    }
                }
            });
            for _ in 0..50 {
                assert_eq!(measure(&root, 4).unwrap().left_out, 0);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(measure(&root.join("nothing"), 1).is_err());
    }

    #[test]
    fn a_link_is_no_root() {
        let tree = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr", tree.path().join("link")).unwrap();
        assert!(measure(&tree.path().join("link"), 1).is_err());
    }
}
