//! The server's data folder.

use std::path::Path;

use anyhow::{Context, bail};

use super::Options;
use super::process::command;

/// Makes the data folder when there is none. It is made under another name and then renamed, so that one that was
/// interrupted is never taken for whole.
pub async fn ensure(binaries: &Path, options: &Options) -> anyhow::Result<()> {
    let data = options.data();
    if data.join("PG_VERSION").is_file() {
        return check_version(binaries, &data).await;
    }
    let new = options.folder.join("data.new");
    if new.exists() {
        std::fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    tracing::info!(folder = %data.display(), "making the database");
    // Nobody but the folder's owner reaches the socket, so that the socket's door is lock enough.
    let output = command(binaries, "initdb", options)
        .args(["--username=magrathea", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-instructions"])
        .arg("--pgdata")
        .arg(&new)
        .output()
        .await
        .context("cannot run initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    std::fs::rename(&new, &data).with_context(|| format!("cannot rename {}", new.display()))
}

/// PostgreSQL reads only data of its own major version.
async fn check_version(binaries: &Path, data: &Path) -> anyhow::Result<()> {
    let has = std::fs::read_to_string(data.join("PG_VERSION"))?;
    let output = tokio::process::Command::new(binaries.join("postgres")).arg("--version").output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = version.and_then(|v| v.split('.').next()).unwrap_or_default();
    if major != has.trim() {
        bail!(
            "the database in {} is of PostgreSQL {}, but only {major} is installed; install that version or convert \
             the folder with pg_upgrade",
            data.display(),
            has.trim(),
        );
    }
    Ok(())
}
