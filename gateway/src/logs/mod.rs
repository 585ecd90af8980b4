//! Instances' logs, as people and drains read them: opened on every node of the cluster, merged in the order of time.
//! Nothing is kept here; a reader that is slow holds the nodes' files up, not this process's memory.

mod build;
mod merge;
mod node;
mod places;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use magrathea_core::logs::{LogFilter, LogLayer, LogQuery, Mark, Values};
use tokio::sync::mpsc;

use crate::api::error::{ApiError, Code};
use crate::db::instances::{self, Instance};
use crate::db::{Client, config_values};
use crate::hub::NodeRef;
use crate::state::State;

pub use places::Places;

/// Pieces that wait for a reader.
const QUEUE: usize = 4;

/// What somebody wants to read.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    pub filter: LogFilter,
    /// Only so many of the newest lines that there are.
    pub last: Option<u32>,
    /// Go on here.
    pub after: Option<Places>,
    pub follow: bool,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines, each a record as JSON.
    Lines(Bytes),
    /// Everything up to here was told.
    Mark(Mark),
}

/// What one source says.
#[derive(Debug)]
enum Said {
    Lines(Bytes),
    Mark(Mark),
    /// About the log itself.
    Notice(String),
}

/// Where lines come from.
struct Source {
    name: String,
    said: mpsc::Receiver<Said>,
}

/// Opens an instance's log. Who drops the receiver ends it.
pub async fn open(
    state: &Arc<State>,
    instance: Instance,
    request: LogRequest,
) -> Result<mpsc::Receiver<Piece>, ApiError> {
    if let Err(error) = request.filter.matcher() {
        return Err(ApiError::new(Code::QueryInvalid, format!("grep is not a pattern: {error}")));
    }
    let mask = load_values(state, &instance).await?;
    let wanted = |layer: &LogLayer| request.filter.layers.is_empty() || request.filter.layers.contains(layer);
    let after = |name: &str| request.after.as_ref().and_then(|places| places.get(name));
    let query = LogQuery {
        slug: instance.id.slug(),
        filter: request.filter.clone(),
        after: None,
        last: request.last,
        follow: request.follow,
        mask,
    };
    let clusters = state.clusters();
    let nodes = clusters.clusters.get(&instance.cluster).into_iter().flat_map(|cluster| cluster.nodes.keys());
    let mut sources = Vec::new();
    let mut work = Vec::new();
    if LogLayer::ALL.iter().any(|layer| *layer != LogLayer::Build && wanted(layer)) {
        for node in nodes {
            let (name, place) = (node.to_string(), NodeRef { cluster: instance.cluster.clone(), node: node.clone() });
            let (said, inbox) = mpsc::channel(QUEUE);
            let query = LogQuery { after: after(&name), ..query.clone() };
            work.push(tokio_util::either::Either::Left(node::read(Arc::clone(state), place, query, said)));
            sources.push(Source { name, said: inbox });
        }
    }
    if wanted(&LogLayer::Build) {
        let (said, inbox) = mpsc::channel(QUEUE);
        let query = LogQuery { after: after(build::NAME), ..query };
        work.push(tokio_util::either::Either::Right(build::read(Arc::clone(state), instance.id, query, said)));
        sources.push(Source { name: build::NAME.to_owned(), said: inbox });
    }
    let (out, pieces) = mpsc::channel(QUEUE);
    let last = request.last.and_then(|last| usize::try_from(last).ok());
    let shutdown = state.shutdown.clone();
    state.tasks.spawn(async move {
        let reading = futures_util::future::join_all(work);
        let merging = merge::merge(sources, last, out.clone());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = out.closed() => {}
            _ = futures_util::future::join(reading, merging) => {}
        }
    });
    Ok(pieces)
}

/// Every secret value of the instance that is known.
async fn load_values(state: &State, instance: &Instance) -> anyhow::Result<Values> {
    let conn = state.db.conn().await?;
    Ok(Values(secret_values(&conn, state, instance).await?))
}

async fn secret_values(client: &impl Client, state: &State, instance: &Instance) -> anyhow::Result<Vec<String>> {
    let mut values = config_values::load_former_values(client, &state.seal, instance.app, &instance.label).await?;
    values.extend(instances::list_secrets(client, &state.seal, instance.id).await?);
    Ok(values)
}

/// A time, or so long before now.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let span: Option<magrathea_core::units::Span> = text.parse().ok();
    let time = span.and_then(|span| now.checked_sub(span.0).ok());
    time.ok_or_else(|| {
        ApiError::new(Code::QueryInvalid, format!("{text:?} is neither a time nor a span"))
            .with_hint("as in 2026-11-21T10:00:00Z, or 15m for so long ago")
    })
}
