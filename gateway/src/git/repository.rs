//! Bare repositories on disk: made when first asked for, tidied of what killed processes left, one decision at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use tokio::sync::{OnceCell, OwnedMutexGuard};

use super::command::git;
use crate::lock::locked;

/// An app's repository. Nothing but git and [`super::inspect`] reads what is in it.
pub struct Repository {
    pub path: PathBuf,
    ready: OnceCell<()>,
    /// Bytes on disk, as last counted.
    size: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Who has the turn, and since when.
    holder: Arc<Mutex<Option<String>>>,
    use_: Mutex<Use>,
}

#[derive(Default)]
struct Use {
    processes: usize,
    /// A process was killed: it may have left locks, and what it had received.
    dirty: bool,
}

/// Proof that no other push of the app is being decided or carried out.
pub struct Turn {
    holder: Arc<Mutex<Option<String>>>,
    _guard: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        *locked(&self.holder) = None;
    }
}

/// Counts a process that works in the repository.
pub struct InUse(Arc<Repository>);

impl InUse {
    /// Notes that the process was killed.
    pub fn spoil(&self) {
        self.0.usage().dirty = true;
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.processes -= 1;
        self.0.clean(&mut usage);
    }
}

impl Repository {
    pub fn new(path: PathBuf) -> Self {
        Repository {
            path,
            ready: OnceCell::new(),
            size: AtomicU64::new(0),
            turn: Arc::default(),
            holder: Arc::default(),
            use_: Mutex::default(),
        }
    }

    /// Makes the repository unless it is there, and tidies it once per process.
    pub async fn prepare(&self, base: &Path) -> anyhow::Result<()> {
        let prepared = self.ready.get_or_try_init(|| async {
            if !tokio::fs::try_exists(&self.path).await? {
                create(base, &self.path).await?;
            }
            let path = self.path.clone();
            let size = tokio::task::spawn_blocking(move || {
                // Processes of an earlier gateway may still run; without it their pushes are refused in any case.
                remove_leftovers(&path);
                measure(&path)
            });
            self.size.store(size.await?, Ordering::Relaxed);
            anyhow::Ok(())
        });
        prepared.await.map(|_| ())
    }

    fn usage(&self) -> std::sync::MutexGuard<'_, Use> {
        // Two plain values: a poisoned lock still guards good ones.
        locked(&self.use_)
    }

    /// Begins a process's work.
    pub fn enter(self: &Arc<Self>) -> InUse {
        self.usage().processes += 1;
        InUse(Arc::clone(self))
    }

    /// Takes away what killed processes left, once none works in the repository.
    fn clean(&self, usage: &mut Use) {
        if usage.dirty && usage.processes == 0 {
            remove_leftovers(&self.path);
            usage.dirty = false;
        }
    }

    /// Bytes on disk, as last counted.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Counts them.
    pub async fn count(&self) -> anyhow::Result<u64> {
        let path = self.path.clone();
        let size = tokio::task::spawn_blocking(move || measure(&path)).await?;
        self.size.store(size, Ordering::Relaxed);
        Ok(size)
    }

    /// Who decides now, as in `ada since 12:00:03`.
    pub fn holder(&self) -> Option<String> {
        locked(&self.holder).clone()
    }

    /// Waits until no other push is being decided.
    pub async fn take_turn(&self, who: &str) -> Turn {
        let guard = Arc::clone(&self.turn).lock_owned().await;
        let since = jiff::Timestamp::now().strftime("%H:%M:%S UTC");
        *locked(&self.holder) = Some(format!("{who} since {since}"));
        Turn { holder: Arc::clone(&self.holder), _guard: guard }
    }

    /// Packs what has become many loose objects, and counts what the repository takes.
    pub async fn tidy(self: Arc<Self>, base: PathBuf) -> anyhow::Result<()> {
        let inside = self.enter();
        let status = git(&base, &["gc", "--auto", "--quiet"]).env("GIT_DIR", &self.path).status().await?;
        drop(inside);
        self.count().await?;
        if !status.success() {
            bail!("git gc of {} ended with {status}", self.path.display());
        }
        Ok(())
    }
}

/// Makes the repository beside its place, so that it is there as a whole or not at all.
async fn create(base: &Path, path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("a repository has a parent folder")?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).context("cannot make a repository")?;
    let mut init = git(base, &["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]);
    let output = init.arg(new.path()).stderr(std::process::Stdio::piped()).output().await.context("cannot run git")?;
    if !output.status.success() {
        bail!("git init: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    match std::fs::rename(new.path(), path) {
        Ok(()) => {
            let _ = new.keep();
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}

/// Takes away what killed processes leave: locks, and objects that no push was accepted for.
fn remove_leftovers(path: &Path) {
    let objects = path.join("objects");
    for entry in entries(&objects).chain(entries(&objects.join("pack"))) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ["tmp_objdir-", "incoming-", "tmp_pack_", "tmp_idx_", "tmp_rev_"].iter().any(|p| name.starts_with(p)) {
            tracing::info!(path = %entry.path().display(), "removing what a killed git left");
            let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
        }
    }
    remove_locks(path, 0);
}

fn remove_locks(folder: &Path, depth: usize) {
    for entry in entries(folder) {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() && (depth > 0 || name == "refs" || name == "logs") {
            remove_locks(&entry.path(), depth + 1);
        } else if kind.is_file() && name.to_string_lossy().ends_with(".lock") {
            tracing::info!(path = %entry.path().display(), "removing the lock of a killed git");
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Bytes of all files below a folder.
fn measure(folder: &Path) -> u64 {
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => measure(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries(folder).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repository_is_made_once_and_tidied() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a.git");
        let make = || Arc::new(Repository::new(path.clone()));
        make().prepare(base.path()).await.unwrap();
        for left in ["objects/tmp_objdir-incoming-x", "refs/heads/deep"] {
            std::fs::create_dir_all(path.join(left)).unwrap();
        }
        for left in
            ["objects/tmp_objdir-incoming-x/y", "objects/pack/tmp_pack_1", "refs/heads/deep/main.lock", "HEAD.lock"]
        {
            std::fs::create_dir_all(path.join(left).parent().unwrap()).unwrap();
            std::fs::write(path.join(left), "x").unwrap();
        }
        let repository = make();
        repository.prepare(base.path()).await.unwrap();
        for left in
            ["objects/tmp_objdir-incoming-x", "objects/pack/tmp_pack_1", "refs/heads/deep/main.lock", "HEAD.lock"]
        {
            assert!(!path.join(left).exists(), "{left}");
        }
        assert_eq!(std::fs::read_to_string(path.join("HEAD")).unwrap(), "ref: refs/heads/main\n");

        // Locks go when nobody works in the repository any more.
        let (first, second) = (repository.enter(), repository.enter());
        std::fs::write(path.join("packed-refs.lock"), "").unwrap();
        first.spoil();
        drop(first);
        drop(repository.enter());
        assert!(path.join("packed-refs.lock").exists());
        drop(second);
        assert!(!path.join("packed-refs.lock").exists());
        Arc::clone(&repository).tidy(base.path().into()).await.unwrap();
        assert!(repository.size() > 50);
    }

    #[tokio::test]
    async fn there_is_one_turn() {
        let repository = Repository::new("/nowhere".into());
        let turn = repository.take_turn("ada").await;
        assert!(repository.holder().unwrap().starts_with("ada since "));
        let wait = tokio::time::timeout(std::time::Duration::from_millis(20), repository.take_turn("bob")).await;
        assert!(wait.is_err());
        drop(turn);
        assert_eq!(repository.holder(), None);
        drop(repository.take_turn("bob").await);
    }
}
