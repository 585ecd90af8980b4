//! A gateway that serves git, and people's clones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use magrathea_core::names::AppName;
use rustix::process::Signal;
use tokio::process::Command;

use crate::engine::tests::world::{World, app};
use crate::git::Limits;
use crate::listen::Listener;
use crate::services::apps::create_app;

pub struct Forge {
    pub world: World,
    port: u16,
    ca: tempfile::NamedTempFile,
}

/// How a command of git's ended.
#[derive(Debug)]
pub struct Ended {
    pub ok: bool,
    /// What git said, without `remote: ` and trailing blanks.
    pub said: String,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.ok, "{}", self.said);
        self.said
    }

    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.ok, "{}", self.said);
        self.said
    }
}

impl Forge {
    /// With the app `blog`.
    pub async fn new() -> Forge {
        Forge::with(Limits::default()).await
    }

    /// With other limits, until it is restarted.
    pub async fn with(limits: Limits) -> Forge {
        let world = World::with(|state| state.git.limits = limits).await;
        let state = world.state();
        create_app(&state.db, &world.test.admin, world.test.admin.organisation, &app()).await.unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), state.pki.ca_pem()).unwrap();
        let mut forge = Forge { world, port: 0, ca };
        forge.listen().await;
        forge
    }

    async fn listen(&mut self) {
        let state = self.world.state();
        super::super::start(state).unwrap();
        let names = ["127.0.0.1".to_owned()];
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        let listener = Listener::bind(address, state.pki.api_config(&names).unwrap()).await.unwrap();
        self.port = listener.address().unwrap().port();
        let router = crate::api::router(Arc::clone(state));
        state.tasks.spawn(listener.serve(router, state.tasks.clone(), state.shutdown.clone()));
    }

    /// Kills the gateway, as far as that can be done in one process, and starts it again.
    pub async fn restart(&mut self) {
        self.restart_with(Limits::default()).await;
    }

    pub async fn restart_with(&mut self, limits: Limits) {
        self.world.restart_with(|state| state.git.limits = limits).await;
        self.listen().await;
    }

    /// Bytes of the app's repository, as the gateway has counted them.
    pub async fn size(&self) -> u64 {
        let conn = self.world.state().db.conn().await.unwrap();
        let app = crate::db::apps::load_app(&conn, &app()).await.unwrap().unwrap();
        self.world.state().git.repository(app.id).await.unwrap().size()
    }

    pub fn url(&self, token: &str, path: &str) -> String {
        format!("https://anybody:{token}@127.0.0.1:{}/git/{path}", self.port)
    }

    /// A folder with a repository on the branch `main` whose remote is the app's.
    pub async fn clone_of(&self, token: &str) -> Clone {
        let clone = Clone { folder: tempfile::tempdir().unwrap(), ca: self.ca.path().to_owned() };
        clone.git(&["init", "--quiet", "--initial-branch=main"]).await.ok();
        // Where tests put clones of their own.
        std::fs::write(clone.path().join(".git/info/exclude"), "/clones\n").unwrap();
        clone.git(&["remote", "add", "magrathea", &self.url(token, "blog.git")]).await.ok();
        clone
    }

    /// The administrator's.
    pub async fn clone(&self) -> Clone {
        self.clone_of(&self.world.test.token).await
    }

    pub async fn repository(&self) -> PathBuf {
        let name: AppName = app();
        let conn = self.world.state().db.conn().await.unwrap();
        let app = crate::db::apps::load_app(&conn, &name).await.unwrap().unwrap();
        self.world.state().git.path(app.id)
    }

    /// How pushes and fetches ended, as the timeline has it, the newest last.
    pub async fn outcomes(&self) -> Vec<String> {
        let conn = self.world.state().db.conn().await.unwrap();
        let sql = "SELECT message FROM timeline WHERE action IN ('push.closed', 'fetch.closed') ORDER BY id";
        let rows = conn.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    /// A reference of the app's repository.
    pub async fn reference(&self, name: &str) -> Option<String> {
        let repository = git2::Repository::open_bare(self.repository().await).unwrap();
        let found = repository.find_reference(name).ok()?;
        Some(found.target()?.to_string())
    }

    /// What `git fsck` says of the app's repository, and what is in its folder of objects that should not be.
    pub async fn flaws(&self) -> String {
        let path = self.repository().await;
        let fsck = git(self.ca.path(), &path, &["fsck", "--full", "--strict", "--no-dangling"]).await;
        let left = std::fs::read_dir(path.join("objects")).unwrap().flatten();
        let left =
            left.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.contains("tmp"));
        let said: String = fsck.said.lines().filter(|line| !line.starts_with("notice: ")).collect();
        format!("{said}{}", left.collect::<Vec<_>>().join(" "))
    }
}

pub struct Clone {
    folder: tempfile::TempDir,
    ca: PathBuf,
}

impl Clone {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub async fn git(&self, arguments: &[&str]) -> Ended {
        git(&self.ca, self.path(), arguments).await
    }

    /// Writes files and commits them all; the commit.
    pub async fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "--all"]).await.ok();
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"]).await.ok();
        self.git(&["rev-parse", "HEAD"]).await.ok().trim().to_owned()
    }

    /// Begins a push in a process group of its own, as a shell does.
    pub fn begin_push(&self, branch: &str) -> Begun {
        let mut push = command(&self.ca, self.path(), &["push", "magrathea", branch]);
        Begun(push.process_group(0).stderr(std::process::Stdio::piped()).spawn().unwrap())
    }

    pub async fn push(&self, arguments: &[&str]) -> Ended {
        let mut all = vec!["push", "magrathea"];
        all.extend(arguments);
        self.git(&all).await
    }
}

/// A push under way.
pub struct Begun(tokio::process::Child);

impl Begun {
    /// As Ctrl-C does.
    pub async fn interrupt(mut self) {
        self.signal(Signal::INT);
        assert!(!self.0.wait().await.unwrap().success());
    }

    pub fn signal(&self, signal: Signal) {
        let group = rustix::process::Pid::from_raw(self.0.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn said(self) -> Ended {
        ended(self.0.wait_with_output().await.unwrap())
    }

    /// Whether it succeeded.
    pub async fn end(mut self) -> bool {
        self.0.wait().await.unwrap().success()
    }
}

fn command(ca: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(folder).kill_on_drop(true).env_clear();
    command.env("PATH", crate::config::search_path()).env("HOME", "/nonexistent").env("LC_ALL", "C");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("GIT_SSL_CAINFO", ca);
    command.env("GIT_AUTHOR_NAME", "Ada").env("GIT_AUTHOR_EMAIL", "ada@example.com");
    command.env("GIT_COMMITTER_NAME", "Ada").env("GIT_COMMITTER_EMAIL", "ada@example.com");
    command.env("no_proxy", "*");
    command
}

async fn git(ca: &Path, folder: &Path, arguments: &[&str]) -> Ended {
    ended(command(ca, folder, arguments).output().await.unwrap())
}

fn ended(output: std::process::Output) -> Ended {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(|line| line.strip_prefix("remote: ").unwrap_or(line).trim_end());
    Ended { ok: output.status.success(), said: lines.map(|line| format!("{line}\n")).collect() }
}
