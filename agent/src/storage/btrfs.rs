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
    } else if !is_subvolume(path).await {
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
pub async fn is_subvolume(path: &Path) -> bool {
    // A subvolume's root always has this inode number.
    const ROOT_INODE: u64 = 256;
    let inode = std::fs::metadata(path).map(|held| std::os::unix::fs::MetadataExt::ino(&held));
    inode.is_ok_and(|inode| inode == ROOT_INODE)
        && run_program("btrfs", &["subvolume", "show", &path.to_string_lossy()]).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::folder::ensure_owned_folder;

    /// Needs root, a kernel with btrfs and mkfs.btrfs; passes without them.
    #[tokio::test]
    async fn a_quota_is_held() {
        let base = tempfile::tempdir().unwrap();
        let (disk, mount) = (base.path().join("disk"), base.path().join("mount"));
        std::fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let (disk, at) = (disk.to_string_lossy().into_owned(), mount.to_string_lossy().into_owned());
        if run_program("mkfs.btrfs", &["-q", &disk]).await.is_err()
            || run_program("mount", &["-o", "loop", &disk, &at]).await.is_err()
        {
            return;
        }
        let instance = mount.join("i0123456789ab");
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
        run_program("umount", &[&at]).await.unwrap();
        outcome.unwrap();
    }
}
