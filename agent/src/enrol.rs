//! `enrol`: exchanges a one-time token for this node's certificate. The key never leaves the node.

use std::time::Duration;

use anyhow::{Context, bail};
use magrathea_core::api::{Enrol, Enrolled, ErrorBody};
use rcgen::{CertificateParams, KeyPair};

use crate::config::EnrolOptions;
use crate::folders::{self, Folders};
use crate::link::{Identity, Stored, store_certificate};

const LIMIT: Duration = Duration::from_secs(30);

/// Enrols; a node that is enrolled already is left as it is.
pub async fn run_enrol(options: &EnrolOptions) -> anyhow::Result<()> {
    let folders = Folders::new(&options.data);
    folders.prepare()?;
    if let Some(identity) = Identity::load(&folders)? {
        tracing::info!(cluster = %identity.cluster, node = %identity.node, "already enrolled");
        return Ok(());
    }
    let ca = std::fs::read_to_string(&options.ca).with_context(|| format!("reading {}", options.ca.display()))?;
    let token = std::fs::read_to_string(&options.token_file)
        .with_context(|| format!("reading {}", options.token_file.display()))?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let enrol = Enrol { token: token.trim().to_owned(), csr: request.pem()? };
    let enrolled = ask(&options.gateway, &ca, &enrol).await?;

    let folder = folders.identity();
    store_certificate(&folder, &enrolled.certificate, &key.serialize_pem())?;
    folders::write_file(&folder.join("ca.pem"), enrolled.ca.as_bytes(), 0o600)?;
    let stored = Stored { cluster: enrolled.cluster.parse()?, node: enrolled.node.parse()?, connect: enrolled.connect };
    // Written last: without it the node counts as not enrolled.
    folders::store(&folder.join("enrolment.json"), &stored)?;
    tracing::info!(cluster = %stored.cluster, node = %stored.node, "enrolled");
    Ok(())
}

async fn ask(gateway: &str, ca: &str, enrol: &Enrol) -> anyhow::Result<Enrolled> {
    let client = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?)
        .https_only(true)
        .no_proxy()
        .timeout(LIMIT)
        .build()?;
    let url = format!("{}/v1/enrol", gateway.trim_end_matches('/'));
    let answer = client.post(&url).json(enrol).send().await.with_context(|| format!("asking {url}"))?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if status.is_success() {
        return serde_json::from_slice(&body).context("the gateway's answer is not understood");
    }
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(error) => bail!("the gateway refuses: {}", error.message),
        Err(_) => bail!("the gateway answers {status}"),
    }
}
