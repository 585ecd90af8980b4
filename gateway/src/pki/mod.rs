//! The gateway's own certificate authority: clients pin it, and agents prove themselves with what it signs.
//!
//! Only the authority itself is on disk. The gateway's server certificate is made anew, with a new key, at each start.

mod chain;
mod identity;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub use self::chain::{ChainError, CheckedChain, check_chain};
pub use self::identity::{Identity, read_identity};
use crate::hub::NodeRef;

/// How long certificates last, in days. A node's can be revoked by enrolling it again.
const CA_DAYS: i64 = 20 * 365;
const SERVER_DAYS: i64 = 2 * 365;
const NODE_DAYS: i64 = 5 * 365;

/// The authority.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate that was signed for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// PEM.
    pub certificate: String,
    /// In hex, without leading zeros.
    pub serial: String,
}

/// A certificate signing request that is malformed or badly signed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate signing request is not acceptable")]
pub struct CsrError(#[source] rcgen::Error);

impl Pki {
    /// Reads the authority from `ca.pem` and `ca.key` in the folder, or makes it. The certificate is written last: a
    /// key without one was never used, and is replaced.
    pub fn load_or_create(folder: &Path) -> anyhow::Result<Self> {
        let (pem_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !pem_path.exists() {
            create_authority(&pem_path, &key_path).context("cannot make the certificate authority")?;
        }
        let read =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let (pem, key) = (read(&pem_path)?, read(&key_path)?);
        let key = KeyPair::from_pem(&key).with_context(|| format!("{} is damaged", key_path.display()))?;
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).with_context(|| format!("{} is damaged", pem_path.display()))?;
        Ok(Pki { issuer, pem })
    }

    /// The authority's certificate, for clients to pin.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The API's TLS side, valid for these host names and addresses.
    pub fn api_config(&self, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let (chain, key) = self.server_certificate(names)?;
        let mut config = builder()?.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The agent listener's TLS side: only clients with a certificate of this authority get in.
    pub fn agents_config(&self, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes())?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        let (chain, key) = self.server_certificate(names)?;
        let mut config = builder()?.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Signs a node's key. Of the request nothing but the key is taken over.
    pub fn sign_node(&self, csr: &str, node: &NodeRef) -> anyhow::Result<Result<NodeCertificate, CsrError>> {
        let request = match CertificateSigningRequestParams::from_pem(csr) {
            Ok(request) => request,
            Err(error) => return Ok(Err(CsrError(error))),
        };
        let mut params = leaf(&format!("{}.{}", node.node, node.cluster), NODE_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(identity::uri_of(node).try_into()?)];
        let serial = params.serial_number.as_ref().map(|s| hex::encode(s.to_bytes())).unwrap_or_default();
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(Ok(NodeCertificate { certificate: certificate.pem(), serial }))
    }

    /// A new key and a certificate for an instance's hosts: the chain, then the key, in PEM.
    pub fn issue_hosts(&self, hosts: &[String]) -> anyhow::Result<String> {
        let key = KeyPair::generate()?;
        let mut params = leaf(hosts.first().map_or("instance", String::as_str), SERVER_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let names = hosts.iter().map(|host| Ok(SanType::DnsName(host.as_str().try_into()?)));
        params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(format!("{}{}{}", certificate.pem(), self.pem, key.serialize_pem()))
    }

    fn server_certificate(
        &self,
        names: &[String],
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate()?;
        let mut params = leaf("Magrathea gateway", SERVER_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
            })
            .collect::<Result<_, rcgen::Error>>()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone()], key.into()))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> anyhow::Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?)
}

fn leaf(name: &str, days: i64) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    // 126 random bits with the second highest set: never negative, never with a leading zero byte.
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).context("no randomness")?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = distinguished(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days)?;
    Ok(params)
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

/// Valid from an hour ago, so that a node whose clock is a little behind can connect at once.
fn set_validity(params: &mut CertificateParams, days: i64) -> anyhow::Result<()> {
    let now = std::time::Duration::from_secs(jiff::Timestamp::now().as_second().try_into()?);
    let hour = std::time::Duration::from_secs(3600);
    let lifetime = std::time::Duration::from_secs(u64::try_from(days)? * 86_400);
    params.not_before = (std::time::UNIX_EPOCH + now - hour).into();
    params.not_after = (std::time::UNIX_EPOCH + now + lifetime).into();
    Ok(())
}

fn create_authority(pem_path: &Path, key_path: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = leaf("Magrathea", CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    crate::files::write(key_path, 0o600, key.serialize_pem().as_bytes())?;
    crate::files::write(pem_path, 0o644, certificate.pem().as_bytes())
}
