//! The driver `directory`: plain folders on any mount. An instance writes below its mounts, so nothing here follows a
//! link that it could have planted.

use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::fail::{Doing, Outcome};

/// The mode of a mount: its owner's alone.
const MOUNT_MODE: u32 = 0o750;

/// Makes the instance's folder, which stays root's. Says whether it was missing.
pub fn ensure_root_folder(path: &Path) -> Outcome<bool> {
    let missing = !path.exists();
    crate::folders::make_folder(path, 0o711)?;
    Ok(missing)
}

/// Makes a mount in the instance's folder and gives it to the instance's user. Says whether anything was to be done.
pub fn ensure_owned_folder(instance: &Path, name: &str, uid: u32) -> Outcome<bool> {
    let doing = || format!("making {}", instance.join(name).display());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent = rustix::fs::open(instance, flags | OFlags::RDONLY, Mode::empty()).doing(doing)?;
    let made = match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(MOUNT_MODE)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(error).doing(doing),
    };
    let folder = rustix::fs::openat(&parent, name, flags | OFlags::RDONLY, Mode::empty()).doing(doing)?;
    let held = rustix::fs::fstat(&folder).doing(doing)?;
    if !made && held.st_uid == uid && held.st_gid == uid {
        return Ok(false);
    }
    rustix::fs::fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).doing(doing)?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(MOUNT_MODE)).doing(doing)?;
    Ok(true)
}

/// Makes an empty file beside the mounts.
pub fn make_marker(instance: &Path, name: &str) -> Outcome<()> {
    let doing = || format!("making {}", instance.join(name).display());
    let parent =
        rustix::fs::open(instance, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map(|_| ()).doing(doing)
}

/// Whether the marker is there.
pub fn has_marker(instance: &Path, name: &str) -> bool {
    let Ok(parent) = rustix::fs::open(instance, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return false;
    };
    rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// The names of the markers that begin so.
pub fn markers(instance: &Path, start: &str) -> Vec<String> {
    let names = std::fs::read_dir(instance).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(start)).collect()
}

/// Removes an empty file beside the mounts.
pub fn remove_marker(instance: &Path, name: &str) -> Outcome<()> {
    crate::folders::remove_file(&instance.join(name)).map(|_| ())
}

/// Removes an instance's folder. The standard library's removal opens every step without following links.
pub fn remove_folder(path: &Path) -> Outcome<()> {
    std::fs::remove_dir_all(path).doing(|| format!("removing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), base.path().join("uploads")).unwrap();
        assert!(ensure_owned_folder(base.path(), "uploads", 200_001).is_err());
    }
}
