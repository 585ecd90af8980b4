//! What builds and hooks of an instance's deploys said: it lies in the database, and reads like any other source.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use magrathea_core::api::{DeployEventKind, describe_canary};
use magrathea_core::logs::{Cursor, LogLayer, LogQuery, LogRecord, Mark};
use magrathea_core::names::InstanceId;
use tokio::sync::mpsc;

use super::Said;
use crate::db::DbError;
use crate::db::deploys::{self, DeployLine};
use crate::state::State;

/// The source's name among the places.
pub const NAME: &str = "build";

/// Lines read at once.
const PAGE: i64 = 1000;
/// Between looks for new lines.
const LOOK: Duration = Duration::from_millis(700);
/// A line is written so long after its time at most.
const LATE: Duration = Duration::from_millis(500);

/// Reads until the log ends, or for ever.
pub async fn read(state: Arc<State>, instance: InstanceId, query: LogQuery, said: mpsc::Sender<Said>) {
    let Ok(matcher) = query.filter.matcher() else { return };
    let mut place = match begin(&state, instance, &query).await {
        Ok(place) => place,
        Err(error) => return drop(said.send(Said::Notice(format!("builds cannot be read: {error}"))).await),
    };
    loop {
        let horizon = Timestamp::now() - LATE;
        let lines = match load(&state, instance, place).await {
            Ok(lines) => lines,
            Err(error) if query.follow => {
                tracing::warn!(%error, "deploys' lines cannot be read; trying again");
                Vec::new()
            }
            Err(error) => return drop(said.send(Said::Notice(format!("builds cannot be read: {error}"))).await),
        };
        let more = lines.len() as i64 == PAGE;
        let mut text = Vec::new();
        for line in lines {
            place = cursor(&line);
            let record = record(line);
            if matcher.matches(&record) && serde_json::to_writer(&mut text, &record).is_ok() {
                text.push(b'\n');
            }
        }
        if !text.is_empty() && said.send(Said::Lines(Bytes::from(text))).await.is_err() {
            return;
        }
        if more {
            continue;
        }
        let mark = Mark { time: horizon, cursor: place.to_string() };
        if said.send(Said::Mark(mark)).await.is_err() || !query.follow {
            return;
        }
        tokio::select! {
            () = said.closed() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Where to begin: at the given place, at a time, or so many lines before the end.
async fn begin(state: &State, instance: InstanceId, query: &LogQuery) -> Result<Cursor, DbError> {
    if let Some(after) = query.after {
        return Ok(after);
    }
    let since = query.filter.since.map(place_before);
    let Some(last) = query.last else { return Ok(since.unwrap_or_default()) };
    let found = deploys::nth_last_line(&state.db.conn().await?, instance, last).await?;
    Ok(found.map(place_before).unwrap_or_default().max(since.unwrap_or_default()))
}

async fn load(state: &State, instance: InstanceId, place: Cursor) -> Result<Vec<DeployLine>, DbError> {
    let at = i64::try_from(place.segment).unwrap_or(i64::MAX);
    let at = Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX);
    let sequence = i64::try_from(place.offset).unwrap_or(i64::MAX);
    deploys::lines_after(&state.db.conn().await?, instance, (at, sequence), PAGE).await
}

fn place_before(time: Timestamp) -> Cursor {
    Cursor { segment: u64::try_from(time.as_microsecond()).unwrap_or(0), offset: 0 }
}

fn cursor(line: &DeployLine) -> Cursor {
    Cursor { offset: line.sequence.unsigned_abs(), ..place_before(line.at) }
}

fn record(line: DeployLine) -> LogRecord {
    let (text, phase) = match line.event {
        DeployEventKind::Log { phase, line } => (line, Some(phase)),
        DeployEventKind::Warning { message } => (format!("warning: {message}"), None),
        DeployEventKind::Canary { release, share } => (describe_canary(release, share), None),
        DeployEventKind::Finished { deploy } => {
            (format!("deploy {}: {:?}", deploy.id, deploy.status).to_lowercase(), None)
        }
        DeployEventKind::PhaseStarted { phase } | DeployEventKind::PhaseFinished { phase, .. } => {
            (String::new(), Some(phase))
        }
    };
    LogRecord {
        replica: phase.map(|phase| phase.as_str().to_owned()),
        release: line.release,
        stream: None,
        ..LogRecord::notice(line.at, LogLayer::Build, text)
    }
}
