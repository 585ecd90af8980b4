//! The certificate that the agent shows, with its key. A renewal replaces it under open connections: only handshakes
//! that come later show the new one.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, bail};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is shown at present.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// From a chain and its key in one PEM text.
    pub fn new(pem: &[u8]) -> anyhow::Result<Self> {
        Ok(Shown(RwLock::new(parse(pem)?)))
    }

    pub fn replace(&self, pem: &[u8]) -> anyhow::Result<()> {
        let next = parse(pem)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Whether less than a third of its life is left.
    pub fn is_due(&self, now: jiff::Timestamp) -> anyhow::Result<bool> {
        let current = self.current();
        let leaf = current.cert.first().context("no certificate")?;
        let (_, leaf) = X509Certificate::from_der(leaf)?;
        let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        Ok((until - now.as_second()) * 3 < until - from)
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Reads it and checks that certificate and key belong together.
pub fn parse(pem: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        bail!("there is no certificate");
    }
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from_pem_slice(pem)?)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().context("the certificate is not for the key")?;
    Ok(Arc::new(certified))
}
