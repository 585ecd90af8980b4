//! A working copy of a test's own and the real git, over HTTPS or SSH, with nothing of whoever runs the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Ended, Lab, run};

/// A repository on the branch `main`.
pub struct Repo {
    lab: Lab,
    folder: tempfile::TempDir,
    /// What git is to run for SSH.
    pub ssh: Option<String>,
}

impl Repo {
    pub fn new(lab: &Lab) -> Repo {
        let repo = Repo { lab: lab.clone(), folder: tempfile::tempdir().unwrap(), ssh: None };
        std::fs::create_dir(repo.path()).unwrap();
        repo.git(&["init", "--quiet", "--initial-branch=main"]).ok();
        repo
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A folder beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; folders are made.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Commits everything.
    pub fn commit(&self) -> String {
        self.git(&["add", "--all"]).ok();
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"]).ok();
        self.git(&["rev-parse", "HEAD"]).ok().stdout.trim().to_owned()
    }

    /// td in this folder, with a home of its own.
    pub fn td(&self, args: &[&str]) -> Ended {
        run(self.lab.td_command(&self.path(), args).env("HOME", self.folder.path()))
    }

    /// Links it to the app over HTTPS.
    pub fn link(&self, app: &str) -> &Self {
        self.td(&["app", "link", app, "--https"]).ok();
        self
    }

    pub fn git(&self, args: &[&str]) -> Ended {
        run(&mut self.command(&self.path(), args))
    }

    /// A command of git's, not yet started.
    pub fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(args).current_dir(folder).env("HOME", self.folder.path()).env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C").env("no_proxy", "*").env_remove("TD_CONFIG_DIR");
        // Overrules what the repository's configuration says.
        command.env_remove("GIT_SSL_CAINFO");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.com");
        }
        if let Some(ssh) = &self.ssh {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        command
    }

    /// `git push magrathea BRANCH`.
    pub fn push(&self, branch: &str) -> Ended {
        self.git(&["push", "magrathea", branch])
    }

    /// The same, left running in a process group of its own, as a shell would.
    pub fn begin_push(&self, branch: &str) -> Child {
        use std::os::unix::process::CommandExt;
        let mut push = self.command(&self.path(), &["push", "magrathea", branch]);
        push.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
    }

    /// Where a branch of the app's repository is.
    pub fn remote(&self, branch: &str) -> Option<String> {
        let said = self.git(&["ls-remote", "magrathea", &format!("refs/heads/{branch}")]).ok().stdout;
        said.split_whitespace().next().map(str::to_owned)
    }
}
