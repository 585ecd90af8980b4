//! Sending a source to a route that takes one.

use magrathea_core::api::SourceInfo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::client::{Client, Query};
use crate::exit::Failure;
use crate::source::{Kind, Sent, archive};

/// The idempotency key makes a repeated upload join what the first began.
const TRIES: u32 = 3;

/// Longer first lines of commit messages are cut: they travel in a URL.
const MAX_MESSAGE: usize = 200;

pub async fn upload<T: DeserializeOwned>(
    client: &Client,
    segments: &[&str],
    kind: &Kind,
    info: &SourceInfo,
    sent: &Sent,
) -> Result<T, Failure> {
    let query = query(info)?;
    let mut tries = 1;
    loop {
        let (failed, mut reason) = mpsc::channel(1);
        let body = archive(kind, sent.clone(), failed);
        let error = match client.upload(segments, &query, body).await {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        if let Ok(reason) = reason.try_recv() {
            return Err(Failure::from(reason));
        }
        if error.is_connect() || error.is_timeout() || tries == TRIES {
            return Err(client.unreachable(&error));
        }
        tries += 1;
    }
}

fn query(info: &SourceInfo) -> Result<Query, Failure> {
    let mut info = info.clone();
    info.message = info.message.map(|message| message.chars().take(MAX_MESSAGE).collect());
    let Value::Object(fields) = serde_json::to_value(&info)? else { return Ok(Query::new()) };
    let said = fields.into_iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
    Ok(said.map(|(key, value)| (key, value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_holds_what_was_said() {
        let info = SourceInfo {
            label: Some("production".into()),
            message: Some("é".repeat(300)),
            create: true,
            wait: Some(300),
            ..SourceInfo::default()
        };
        let query = query(&info).unwrap();
        let pairs: Vec<_> = query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let message = "é".repeat(200);
        assert_eq!(
            pairs,
            [("label", "production"), ("message", message.as_str()), ("create", "true"), ("wait", "300")]
        );
    }
}
