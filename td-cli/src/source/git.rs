//! Questions to the real `git`.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::Version;
use crate::exit::{Exit, Failure};

/// Where a repository stands.
#[derive(Debug, Default)]
pub struct Head {
    /// None before the first commit.
    pub commit: Option<String>,
    /// None when detached.
    pub branch: Option<String>,
    pub message: Option<String>,
    pub author: Option<String>,
}

/// `git` in a folder, with answers in its own words and no lock taken.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
    command
}

/// The repository's HEAD; none when the folder is in no repository, or there is no git on this machine.
pub fn read_head(folder: &Path, version: Version) -> Result<Option<Head>, Failure> {
    let log = ["log", "-1", "--no-show-signature", "--format=%H%n%an <%ae>%n%s", "HEAD"];
    // Both questions at once: starting a program is most of what they cost.
    let log = match command(folder).args(log).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(log) => log,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::from(error).context("git cannot be started").into()),
    };
    let branch = command(folder).args(["symbolic-ref", "--quiet", "--short", "HEAD"]).output();
    let log = log.wait_with_output().context("git log")?;
    let branch = branch.ok().map(|output| text(&output.stdout)).filter(|branch| !branch.is_empty());
    if log.status.success() {
        let log = text(&log.stdout);
        let mut lines = log.lines().map(str::to_owned);
        let (commit, author, message) = (lines.next(), lines.next(), lines.next());
        return Ok(Some(Head { commit, branch, message, author }));
    }
    let error = text(&log.stderr);
    if error.contains("not a git repository") {
        return Ok(None);
    }
    // For a working tree git is only asked what to call it.
    if version.dirty {
        return Ok(Some(Head { branch, ..Head::default() }));
    }
    let hint = if branch.is_some() { "commit first, or send the working tree with --dirty" } else { "see git's words" };
    Err(Failure::say(Exit::Failed, format!("no commit to send: {error}")).hint(hint))
}

/// A running `git status`.
#[derive(Debug)]
pub struct Status(Child);

impl Status {
    pub fn start(folder: &Path) -> Option<Status> {
        let mut status = command(folder);
        status.args(["status", "--porcelain=v1", "--untracked-files=normal", "--", "."]);
        status.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok().map(Status)
    }

    /// How many paths differ from HEAD.
    pub fn count(self) -> usize {
        self.0.wait_with_output().map_or(0, |output| text(&output.stdout).lines().count())
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end().to_owned()
}
