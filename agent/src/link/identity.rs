//! Who this agent is: its key, its certificate, and the CA it trusts.

use std::sync::Arc;

use anyhow::Context;
use magrathea_core::names::{ClusterName, NodeName};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::folders::{self, Folders};

/// The file beside key and certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    pub cluster: ClusterName,
    pub node: NodeName,
    /// `host:port` of the gateway's agent listener.
    pub connect: String,
}

/// An enrolled agent.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cluster: ClusterName,
    pub node: NodeName,
    pub connect: String,
    key: Vec<u8>,
    certificate: Vec<u8>,
    ca: Vec<u8>,
}

impl Identity {
    /// None when the node is not enrolled.
    pub fn load(folders: &Folders) -> anyhow::Result<Option<Self>> {
        let folder = folders.identity();
        let Some(stored) = folders::load::<Stored>(&folder.join("enrolment.json"))? else { return Ok(None) };
        let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("reading {name}"));
        Ok(Some(Identity {
            cluster: stored.cluster,
            node: stored.node,
            connect: stored.connect,
            key: read("key.pem")?,
            certificate: read("certificate.pem")?,
            ca: read("ca.pem")?,
        }))
    }

    /// TLS that shows the agent's certificate and trusts the gateway's CA alone.
    pub fn client_config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.ca) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?)
    }

    /// An HTTP client over the same TLS.
    pub fn http_client(&self, tls: &rustls::ClientConfig) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(true)
            .no_proxy()
            .http1_only()
            .connect_timeout(std::time::Duration::from_secs(10))
            .read_timeout(std::time::Duration::from_secs(60));
        Ok(client.build()?)
    }
}
