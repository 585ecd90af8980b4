//! A certificate authority on disk.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::leaf;

/// How long an authority lasts, in days.
const DAYS: i64 = 20 * 365;

/// Signs, and is known by its certificate.
pub struct Authority {
    pub issuer: Arc<Issuer<'static, KeyPair>>,
    /// PEM.
    pub pem: String,
}

impl Authority {
    /// Reads `FILE.pem` and `FILE.key` in the folder, or makes them. The certificate is written last: a key without one
    /// was never used, and is replaced.
    pub fn load_or_create(folder: &Path, file: &str, name: &str) -> anyhow::Result<Self> {
        let (pem_path, key_path) = (folder.join(file).with_extension("pem"), folder.join(file).with_extension("key"));
        if !pem_path.exists() {
            create(&pem_path, &key_path, name).context("cannot make the certificate authority")?;
        }
        let read =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let (pem, key) = (read(&pem_path)?, read(&key_path)?);
        let key = KeyPair::from_pem(&key).with_context(|| format!("{} is damaged", key_path.display()))?;
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).with_context(|| format!("{} is damaged", pem_path.display()))?;
        Ok(Authority { issuer: Arc::new(issuer), pem })
    }
}

fn create(pem_path: &Path, key_path: &Path, name: &str) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = leaf::params(name, DAYS, jiff::Timestamp::now())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    crate::files::write(key_path, 0o600, key.serialize_pem().as_bytes())?;
    crate::files::write(pem_path, 0o644, certificate.pem().as_bytes())
}
