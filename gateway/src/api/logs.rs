//! An instance's log.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use magrathea_core::logs::{LogFilter, LogLayer};
use magrathea_core::names::ReleaseNumber;
use magrathea_core::people::Verb;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::error::{ApiError, Code};
use super::extract::{Instance, Query};
use crate::actor::Actor;
use crate::doors::{DoorKind, NewDoor};
use crate::logs::{self, LogRequest, Piece};
use crate::services::access::{Reach, find_app, instance_of};
use crate::state::State;

/// Most lines that may be asked for from the end.
const MOST_LAST: u32 = 10_000;
/// Silence is broken this often, so that both ends notice a lost connection.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Readers at once.
const MOST_READERS: usize = 2000;

/// Which lines of the log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Go on with what comes, until the client leaves.
    follow: bool,
    /// Not before this time, or so long ago, as in `15m`.
    since: Option<String>,
    /// Before this time, or so long ago.
    until: Option<String>,
    /// Of these layers alone, with commas between them: app, proxy, routing, db, cron, build.
    layer: Option<String>,
    /// Of this replica alone, as in `web.1`, or `web` for all of the kind.
    replica: Option<String>,
    /// Of this release alone.
    release: Option<u32>,
    /// Lines in which this regular expression is found.
    grep: Option<String>,
    /// Only so many of the newest lines that there are, at most 10000.
    last: Option<u32>,
    /// Go on after this `cursor` of a mark.
    after: Option<String>,
}

impl LogsQuery {
    fn parse(self, now: Timestamp) -> Result<LogRequest, ApiError> {
        let invalid = |what: String| ApiError::new(Code::QueryInvalid, what);
        let time = |text: Option<String>| text.map(|text| logs::since(&text, now)).transpose();
        let layers = self.layer.iter().flat_map(|layers| layers.split(',')).filter(|layer| !layer.is_empty());
        let layers = layers.map(|layer| layer.parse::<LogLayer>().map_err(invalid)).collect::<Result<Vec<_>, _>>()?;
        if self.last.is_some_and(|last| last > MOST_LAST) {
            return Err(invalid(format!("last must be at most {MOST_LAST}")));
        }
        let filter = LogFilter {
            since: time(self.since)?,
            until: time(self.until)?,
            layers,
            replica: self.replica.filter(|replica| !replica.is_empty()),
            release: self.release.map(ReleaseNumber),
            grep: self.grep.filter(|grep| !grep.is_empty()),
        };
        let after = self.after.map(|after| after.parse().map_err(invalid)).transpose()?;
        Ok(LogRequest { filter, last: self.last, after, follow: self.follow })
    }
}

/// An instance's log: one JSON object per line, a `LogRecord`, in the order of time. Now and then a line
/// `{"mark":{"time":…,"cursor":…}}` says that everything up to there was told; `after` goes on from its cursor. Blank
/// lines keep it alive. A line `{"end":…}` says why it ended before its time.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/logs", tag = "logs",
    params(Instance, LogsQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "`query_invalid`"),
        (status = 404, description = "`app_not_found` or `instance_not_found`")))]
pub async fn read(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(query): Query<LogsQuery>,
) -> Result<Response, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, &actor, &name.app, Verb::Look, Reach::Label(&name.label)).await?;
    let request = query.parse(Timestamp::now())?;
    let instance = instance_of(&conn, &app, &name).await?;
    drop(conn);
    if state.doors.count(DoorKind::Logs) >= MOST_READERS {
        return Err(ApiError::new(Code::TooManyAttempts, "too many logs are being read; try again soon"));
    }
    let new = NewDoor {
        actor: &actor,
        kind: DoorKind::Logs,
        app: Some(&app),
        label: Some(&name.label),
        verb: Verb::Look,
        detail: "",
    };
    let door = state.doors.open(&state, new).await?;
    let pieces = logs::open(&state, instance, request).await?;
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(body(pieces, door.over()))).into_response())
}

/// The lines until they end, or until it is over for another reason, which is told.
fn body(
    pieces: mpsc::Receiver<Piece>,
    over: impl Future<Output = &'static str> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + Send {
    let said = stream::unfold((pieces, Box::pin(over), false), async |(mut pieces, mut over, ended)| {
        if ended {
            return None;
        }
        let next = tokio::select! {
            biased;
            why = &mut over => {
                let line = format!("{}\n", serde_json::json!({ "end": why }));
                return Some((Ok(Bytes::from(line)), (pieces, over, true)));
            }
            next = tokio::time::timeout(KEEPALIVE, pieces.recv()) => next,
        };
        let line = match next {
            Ok(Some(Piece::Lines(lines))) => lines,
            Ok(Some(Piece::Mark(mark))) => Bytes::from(format!("{}\n", serde_json::json!({ "mark": mark }))),
            Ok(None) => return None,
            Err(_) => Bytes::from_static(b"\n"),
        };
        Some((Ok(line), (pieces, over, false)))
    });
    said.boxed()
}

#[cfg(test)]
mod tests {
    use magrathea_core::api::ErrorBody;
    use magrathea_core::names::AppId;
    use magrathea_core::people::{Grant, Role, Scope};
    use serde_json::json;

    use crate::db::tokens::{NewToken, TokenKind, insert_token};
    use crate::testing;

    #[tokio::test]
    async fn to_a_stranger_a_log_looks_like_one_that_does_not_exist() {
        let gateway = testing::gateway().await;
        gateway.request("POST", "/v1/apps").json(&json!({"name": "blog"})).send().await.unwrap();
        let token = crate::api::token::for_person().unwrap();
        let elsewhere = Grant { scope: Scope::App(AppId(uuid::Uuid::now_v7())), role: Role::Administrator };
        let row = NewToken {
            person: gateway.inner.admin.person,
            hash: &token.hash,
            name: "stranger",
            kind: TokenKind::Token,
            limits: Some(&[elsewhere]),
            key: None,
            days: None,
        };
        insert_token(&gateway.inner.state.db.conn().await.unwrap(), &row).await.unwrap();
        for rest in ["logs?follow=true", "drains"] {
            let mut answers = Vec::new();
            for app in ["blog", "nothing"] {
                let url = format!("{}/v1/apps/{app}/instances/default/{rest}", gateway.url);
                let answer = gateway.http.get(url).bearer_auth(&token.text).send().await.unwrap();
                let (status, body) = (answer.status().as_u16(), answer.json::<ErrorBody>().await.unwrap());
                assert_eq!(body.code, "app_not_found");
                let text = [Some(body.message), body.hint].map(|text| text.unwrap_or_default().replace(app, "APP"));
                answers.push((status, text));
            }
            assert_eq!(answers[0], answers[1]);
        }
        // The app's own people learn that nothing lives there yet, and what is wrong with a question.
        let ask = async |query: &str| {
            let path = format!("/v1/apps/blog/instances/default/logs{query}");
            let answer = gateway.request("GET", &path).send().await.unwrap();
            answer.json::<ErrorBody>().await.unwrap().code
        };
        assert_eq!(ask("").await, "instance_not_found");
        for query in ["?since=never", "?layer=moon", "?last=99999", "?after=x", "?colour=red"] {
            assert_eq!(ask(query).await, "query_invalid", "{query}");
        }
    }
}
