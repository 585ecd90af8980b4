//! Repositories of apps: `git push` deploys, `git clone` and `git fetch` read.
//!
//! The real `git receive-pack` and `git upload-pack` speak with the client (`serve`). Before references move, receive-pack
//! runs this program as its `pre-receive` hook (`hook`), which asks the gateway over a socket (`desk`). The gateway judges
//! what is in quarantine (`inspect`, `update`) and, when a label follows the branch, deploys it (`decide`): the push is
//! accepted when the new release serves. Git itself is never given a configuration that somebody else wrote (`command`).

mod archive;
mod bounds;
mod command;
mod decide;
mod desk;
pub mod hook;
mod inspect;
mod limits;
mod lines;
mod push;
mod repository;
mod request;
mod serve;
#[cfg(test)]
mod tests;
mod update;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use magrathea_core::names::AppId;
use tokio::sync::Semaphore;

pub use desk::start;
pub use request::{GitRequest, LFS, RequestError, Service, parse_repository};
pub use serve::{GitIo, Mode, Session, open, serve};

use crate::lock::locked;
pub use limits::Limits;
use push::Push;
use repository::Repository;

/// Git's part of the gateway's state.
pub struct Git {
    /// The folder of the hooks, the socket and git's empty home.
    base: PathBuf,
    repositories: PathBuf,
    known: Mutex<HashMap<AppId, Arc<Repository>>>,
    /// Pushes under way, by the id that their processes prove themselves with.
    pushes: Mutex<HashMap<String, Arc<Push>>>,
    slots: Arc<Semaphore>,
    pub limits: Limits,
}

impl Git {
    /// Prepares the folders. `hook` is the command that becomes the `pre-receive` hook.
    pub fn open(data: &Path, hook: &[OsString]) -> anyhow::Result<Self> {
        let data = std::path::absolute(data)?;
        let git = Git {
            base: data.join("git"),
            repositories: data.join("repositories"),
            known: Mutex::default(),
            pushes: Mutex::default(),
            slots: Arc::new(Semaphore::new(limits::AT_ONCE)),
            limits: Limits::default(),
        };
        for folder in [git.base.clone(), git.base.join("home"), git.base.join("hooks"), git.repositories.clone()] {
            crate::files::private_folder(&folder)?;
        }
        let words: Vec<String> = hook.iter().map(|word| quote(&word.to_string_lossy())).collect();
        // The hook speaks on its standard error alone, and finds all it needs in its environment.
        let script = format!("#!/bin/sh\nexec {} >/dev/null\n", words.join(" "));
        crate::files::write(&git.base.join("hooks/pre-receive"), 0o700, script.as_bytes())?;
        for left in std::fs::read_dir(&git.repositories).context("cannot read the repositories' folder")?.flatten() {
            if left.file_name().to_string_lossy().starts_with('.') {
                let _ = std::fs::remove_dir_all(left.path());
            }
        }
        Ok(git)
    }

    /// The command that asks this gateway about a push.
    pub fn hook_command() -> anyhow::Result<Vec<OsString>> {
        let program = std::env::current_exe().context("cannot find the gateway's own program")?;
        // In tests the program is the tests themselves, one of which acts as the hook.
        let words: &[&str] = if cfg!(test) {
            &["--exact", "git::tests::acts_as_hook", "--ignored", "--nocapture"]
        } else {
            &["hook", "pre-receive"]
        };
        Ok(std::iter::once(program.into_os_string()).chain(words.iter().map(OsString::from)).collect())
    }

    /// Takes an app's repository away; in the background, because it may be large.
    pub fn remove(&self, app: AppId) {
        locked(&self.known).remove(&app);
        let gone = self.repositories.join(format!(".gone-{app}"));
        // What cannot be removed now is removed at the next start.
        if std::fs::rename(self.path(app), &gone).is_ok() {
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(gone));
        }
    }

    fn base(&self) -> &Path {
        &self.base
    }

    fn path(&self, app: AppId) -> PathBuf {
        self.repositories.join(format!("{app}.git"))
    }

    async fn repository(&self, app: AppId) -> anyhow::Result<Arc<Repository>> {
        let repository = {
            let mut known = locked(&self.known);
            Arc::clone(known.entry(app).or_insert_with(|| Arc::new(Repository::new(self.path(app)))))
        };
        repository.prepare(&self.base).await?;
        Ok(repository)
    }

    fn push(&self, id: &str) -> Option<Arc<Push>> {
        locked(&self.pushes).get(id).cloned()
    }
}

/// A word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
