//! Where clients connect, and the key by which they know the gateway: made once, kept beside the authorities.

use std::path::Path;

use anyhow::Context;

use super::server;

/// The host key's file, below the folder `pki/`.
const FILE: &str = "ssh_host_ed25519_key";

/// The gateway's SSH endpoint, as clients see it.
pub struct Endpoint {
    /// The host name or address.
    pub host: String,
    pub port: u16,
    pub host_key: HostKey,
}

/// The gateway's host key.
pub struct HostKey {
    /// OpenSSH's own format.
    pub(super) private: String,
    /// As in `ssh-ed25519 AAAA…`.
    pub public: String,
}

impl Endpoint {
    /// Reads the host key from the folder, or makes it.
    pub fn open(folder: &Path, (host, port): (String, u16)) -> anyhow::Result<Self> {
        Ok(Endpoint { host, port, host_key: HostKey::load_or_create(folder)? })
    }
}

impl HostKey {
    /// Reads the key from the folder, or makes it.
    fn load_or_create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let private = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let new = server::new_host_key()?;
                crate::files::write(&path, 0o600, new.as_bytes())?;
                new
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let public = server::public_half(&private).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(HostKey { private, public })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = HostKey::load_or_create(folder.path()).unwrap();
        assert_eq!(HostKey::load_or_create(folder.path()).unwrap().public, first.public);
        assert!(first.public.starts_with("ssh-ed25519 AAAA") && !first.public.ends_with(' '), "{}", first.public);
        std::fs::write(folder.path().join(FILE), "nonsense").unwrap();
        assert!(HostKey::load_or_create(folder.path()).is_err());
    }
}
