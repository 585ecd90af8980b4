//! Many readers of one log at once, through the API: what they hear, and how late.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::Lab;

/// Readers under way.
pub struct Readers(Vec<JoinHandle<Heard>>);

/// What one reader heard.
#[derive(Debug)]
pub struct Heard {
    pub lines: u64,
    /// How late the latest of them came.
    pub worst: Duration,
    /// Why it did not come to the last line.
    pub cut: Option<String>,
}

impl Readers {
    /// Starts readers of what an app's only instance says from now on, up to a line with this text and nothing else, or for
    /// so long.
    pub async fn start(lab: &Lab, app: &str, count: usize, until: &str, limit: Duration) -> Readers {
        let text = std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap();
        let credentials: Value = serde_json::from_str(&text).unwrap();
        let said = |name: &str| credentials[name].as_str().unwrap().to_owned();
        let ca = reqwest::Certificate::from_pem_bundle(said("ca").as_bytes()).unwrap();
        let (gateway, token) = (said("gateway"), said("token"));
        let url = format!("{gateway}/v1/apps/{app}/instances/default/logs?follow=true&last=0&layer=app");
        let last = format!("\"text\":\"{until}\"");
        let mut readers = Vec::new();
        for _ in 0..count {
            // Each on a connection of its own, as td's are.
            let client = reqwest::Client::builder().tls_certs_only(ca.clone()).no_proxy().build().unwrap();
            let answer = client.get(&url).bearer_auth(&token).send().await.unwrap().error_for_status().unwrap();
            readers.push(tokio::spawn(read(answer, last.clone(), limit)));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Readers(readers)
    }

    /// What each has heard.
    pub async fn finish(self) -> Vec<Heard> {
        let mut all = Vec::new();
        for reader in self.0 {
            all.push(reader.await.unwrap());
        }
        all
    }
}

async fn read(answer: reqwest::Response, last: String, limit: Duration) -> Heard {
    let (mut pieces, mut rest) = (answer.bytes_stream(), Vec::new());
    let mut heard = Heard { lines: 0, worst: Duration::ZERO, cut: None };
    let limit = tokio::time::Instant::now() + limit;
    loop {
        let piece = match tokio::time::timeout_at(limit, pieces.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Heard { cut: Some(format!("{error:?}")), ..heard },
            Ok(None) => return Heard { cut: Some("the stream ended".into()), ..heard },
            Err(_) => return Heard { cut: Some("it took too long".into()), ..heard },
        };
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        for line in lines.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            if text.contains("\"text\":\"talk ") {
                heard.lines += 1;
                // Every hundredth is enough to know how late they are.
                if heard.lines % 100 == 1 {
                    heard.worst = heard.worst.max(now.saturating_sub(time_of(&text)));
                }
            } else if text.contains(&last) {
                return heard;
            } else if text.contains("\"end\":") {
                heard.cut = Some(text.into_owned());
            }
        }
        if heard.cut.is_some() {
            return heard;
        }
    }
}

/// A record's time since 1970.
fn time_of(line: &str) -> Duration {
    let value: Value = serde_json::from_str(line).unwrap();
    let time: magrathea_core::logs::LogRecord = serde_json::from_value(value).unwrap();
    Duration::from_millis(u64::try_from(time.time.as_millisecond()).unwrap())
}
