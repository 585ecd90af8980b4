//! What is kept of the load for advice, by the hour.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use magrathea_core::names::InstanceId;
use magrathea_core::scaling::Hour;

use super::known::Standing;
use super::routers;
use crate::db::{DbError, loads};
use crate::lock::locked;
use crate::state::State;

/// How often it is stored; so much is lost with a gateway that is killed.
const STORE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });
const HOUR: i64 = 3600;

/// What was not stored yet.
#[derive(Debug, Default)]
pub struct Tally {
    hours: BTreeMap<(InstanceId, Timestamp), Hour>,
    /// The last second that was counted.
    counted: BTreeMap<InstanceId, i64>,
    stored: Option<Instant>,
}

impl Tally {
    /// Counts what is new of an instance.
    pub fn count(&mut self, state: &State, standing: &Standing) {
        let id = standing.instance.id;
        // What was before this process has been counted by the one before.
        let counted = self.counted.entry(id).or_insert_with(|| Timestamp::now().as_second());
        let samples = locked(&state.engine.loads).samples(&routers(state, standing), &standing.slug, *counted);
        let at_once = standing.at_once.saturating_mul(standing.replicas.into());
        for sample in samples.into_iter().filter(|_| at_once > 0) {
            *counted = sample.at;
            let Ok(begin) = Timestamp::from_second(sample.at - sample.at.rem_euclid(HOUR)) else { continue };
            let hour = self.hours.entry((id, begin)).or_insert_with(|| Hour {
                hour: begin,
                seconds: 0,
                busy_sum: 0,
                busy_max: 0,
                waiting: 0,
                at_once,
            });
            hour.seconds += 1;
            hour.busy_sum += u64::from(sample.busy);
            hour.busy_max = hour.busy_max.max(sample.busy);
            hour.waiting += u32::from(sample.busy > at_once);
            hour.at_once = hour.at_once.max(at_once);
        }
    }

    pub async fn store_when_due(&mut self, state: &State) -> Result<(), DbError> {
        if self.stored.is_some_and(|stored| stored.elapsed() < STORE) {
            return Ok(());
        }
        self.store(state).await
    }

    pub async fn store(&mut self, state: &State) -> Result<(), DbError> {
        let hours: Vec<_> = self.hours.iter().map(|((id, _), hour)| (*id, hour.clone())).collect();
        let conn = state.db.conn().await?;
        if !hours.is_empty() {
            loads::add_hours(&conn, &hours).await?;
            self.hours.clear();
        }
        loads::forget_old(&conn).await?;
        let kept = Timestamp::now().as_second() - HOUR;
        self.counted.retain(|_, counted| *counted > kept);
        self.stored = Some(Instant::now());
        Ok(())
    }
}
