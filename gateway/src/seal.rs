//! Sealing of secret values at rest: AES-256-GCM under a key that is kept outside the database.

use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// The length of the key, in bytes.
const KEY_LEN: usize = 32;

/// Seals and opens values with the installation's key.
pub struct Seal {
    key: RandomizedNonceKey,
}

/// Why a value could not be sealed or opened. Says no more on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the value could not be sealed")]
    Seal,
    #[error("the sealed value was made with another key, for another place, or is damaged")]
    Open,
}

impl Seal {
    /// Makes it from a key of 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Seal)?;
        Ok(Seal { key })
    }

    /// Reads the key file, or makes one (mode 0600) when there is none.
    pub fn load_or_create(path: &Path) -> anyhow::Result<Self> {
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_key(path)?,
            Err(error) => return Err(error).with_context(|| format!("cannot read the sealing key {}", path.display())),
        };
        if key.len() != KEY_LEN {
            bail!("the sealing key {} is damaged: it has {} bytes, not {KEY_LEN}", path.display(), key.len());
        }
        Ok(Self::new(&key)?)
    }

    /// Seals a value for one place: it opens only with the same `place`, so that a row copied elsewhere is useless.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = value.to_vec();
        let nonce =
            self.key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut body).map_err(|_| SealError::Seal)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut body);
        Ok(out)
    }

    /// Opens what [`Seal::seal`] made for the same place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut body = body.to_vec();
        let plain =
            self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body).map_err(|_| SealError::Open)?;
        Ok(plain.to_vec())
    }
}

fn create_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut key = vec![0; KEY_LEN];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| SealError::Seal)?;
    crate::files::write(path, 0o600, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let sealed = seal.seal("config/a/KEY", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(seal.open("config/a/KEY", &sealed).unwrap(), b"secret");
        assert_eq!(seal.open("config/b/KEY", &sealed), Err(SealError::Open));
        assert_eq!(seal.open("config/a/KEY", &sealed[..10]), Err(SealError::Open));
        assert_ne!(seal.seal("config/a/KEY", b"secret").unwrap(), sealed, "each sealing has its own nonce");
    }

    #[test]
    fn the_key_file_is_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let sealed = Seal::load_or_create(&path).unwrap().seal("p", b"v").unwrap();
        assert_eq!(Seal::load_or_create(&path).unwrap().open("p", &sealed).unwrap(), b"v");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
