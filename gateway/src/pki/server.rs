//! The gateway's own certificate: lives in memory, with a key of its own for each. Each handshake asks whether it is
//! time for the next, so that a gateway may run for as long as it likes.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::leaf;
use crate::lock::locked;

const DAYS: i64 = 2 * 365;

/// Shows the gateway's certificate.
pub struct Server {
    issuer: Arc<Issuer<'static, KeyPair>>,
    names: Vec<String>,
    current: Mutex<Arc<CertifiedKey>>,
}

impl Server {
    /// One that is valid for these host names and addresses.
    pub fn new(
        issuer: &Arc<Issuer<'static, KeyPair>>,
        names: &[String],
        now: jiff::Timestamp,
    ) -> anyhow::Result<Arc<Self>> {
        let current = Mutex::new(issue(issuer, names, now)?);
        Ok(Arc::new(Server { issuer: Arc::clone(issuer), names: names.to_vec(), current }))
    }

    /// The certificate to show now.
    pub(super) fn at(&self, now: jiff::Timestamp) -> Arc<CertifiedKey> {
        let mut current = locked(&self.current);
        if current.cert.first().is_none_or(|leaf| leaf::is_due(leaf, now)) {
            match issue(&self.issuer, &self.names, now) {
                Ok(next) => {
                    tracing::info!("the gateway's own certificate was renewed");
                    *current = next;
                }
                Err(error) => tracing::error!("cannot renew the gateway's own certificate: {error:#}"),
            }
        }
        Arc::clone(&current)
    }
}

impl ResolvesServerCert for Server {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(jiff::Timestamp::now()))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("names", &self.names).finish_non_exhaustive()
    }
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    names: &[String],
    now: jiff::Timestamp,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let key = KeyPair::generate()?;
    let mut params = leaf::params("Magrathea gateway", DAYS, now)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        })
        .collect::<Result<_, rcgen::Error>>()?;
    let certificate = params.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}
