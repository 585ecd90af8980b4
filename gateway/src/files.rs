//! Small files that must be whole or absent.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

/// Writes a file with these permission bits in one step: readers see the old content or the new one.
pub fn write(path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = || format!("cannot write {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .with_context(fail)?;
    file.write_all(content).with_context(fail)?;
    file.as_file().sync_all().with_context(fail)?;
    file.persist(path).with_context(fail)?;
    Ok(())
}

/// Makes a folder that only its owner can enter, and closes one that others could.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    let fail = || format!("cannot make the folder {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).with_context(fail)
}
