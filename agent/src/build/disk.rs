//! A build's disk: a sparse ext4 image per app, so that a build can fill its own disk and no other.

use std::path::{Path, PathBuf};

use magrathea_core::units::ByteSize;

use crate::fail::{Doing, Outcome, internal};
use crate::folders;
use crate::program::run_program;

/// The uid that builds run as.
pub const BUILDER: u32 = 199_999;

/// Less than this free counts as full.
const FULL: u64 = 64 << 10;

/// A mounted disk with the folders that a build sees.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    /// Kept between builds.
    pub cache: PathBuf,
    /// This build's alone.
    pub work: PathBuf,
}

impl Disk {
    /// Mounts an app's disk, with an empty work folder.
    pub async fn mount(builds: &Path, key: &str, size: ByteSize) -> Outcome<Self> {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(internal("a build's cache has no plain name"));
        }
        let (image, mount) = (builds.join(format!("{key}.ext4")), builds.join(key));
        release(&mount).await?;
        folders::make_folder(&mount, 0o700)?;
        // Another size is another disk: what it held was a cache.
        if std::fs::metadata(&image).map(|held| held.len()).ok() != Some(size.bytes()) {
            folders::remove_file(&image)?;
            let make = || std::fs::File::create(&image)?.set_len(size.bytes());
            make().doing(|| "making a build's disk".into())?;
            run_program("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", &image.to_string_lossy()]).await?;
        }
        let options = "loop,nosuid,nodev,noatime";
        run_program("mount", &["-o", options, &image.to_string_lossy(), &mount.to_string_lossy()]).await?;
        let disk = Disk { cache: mount.join("cache"), work: mount.join("work"), mount };
        disk.prepare().doing(|| "preparing a build's disk".into())?;
        Ok(disk)
    }

    fn prepare(&self) -> std::io::Result<()> {
        if self.work.exists() {
            std::fs::remove_dir_all(&self.work)?;
        }
        for folder in [&self.work, &self.cache, &self.cache.join("home")] {
            if !folder.exists() {
                std::fs::create_dir(folder)?;
            }
            std::os::unix::fs::lchown(folder, Some(BUILDER), Some(BUILDER))?;
        }
        Ok(())
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.mount).is_ok_and(|held| held.f_bavail * held.f_frsize < FULL || held.f_favail < 16)
    }

    /// Removes what a build left beside the cache, and unmounts. A cache that fills half the disk goes too.
    pub async fn release(self) -> Outcome<()> {
        let clean = || {
            std::fs::remove_dir_all(&self.work)?;
            let held = rustix::fs::statvfs(&self.mount)?;
            if held.f_bavail * 2 < held.f_blocks {
                std::fs::remove_dir_all(&self.cache)?;
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = clean() {
            tracing::warn!(%error, "a build's disk is not tidy");
        }
        release(&self.mount).await
    }
}

async fn release(mount: &Path) -> Outcome<()> {
    if mounted_below(mount).is_empty() {
        return Ok(());
    }
    run_program("umount", &["--lazy", &mount.to_string_lossy()]).await.map(|_| ())
}

/// Unmounts all disks below the folder.
pub async fn release_all(builds: &Path) -> Outcome<()> {
    for mount in mounted_below(builds) {
        release(&mount).await?;
    }
    Ok(())
}

/// Mount points at or below a folder.
fn mounted_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &str| line.split(' ').nth(4).map(|path| PathBuf::from(path.replace("\\040", " ")));
    table.lines().filter_map(point).filter(|path| path.starts_with(folder)).collect()
}
