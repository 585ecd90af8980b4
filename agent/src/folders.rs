//! The agent's folder: where everything it keeps lies, and how it is written.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use magrathea_core::plan::NodeFolder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fail::{Doing, Outcome};

/// The layout below `--data`.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

/// In bytes.
pub struct Disk {
    pub total: u64,
    pub free: u64,
}

impl Folders {
    pub fn new(root: &Path) -> Self {
        Folders { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk that the folder lies on.
    pub fn disk(&self) -> Outcome<Disk> {
        let held = rustix::fs::statvfs(&self.root).doing(|| "measuring the disk".into())?;
        Ok(Disk { total: held.f_blocks * held.f_frsize, free: held.f_bavail * held.f_frsize })
    }

    /// Key, certificate and CA.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// What a restarted node needs to know: routes, caches, what was made outside the folder.
    pub fn state(&self, name: &str) -> PathBuf {
        self.root.join("state").join(name)
    }

    /// Observations on their way to the gateway.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// What instances said.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Disks and sources of builds.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// An instance's storage.
    pub fn storage(&self, slug: &str, base: Option<&str>) -> PathBuf {
        base.map_or_else(|| self.root.join("storage"), PathBuf::from).join(slug)
    }

    /// A folder that layer services share with the agent.
    pub fn node(&self, folder: NodeFolder) -> PathBuf {
        let name = match folder {
            NodeFolder::Router => "router",
            NodeFolder::Sockets => "sockets",
            NodeFolder::RouterAdmin => "admin",
            NodeFolder::Varnish => "varnish",
            NodeFolder::Nginx => "nginx",
            NodeFolder::Mariadb => "mariadb",
        };
        self.root.join("node").join(name)
    }

    /// Makes all folders. Nobody but root enters the agent's folder from outside; containers see only what is mounted.
    pub fn prepare(&self) -> Outcome<()> {
        make_folder(&self.root, 0o700)?;
        for (folder, mode) in [
            (self.identity(), 0o700),
            (self.state("routes"), 0o700),
            (self.state("caches"), 0o700),
            (self.state("crossings"), 0o700),
            (self.state("storage"), 0o700),
            (self.state("databases"), 0o700),
            (self.state("programs"), 0o700),
            (self.spool(), 0o700),
            (self.builds(), 0o700),
            (self.logs(), 0o700),
            (self.root.join("storage"), 0o711),
            (self.node(NodeFolder::Router), 0o755),
            (self.node(NodeFolder::Router).join("maps"), 0o755),
            (self.node(NodeFolder::Router).join("instances"), 0o755),
            (self.node(NodeFolder::Router).join("certs"), 0o700),
            (self.node(NodeFolder::Sockets), 0o1777),
            (self.node(NodeFolder::RouterAdmin), 0o700),
            (self.node(NodeFolder::Varnish), 0o755),
            (self.node(NodeFolder::Nginx), 0o755),
            (self.node(NodeFolder::Nginx).join("instances"), 0o755),
            (self.node(NodeFolder::Nginx).join("cache"), 0o1777),
            (self.node(NodeFolder::Mariadb), 0o755),
        ] {
            make_folder(&folder, mode)?;
        }
        Ok(())
    }
}

/// Makes a folder with its parents. Its mode is set only when it is new: a service may have narrowed its own.
pub fn make_folder(path: &Path, mode: u32) -> Outcome<()> {
    if path.is_dir() {
        return Ok(());
    }
    let doing = || format!("making {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).doing(doing)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).doing(doing)
}

/// Writes a file in one step: readers see the old content or the new. Not synced: what only mirrors a stored state is
/// rendered again at the start. Says whether the content was new.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Outcome<bool> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let doing = || format!("writing {}", path.display());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).doing(doing)?;
    file.write_all(content).doing(doing)?;
    // The umask must not decide what a service can read.
    file.set_permissions(std::fs::Permissions::from_mode(mode)).doing(doing)?;
    std::fs::rename(&fresh, path).doing(doing)?;
    Ok(true)
}

/// Removes a file; one that is not there is fine. Says whether it was.
pub fn remove_file(path: &Path) -> Outcome<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(|| format!("removing {}", path.display())),
    }
}

/// Stores a value as JSON, readable by root alone.
pub fn store<T: Serialize>(path: &Path, value: &T) -> Outcome<()> {
    let json = serde_json::to_vec(value).doing(|| format!("encoding {}", path.display()))?;
    if write_file(path, &json, 0o600)? {
        let sync = || std::fs::File::open(path)?.sync_data();
        sync().doing(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Reads a stored value; none when it was never stored.
pub fn load<T: DeserializeOwned>(path: &Path) -> Outcome<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).doing(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("reading {}", path.display())),
    }
}

/// Reads every stored value of a folder; one that cannot be read is reported and left out.
pub fn load_all<T: DeserializeOwned>(folder: &Path) -> Vec<T> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &PathBuf| match load(path) {
        Ok(value) => value,
        Err(error) => {
            tracing::error!(%error, "a stored state is unreadable and left out");
            None
        }
    };
    paths.iter().filter_map(read).collect()
}
