//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where Debian keeps them: one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder of `initdb` and `postgres`: Debian's newest version, else the first in the `PATH`.
pub fn find() -> anyhow::Result<PathBuf> {
    debian(Path::new(DEBIAN)).or_else(in_path).context(
        "PostgreSQL's programs initdb and postgres are neither below /usr/lib/postgresql nor in the PATH; \
         install the package postgresql, or give --database-url",
    )
}

fn complete(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

fn debian(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        complete(&folder).then_some((version, folder))
    });
    versions.max().map(|(_, folder)| folder)
}

fn in_path() -> Option<PathBuf> {
    let path = crate::config::search_path();
    std::env::split_paths(&path).find(|folder| complete(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_version_wins() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", vec!["initdb", "postgres"]), ("15", vec!["initdb", "postgres"]), ("17", vec![])]
        {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for program in programs {
                std::fs::write(bin.join(program), "").unwrap();
            }
        }
        assert_eq!(debian(root.path()), Some(root.path().join("15/bin")));
        assert_eq!(debian(&root.path().join("none")), None);
    }
}
