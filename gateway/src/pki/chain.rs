//! Checking a certificate that somebody gives for a domain.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A chain and a key that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedChain {
    /// PEM, leaf first, nothing else in it.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// The host names that the leaf is for.
    pub subjects: Vec<String>,
    /// When the first of the chain's certificates runs out.
    pub expires: jiff::Timestamp,
}

/// Why a chain is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("the chain is not a list of PEM certificates")]
    Chain,
    #[error("the key is not a PEM private key (RSA, ECDSA or Ed25519)")]
    Key,
    #[error("the key does not belong to the chain's first certificate")]
    Mismatch,
    #[error("certificate {0} of the chain is not signed by the one that follows; the leaf comes first")]
    Order(usize),
    #[error("certificate {0} of the chain is not valid now")]
    Validity(usize),
    #[error("the first certificate names no host")]
    NoHost,
}

/// Checks that the chain is in order and valid now, and that the key is its leaf's.
pub fn check_chain(chain: &str, key: &str, now: jiff::Timestamp) -> Result<CheckedChain, ChainError> {
    let ders: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(|_| ChainError::Chain)?;
    let certificates: Vec<X509Certificate<'_>> = ders
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|_| ChainError::Chain)?;
    let leaf = certificates.first().ok_or(ChainError::Chain)?;
    let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| ChainError::Key)?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key_der).map_err(|_| ChainError::Key)?;
    CertifiedKey::new(ders.clone(), signer).keys_match().map_err(|_| ChainError::Mismatch)?;
    for (n, (certificate, issuer)) in certificates.iter().zip(certificates.iter().skip(1)).enumerate() {
        certificate.verify_signature(Some(issuer.public_key())).map_err(|_| ChainError::Order(n + 1))?;
    }
    let mut expires = i64::MAX;
    for (n, certificate) in certificates.iter().enumerate() {
        let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
        if !(from.timestamp()..=until.timestamp()).contains(&now.as_second()) {
            return Err(ChainError::Validity(n + 1));
        }
        expires = expires.min(until.timestamp());
    }
    let expires = jiff::Timestamp::from_second(expires).unwrap_or(jiff::Timestamp::MAX);
    let subjects = hosts(leaf);
    if subjects.is_empty() {
        return Err(ChainError::NoHost);
    }
    let (chain, key) = (sections(chain, "CERTIFICATE-----"), sections(key, "PRIVATE KEY-----"));
    Ok(CheckedChain { chain, key, subjects, expires })
}

fn hosts(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let hosts = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    hosts.collect()
}

/// The sections of a PEM text with this label's end, one after the other: what stands around them is not stored.
fn sections(text: &str, label: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        inside |= line.starts_with("-----BEGIN ") && line.ends_with(label);
        if inside {
            out.push_str(line);
            out.push('\n');
        }
        inside &= !line.starts_with("-----END ");
    }
    out
}
