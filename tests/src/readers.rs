//! Many readers of one log at once, through the API: what they hear, and how late.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::Lab;

/// Readers under way.
pub struct Readers(JoinSet<(u64, Duration)>);

impl Readers {
    /// Starts readers of what an app's only instance says from now on.
    pub async fn start(lab: &Lab, app: &str, count: usize) -> Readers {
        let text = std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap();
        let credentials: Value = serde_json::from_str(&text).unwrap();
        let said = |name: &str| credentials[name].as_str().unwrap().to_owned();
        let ca = reqwest::Certificate::from_pem_bundle(said("ca").as_bytes()).unwrap();
        let (gateway, token) = (said("gateway"), said("token"));
        let url = format!("{gateway}/v1/apps/{app}/instances/default/logs?follow=true&last=0&layer=app");
        let mut readers = JoinSet::new();
        for _ in 0..count {
            // Each on a connection of its own, as td's are.
            let client = reqwest::Client::builder().tls_certs_only(ca.clone()).no_proxy().build().unwrap();
            let answer = client.get(&url).bearer_auth(&token).send().await.unwrap().error_for_status().unwrap();
            readers.spawn(read(answer));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Readers(readers)
    }

    /// How many lines each has heard up to the last, and how late the latest came.
    pub async fn finish(self, limit: Duration) -> (Vec<u64>, Duration) {
        let heard = tokio::time::timeout(limit, self.0.join_all()).await.unwrap_or_default();
        let worst = heard.iter().map(|(_, late)| *late).max().unwrap_or_default();
        (heard.into_iter().map(|(count, _)| count).collect(), worst)
    }
}

async fn read(answer: reqwest::Response) -> (u64, Duration) {
    let (mut pieces, mut rest, mut count, mut worst) = (answer.bytes_stream(), Vec::new(), 0, Duration::ZERO);
    while let Some(Ok(piece)) = pieces.next().await {
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        for line in lines.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            if text.contains("\"text\":\"talk ") {
                count += 1;
                // Every hundredth is enough to know how late they are.
                if count % 100 == 1 {
                    worst = worst.max(now.saturating_sub(time_of(&text)));
                }
            } else if text.contains("\"text\":\"done\"") {
                return (count, worst);
            }
        }
    }
    (count, worst)
}

/// A record's time since 1970.
fn time_of(line: &str) -> Duration {
    let value: Value = serde_json::from_str(line).unwrap();
    let time: magrathea_core::logs::LogRecord = serde_json::from_value(value).unwrap();
    Duration::from_millis(u64::try_from(time.time.as_millisecond()).unwrap())
}
