//! Serves one drain for as long as this gateway has it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use magrathea_core::logs::LogFilter;
use tokio::time::Instant;
use uuid::Uuid;

use super::sink::Sink;
use super::syslog::Origin;
use crate::db::drains::{self, Drain};
use crate::db::instances;
use crate::logs::{self, LogRequest, Piece, Places};
use crate::state::State;

/// A batch is sent at this size, or when there is no more at present.
const BATCH: usize = 512 << 10;
/// Places are stored so often at most.
const STORE: Duration = Duration::from_secs(1);
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Never ends by itself; dropped, it goes on elsewhere from its last place.
pub async fn serve(state: Arc<State>, gateway: Uuid, mut drain: Drain) {
    let mut wait = BACKOFF.0;
    loop {
        let began = drain.places.clone();
        let Err(error) = deliver(&state, gateway, &mut drain).await else { return };
        if drain.places != began {
            wait = BACKOFF.0;
        }
        let why = magrathea_core::logs::shown(&format!("{error:#}")).chars().take(300).collect::<String>();
        tracing::info!(drain = %drain.id, error = why, "a drain's sink takes nothing; trying again");
        if let Ok(conn) = state.db.conn().await
            && let Err(error) = drains::save_failure(&conn, gateway, drain.id, &why).await
        {
            tracing::warn!(%error, "a drain's failure is not stored");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn deliver(state: &Arc<State>, gateway: Uuid, drain: &mut Drain) -> anyhow::Result<()> {
    let instance = instances::load_instance(&state.db.conn().await?, drain.instance).await?;
    let instance = instance.context("its instance is gone")?;
    let origin = Origin { app: instance.app_name.to_string(), label: instance.label.to_string() };
    let mut sink = Sink::new(&drain.sink, origin, &state.drains_to)?;
    let after = drain.places.parse::<Places>().ok().filter(|_| !drain.places.is_empty());
    let filter = LogFilter {
        layers: drain.layers.clone(),
        // A drain begins with what comes after it was made.
        since: after.is_none().then_some(drain.created),
        ..LogFilter::default()
    };
    let request = LogRequest { filter, after, follow: true, last: None };
    let mut pieces = logs::open(state, instance, request).await.map_err(anyhow::Error::new)?;
    let (mut batch, mut lines, mut stored) = (Vec::new(), 0_u64, None::<Instant>);
    let mut reached: Option<String> = None;
    loop {
        let piece = match &reached {
            // Places that were not stored yet are when nothing comes for a while.
            Some(places) => match tokio::time::timeout(STORE, pieces.recv()).await {
                Ok(piece) => piece,
                Err(_) => {
                    save(state, gateway, drain, (places, lines)).await?;
                    (reached, lines, stored) = (None, 0, Some(Instant::now()));
                    continue;
                }
            },
            None => pieces.recv().await,
        };
        match piece {
            Some(Piece::Lines(more)) => {
                batch.extend_from_slice(&more);
                if batch.len() >= BATCH {
                    lines += send(&mut sink, &mut batch).await?;
                }
            }
            Some(Piece::Mark(mark)) => {
                lines += send(&mut sink, &mut batch).await?;
                reached = Some(mark.cursor);
                if let Some(places) = reached.as_ref().filter(|_| stored.is_none_or(|at| at.elapsed() > STORE)) {
                    save(state, gateway, drain, (places, lines)).await?;
                    (reached, lines, stored) = (None, 0, Some(Instant::now()));
                }
            }
            None => anyhow::bail!("the log broke off"),
        }
    }
}

async fn send(sink: &mut Sink, batch: &mut Vec<u8>) -> anyhow::Result<u64> {
    sink.deliver(batch).await?;
    let lines = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
    batch.clear();
    Ok(lines)
}

async fn save(state: &State, gateway: Uuid, drain: &mut Drain, (places, lines): (&String, u64)) -> anyhow::Result<()> {
    drains::save_places(&state.db.conn().await?, gateway, drain.id, (places, lines)).await?;
    drain.places.clone_from(places);
    Ok(())
}
