//! The driver `btrfs`: a subvolume per instance with a qgroup that limits it, by btrfs-progs' own commands.

use std::path::Path;

use magrathea_core::units::ByteSize;

use crate::fail::{Doing, Outcome, node, with_hint};
use crate::program::run_program;

/// Makes the subvolume and sets its limit. Says whether it was missing.
pub async fn ensure_subvolume(path: &Path, quota: Option<ByteSize>) -> Outcome<bool> {
    let text = path.to_string_lossy();
    let missing = !path.exists();
    if missing {
        let base = path.parent().unwrap_or(path);
        crate::folders::make_folder(base, 0o711)?;
        run_program("btrfs", &["subvolume", "create", &text]).await.map_err(|error| {
            with_hint(error, "the cluster's storage.path must lie on a btrfs mount, or use driver: directory")
        })?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .doing(|| format!("making {text}"))?;
    } else if !is_subvolume(path) {
        return Err(with_hint(
            node(format!("{text} is a folder and not a subvolume")),
            "move its content into a subvolume of the same name",
        ));
    }
    // Enabling quotas that are enabled is fine.
    run_program("btrfs", &["quota", "enable", &text]).await?;
    let limit = quota.map_or_else(|| "none".to_owned(), |size| size.bytes().to_string());
    run_program("btrfs", &["qgroup", "limit", &limit, &text]).await?;
    Ok(missing)
}

/// Deletes the subvolume with what is in it. Kernels before 6.10 leave its quota group, which would only be in the way.
pub async fn remove_subvolume(path: &Path) -> Outcome<()> {
    let id = run_program("btrfs", &["inspect-internal", "rootid", &path.to_string_lossy()]).await;
    run_program("btrfs", &["subvolume", "delete", "--commit-after", &path.to_string_lossy()]).await?;
    if let (Ok(id), Some(above)) = (id, path.parent()) {
        let group = format!("0/{}", id.trim());
        // Refused while the kernel still clears the subvolume, and by a kernel that has taken the group along.
        let _ = run_program("btrfs", &["qgroup", "destroy", &group, &above.to_string_lossy()]).await;
    }
    Ok(())
}

/// Whether the folder is a subvolume of its own.
pub fn is_subvolume(path: &Path) -> bool {
    // As statfs(2) has it.
    const BTRFS: u64 = 0x9123_683e;
    // A subvolume's root always has this inode number.
    const ROOT_INODE: u64 = 256;
    let inode = std::fs::metadata(path).map(|held| std::os::unix::fs::MetadataExt::ino(&held));
    inode.is_ok_and(|inode| inode == ROOT_INODE)
        && rustix::fs::statfs(path).is_ok_and(|held| u64::try_from(held.f_type).is_ok_and(|kind| kind == BTRFS))
}

/// A file system of its own for a test.
#[cfg(test)]
pub mod testing {
    use super::*;

    pub struct Mounted(tempfile::TempDir);

    impl Mounted {
        /// None without root, a kernel with btrfs, or mkfs.btrfs.
        pub async fn new() -> Option<Self> {
            let mounted = Mounted(tempfile::tempdir().unwrap());
            let disk = mounted.0.path().join("disk");
            std::fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
            std::fs::create_dir(mounted.path()).unwrap();
            let (disk, at) = (disk.to_string_lossy(), mounted.path().to_string_lossy().into_owned());
            run_program("mkfs.btrfs", &["-q", &disk]).await.ok()?;
            run_program("mount", &["-o", "loop", &disk, &at]).await.ok()?;
            Some(mounted)
        }

        pub fn path(&self) -> std::path::PathBuf {
            self.0.path().join("mount")
        }

        pub async fn end(self) {
            run_program("umount", &[&self.path().to_string_lossy()]).await.unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::folder::ensure_owned_folder;

    /// Needs root, a kernel with btrfs and mkfs.btrfs; passes without them.
    #[tokio::test]
    async fn a_quota_is_held() {
        let Some(mounted) = testing::Mounted::new().await else { return };
        let instance = mounted.path().join("i0123456789ab");
        let outcome = async {
            assert!(ensure_subvolume(&instance, Some(ByteSize::mib(8))).await?);
            assert!(!ensure_subvolume(&instance, Some(ByteSize::mib(16))).await?);
            assert!(ensure_owned_folder(&instance, "uploads", 200_001)?);
            let write = |mib: usize| {
                let file = std::fs::File::create(instance.join("uploads/file"))?;
                std::io::Write::write_all(&mut &file, &vec![7_u8; mib << 20])?;
                file.sync_all()
            };
            assert!(write(4).is_ok());
            assert!(write(32).is_err(), "the quota is a hard one");
            remove_subvolume(&instance).await
        };
        let outcome: Outcome<()> = outcome.await;
        mounted.end().await;
        outcome.unwrap();
    }
}
