//! The gateway's own certificate authorities. One is what clients pin and agents prove themselves with; the other signs
//! for the hosts of apps, and neither td nor agents trust it: a domain of the gateway's own name gives nobody its place.

mod authority;
mod chain;
mod identity;
mod leaf;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use magrathea_core::api::fingerprint_of;
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use self::authority::Authority;
pub use self::chain::{ChainError, CheckedChain, check_chain};
pub use self::identity::{Identity, read_identity};
use self::server::Server;
use crate::hub::NodeRef;

/// How long certificates last, in days. A node's can be revoked by enrolling it again.
const HOSTS_DAYS: i64 = 2 * 365;
const NODE_DAYS: i64 = 5 * 365;

/// The authorities.
pub struct Pki {
    own: Authority,
    hosts: Authority,
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
    /// Reads the authorities from the folder, or makes those that are not there.
    pub fn load_or_create(folder: &Path) -> anyhow::Result<Self> {
        Ok(Pki {
            own: Authority::load_or_create(folder, "ca", "Magrathea")?,
            hosts: Authority::load_or_create(folder, "hosts-ca", "Magrathea hosts")?,
        })
    }

    /// The certificate of the gateway's and the nodes' authority, for clients to pin.
    pub fn ca_pem(&self) -> &str {
        &self.own.pem
    }

    /// By which clients know it: see [`fingerprint_of`].
    pub fn fingerprint(&self) -> String {
        fingerprint_of(&self.own.pem).unwrap_or_default()
    }

    /// The API's TLS side, valid for these host names and addresses.
    pub fn api_config(&self, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let mut config = builder()?.with_no_client_auth().with_cert_resolver(self.server(names)?);
        // Not HTTP/2: in it, uploads of libcurl 7.88 to 8.2, and so of many a git, stand still at the end of a window.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The agent listener's TLS side: only clients with a certificate of this authority get in.
    pub fn agents_config(&self, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.own.pem.as_bytes())?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        let mut config = builder()?.with_client_cert_verifier(verifier).with_cert_resolver(self.server(names)?);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn server(&self, names: &[String]) -> anyhow::Result<Arc<Server>> {
        Server::new(&self.own.issuer, names, jiff::Timestamp::now())
    }

    /// Signs a node's key when it enrols. Of the request nothing but the key is taken over.
    pub fn sign_node(
        &self,
        csr: &str,
        node: &NodeRef,
        now: jiff::Timestamp,
    ) -> anyhow::Result<Result<NodeCertificate, CsrError>> {
        self.sign(csr, &identity::uri_of(node), node, now)
    }

    /// Signs a new key of a node that is enrolled. The certificate counts for as long as the enrolment does: the old one
    /// stays good until it runs out, and enrolling again revokes both.
    pub fn renew_node(
        &self,
        csr: &str,
        identity: &Identity,
        now: jiff::Timestamp,
    ) -> anyhow::Result<Result<NodeCertificate, CsrError>> {
        self.sign(csr, &identity::uri_of_renewed(identity), &identity.node, now)
    }

    fn sign(
        &self,
        csr: &str,
        uri: &str,
        node: &NodeRef,
        now: jiff::Timestamp,
    ) -> anyhow::Result<Result<NodeCertificate, CsrError>> {
        let request = match CertificateSigningRequestParams::from_pem(csr) {
            Ok(request) => request,
            Err(error) => return Ok(Err(CsrError(error))),
        };
        let mut params = leaf::params(&format!("{}.{}", node.node, node.cluster), NODE_DAYS, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        let serial = params.serial_number.as_ref().map(|s| hex::encode(s.to_bytes())).unwrap_or_default();
        let certificate = params.signed_by(&request.public_key, &self.own.issuer)?;
        Ok(Ok(NodeCertificate { certificate: certificate.pem(), serial }))
    }

    /// A new key and a certificate for an instance's hosts: the chain, then the key, in PEM.
    pub fn issue_hosts(&self, hosts: &[String], now: jiff::Timestamp) -> anyhow::Result<String> {
        let key = KeyPair::generate()?;
        let name = hosts.first().map_or("instance", String::as_str);
        let mut params = leaf::params(name, HOSTS_DAYS, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let names = hosts.iter().map(|host| Ok(SanType::DnsName(host.as_str().try_into()?)));
        params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
        let certificate = params.signed_by(&key, &self.hosts.issuer)?;
        Ok(format!("{}{}{}", certificate.pem(), self.hosts.pem, key.serialize_pem()))
    }

    /// Whether hosts need a new certificate: little of its life is left, or it is from the gateway's own authority, as
    /// all were before hosts had one.
    pub fn is_due(&self, pem: &str, now: jiff::Timestamp) -> bool {
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes());
        pem.contains(&self.own.pem) || !leaf.is_ok_and(|leaf| !leaf::is_due(&leaf, now))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> anyhow::Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    Ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?)
}
