//! The next certificate, before the present one runs out: a new key is made here, the gateway signs it over the
//! agent's own TLS, and both replace the old ones together. Killed at any point, the agent has the old or the new.

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, bail};
use rcgen::{CertificateParams, KeyPair};

use super::{Identity, jittered};

/// Between looks at the certificate; between tries while it is due and the gateway away.
const LOOK: Duration = Duration::from_secs(12 * 3600);
const RETRY: Duration = Duration::from_secs(600);
/// A start is left to the connection.
const FIRST: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(30);

/// Looks now and then whether it is time. Never ends.
pub async fn keep_valid(identity: &Identity, client: &reqwest::Client) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        pause = match renew_when_due(identity, client, jiff::Timestamp::now()).await {
            Ok(renewed) => {
                if renewed {
                    tracing::info!("the node's certificate was renewed");
                }
                LOOK
            }
            Err(error) => {
                tracing::warn!("cannot renew the node's certificate: {error:#}");
                RETRY
            }
        };
    }
}

/// Renews the certificate when less than a third of its life is left. Says whether it did.
async fn renew_when_due(identity: &Identity, client: &reqwest::Client, now: jiff::Timestamp) -> anyhow::Result<bool> {
    if !identity.shown.is_due(now)? {
        return Ok(false);
    }
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?.pem()?;
    let url = format!("https://{}/agent/v1/certificate", identity.connect);
    let answer = client.post(url).timeout(LIMIT).body(request).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("the gateway refuses ({status}): {}", text.trim_end());
    }
    identity.renew(&text, &key.serialize_pem()).context("the gateway's answer")?;
    Ok(true)
}
