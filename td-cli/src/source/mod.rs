//! The source that is sent: a commit as git has it, or a folder as it lies there.

pub mod git;
mod pack;
mod tree;

pub use pack::{Sent, archive};
pub use tree::read_tree;

use std::path::{Path, PathBuf};

use magrathea_core::api::SourceInfo;

use crate::exit::Failure;

/// Which version of the folder is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Version {
    /// Send the working tree with its uncommitted changes rather than the HEAD commit
    #[arg(long)]
    pub dirty: bool,
}

/// A chosen source.
#[derive(Debug)]
pub struct Source {
    pub kind: Kind,
    /// What the gateway is told about it.
    pub info: SourceInfo,
    uncommitted: Option<git::Status>,
}

/// Where the files come from.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The part of a commit that lies below a folder.
    Commit { folder: PathBuf, commit: String },
    /// The files of a folder that no ignore file names.
    Folder { folder: PathBuf, repository: bool },
}

/// Chooses the source in `folder`: its HEAD commit, or the folder itself when it is in no repository or when asked.
pub fn choose(folder: &Path, version: Version) -> Result<Source, Failure> {
    let Some(head) = git::read_head(folder, version)? else {
        let kind = Kind::Folder { folder: folder.to_owned(), repository: false };
        return Ok(Source { kind, info: SourceInfo { dirty: true, ..SourceInfo::default() }, uncommitted: None });
    };
    let info = SourceInfo {
        branch: head.branch,
        commit: head.commit.clone(),
        message: head.message,
        author: head.author,
        dirty: version.dirty,
        ..SourceInfo::default()
    };
    let folder = folder.to_owned();
    Ok(match head.commit {
        Some(commit) if !version.dirty => {
            let uncommitted = git::Status::start(&folder);
            Source { kind: Kind::Commit { folder, commit }, info, uncommitted }
        }
        _ => Source { kind: Kind::Folder { folder, repository: true }, info, uncommitted: None },
    })
}

impl Source {
    /// How many changes of the working tree are not in the commit that is sent; asked of git while the upload runs.
    pub fn count_uncommitted(&mut self) -> usize {
        self.uncommitted.take().map_or(0, git::Status::count)
    }

    /// As in `commit 1a2b3c4 (main)` or `working tree`.
    pub fn describe(&self) -> String {
        match (&self.kind, &self.info.branch) {
            (Kind::Commit { commit, .. }, branch) => {
                let short = commit.get(..7).unwrap_or(commit);
                branch.as_ref().map_or(format!("commit {short}"), |branch| format!("commit {short} ({branch})"))
            }
            (Kind::Folder { repository: true, .. }, _) => "the working tree".into(),
            (Kind::Folder { folder, .. }, _) => format!("folder {}", folder.display()),
        }
    }
}
