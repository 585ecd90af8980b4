//! What a btrfs subvolume takes: the kernel keeps count of it in the subvolume's quota group, and tells it in a file.

use std::collections::HashMap;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fail::{Doing, Outcome, node};
use crate::program::run_program;

const KERNEL: &str = "/sys/fs/btrfs";

/// Where the kernel tells what each subvolume takes. Asked for once: a program is run for it.
#[derive(Debug, Default)]
pub struct Groups {
    /// By folder, with the device number under which it was seen: another one is another subvolume.
    files: HashMap<PathBuf, (u64, PathBuf)>,
}

impl Groups {
    /// Bytes that the subvolume refers to, as of the file system's last commit: up to 30 s ago.
    pub async fn referenced(&mut self, subvolume: &Path) -> Outcome<u64> {
        let doing = || format!("reading what {} takes", subvolume.display());
        let device = std::fs::metadata(subvolume).doing(doing)?.st_dev();
        let file = match self.files.get(subvolume) {
            Some((seen, file)) if *seen == device => file.clone(),
            _ => {
                let file = find_group(subvolume).await?;
                self.files.insert(subvolume.to_owned(), (device, file.clone()));
                file
            }
        };
        let read = || {
            // The kernel says so when it has lost count, as after a snapshot with groups of its own.
            let group = file.parent().and_then(Path::parent);
            let lost = group.and_then(|groups| std::fs::read_to_string(groups.join("inconsistent")).ok());
            if lost.is_some_and(|lost| lost.trim() != "0") {
                return Err(std::io::Error::other("the quota groups are inconsistent: btrfs quota rescan"));
            }
            let text = std::fs::read_to_string(&file)?;
            text.trim().parse().map_err(|_| std::io::Error::other("the kernel says something else"))
        };
        let outcome = read();
        if outcome.is_err() {
            self.files.remove(subvolume);
        }
        outcome.doing(doing)
    }

    /// Forgets what is not among these.
    pub fn retain(&mut self, is_there: impl Fn(&Path) -> bool) {
        self.files.retain(|folder, _| is_there(folder));
    }
}

async fn find_group(subvolume: &Path) -> Outcome<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(|| "reading what is mounted".into())?;
    let device = device_of(&mounts, subvolume).and_then(|device| std::fs::canonicalize(device).ok());
    let known = std::fs::read_dir(KERNEL).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_on = |system: &PathBuf| {
        let name = device.as_deref().and_then(Path::file_name);
        name.is_some_and(|name| system.join("devices").join(name).exists())
    };
    let system = known.into_iter().find(is_on).ok_or_else(|| {
        node(format!("the kernel does not tell of the btrfs file system that {} is on", subvolume.display()))
    })?;
    let id = run_program("btrfs", &["inspect-internal", "rootid", &subvolume.to_string_lossy()]).await?;
    Ok(system.join("qgroups").join(format!("0_{}", id.trim())).join("referenced"))
}

/// The device of the btrfs mount that a path lies on, as proc_pid_mountinfo(5) has it.
fn device_of(mounts: &str, path: &Path) -> Option<PathBuf> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = PathBuf::from(left.split(' ').nth(4)?.replace("\\040", " "));
        let mut right = right.split(' ');
        let (kind, device) = (right.next()?, right.next()?);
        path.starts_with(&point).then(|| (point.as_os_str().len(), kind == "btrfs", PathBuf::from(device)))
    };
    // The last of those that are mounted at the same place is the one that is seen.
    let (_, is_btrfs, device) = mounts.lines().filter_map(mount).max_by_key(|(length, ..)| *length)?;
    is_btrfs.then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::btrfs::testing::Mounted;
    use crate::storage::is_subvolume;

    #[test]
    fn the_device_of_a_path_is_found() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:40 / /srv/my\\040data rw,noatime shared:1 - btrfs /dev/vdb rw,subvol=/\n\
                      31 30 0:41 / /srv/my\\040data/x rw - tmpfs none rw\n";
        for (path, expect) in
            [("/srv/my data/i0", Some("/dev/vdb")), ("/srv/my data/x/i0", None), ("/srv/other", None), ("/", None)]
        {
            assert_eq!(device_of(mounts, Path::new(path)).as_deref(), expect.map(Path::new), "{path}");
        }
    }

    /// Needs root, a kernel with btrfs and mkfs.btrfs; passes without them.
    #[tokio::test]
    async fn the_kernel_tells_what_a_subvolume_takes() {
        let Some(mounted) = Mounted::new().await else { return };
        let mount = mounted.path();
        let at = mount.to_string_lossy().into_owned();
        let subvolume = mount.join("i0123456789ab");
        let path = subvolume.to_string_lossy().into_owned();
        let outcome = async {
            run_program("btrfs", &["subvolume", "create", &path]).await?;
            run_program("btrfs", &["quota", "enable", &at]).await?;
            assert!(is_subvolume(&subvolume) && !is_subvolume(&std::env::temp_dir()));
            std::fs::write(subvolume.join("file"), vec![7; 8 << 20]).unwrap();
            run_program("sync", &["-f", &path]).await?;
            let mut groups = Groups::default();
            let taken = groups.referenced(&subvolume).await?;
            assert!((8 << 20..9 << 20).contains(&taken), "{taken}");
            let began = std::time::Instant::now();
            for _ in 0..100 {
                assert_eq!(groups.referenced(&subvolume).await?, taken);
            }
            assert!(began.elapsed().as_millis() < 1000, "{:?}", began.elapsed());
            assert!(groups.referenced(&mount.join("nothing")).await.is_err());
            Ok(())
        };
        let outcome: Outcome<()> = outcome.await;
        mounted.end().await;
        outcome.unwrap();
    }
}
