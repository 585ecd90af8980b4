//! `measure`: the walk as a program of its own, which gives way to everything else, and may be killed without harm.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

use super::groups::Groups;
use super::walk::{self, Taken};
use crate::config::MeasureOptions;
use crate::fail::{Doing, Outcome, node};
use crate::storage::is_subvolume;

/// They wait for the disk, not for processors: with more of them the disk is asked for more at once.
const THREADS: usize = 16;
/// A tree that takes longer is not counted.
const LIMIT: Duration = Duration::from_secs(3600);

/// Counts a tree and writes what it takes, as JSON. A btrfs subvolume is not walked: the kernel knows.
pub async fn run_measure(options: &MeasureOptions) -> anyhow::Result<()> {
    if is_subvolume(&options.folder) {
        let bytes = Groups::default().referenced(&options.folder).await?;
        return print(&Taken { bytes, ..Taken::default() });
    }
    // Of the processes that could be ended for want of memory this one is the least loss.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    print(&walk::measure(&options.folder, options.threads.unwrap_or(THREADS))?)
}

fn print(taken: &Taken) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(taken)?)?;
    Ok(())
}

/// Has a process of its own count a tree, with nobody's disk time but what is left over.
pub async fn measure(folder: &Path) -> Outcome<Taken> {
    let doing = || format!("measuring {}", folder.display());
    let own = format!("/proc/{}/exe", std::process::id());
    let child = tokio::process::Command::new("ionice")
        .args(["-c", "3", "nice", "-n", "19", &own, "measure", "--folder"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .doing(doing)?;
    let output = match tokio::time::timeout(LIMIT, child.wait_with_output()).await {
        Ok(output) => output.doing(doing)?,
        Err(_) => return Err(node(format!("{}: no end after {} s", doing(), LIMIT.as_secs()))),
    };
    if !output.status.success() {
        return Err(node(format!("{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim())));
    }
    serde_json::from_slice(&output.stdout).doing(doing)
}
