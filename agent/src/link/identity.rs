//! Who this agent is: its key, its certificate, and the CA it trusts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use magrathea_core::names::{ClusterName, NodeName};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::certificate::{Shown, parse};
use crate::folders::{self, Folders};

/// Holds the certificate, then its key: in one file neither is ever without the other.
const CERTIFICATE: &str = "certificate.pem";
/// Where older agents kept the key.
const OLD_KEY: &str = "key.pem";

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
    pub(super) shown: Arc<Shown>,
    folder: PathBuf,
    ca: Vec<u8>,
}

impl Identity {
    /// None when the node is not enrolled.
    pub fn load(folders: &Folders) -> anyhow::Result<Option<Self>> {
        let folder = folders.identity();
        let Some(stored) = folders::load::<Stored>(&folder.join("enrolment.json"))? else { return Ok(None) };
        let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("reading {name}"));
        let mut certificate = read(CERTIFICATE)?;
        if PrivateKeyDer::from_pem_slice(&certificate).is_err() {
            certificate.extend(read(OLD_KEY)?);
        }
        Ok(Some(Identity {
            cluster: stored.cluster,
            node: stored.node,
            connect: stored.connect,
            shown: Arc::new(Shown::new(&certificate).with_context(|| format!("{CERTIFICATE} is damaged"))?),
            ca: read("ca.pem")?,
            folder,
        }))
    }

    /// Shows a new certificate from now on, and after a restart.
    pub fn renew(&self, certificate: &str, key: &str) -> anyhow::Result<()> {
        let pem = store_certificate(&self.folder, certificate, key)?;
        self.shown.replace(&pem)
    }

    /// TLS that shows the agent's certificate and trusts the gateway's CA alone.
    pub fn client_config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.ca) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(self.shown.clone());
        // A resumed session would go on with the certificate of its first handshake.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// An HTTP client over the same TLS.
    pub fn http_client(&self, tls: &rustls::ClientConfig) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(true)
            .no_proxy()
            .http1_only()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        Ok(client.build()?)
    }

    /// A client for streams: many at once on one connection, each open for as long as somebody wants it.
    pub fn stream_client(&self, tls: &rustls::ClientConfig) -> anyhow::Result<reqwest::Client> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .http2_prior_knowledge()
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(STREAM_PING)
            .http2_keep_alive_timeout(STREAM_PING)
            .http2_keep_alive_while_idle(true)
            .connect_timeout(Duration::from_secs(10));
        Ok(client.build()?)
    }
}

/// Unread bytes of one stream; on the connection nothing more is limited, so that a stream that nobody reads does not hold
/// up the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 30;
const STREAM_PING: Duration = Duration::from_secs(10);

/// Stores certificate and key, checked, in one step that a crash leaves done or undone. Returns what was written.
pub fn store_certificate(folder: &Path, certificate: &str, key: &str) -> anyhow::Result<Vec<u8>> {
    let pem = format!("{}\n{key}", certificate.trim_end()).into_bytes();
    parse(&pem)?;
    let path = folder.join(CERTIFICATE);
    let writing = || format!("writing {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(writing)?;
    file.write_all(&pem).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(&path).with_context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)?;
    folders::remove_file(&folder.join(OLD_KEY))?;
    Ok(pem)
}
