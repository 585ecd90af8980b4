//! Databases with a quota: one that reaches it is closed for writing, and opened again when there is room. Reading, deleting
//! and dropping go on.
//!
//! MariaDB gives no disk back when rows are deleted, but fills their place again. So what counts against the quota is what the
//! files take, less the free room in them.

use std::path::PathBuf;

use magrathea_core::plan::DatabaseQuota;
use magrathea_core::wire::Observation;
use serde::{Deserialize, Serialize};

use super::{ask, feed};
use crate::engine::is_slug;
use crate::fail::{Outcome, internal, node};
use crate::folders::{self, Folders};
use crate::node::NodeAgent;

/// One that was closed opens when it takes less than so many percent: closing and opening cut its connections.
const OPENS_BELOW: u64 = 95;

/// What is kept of a database that has a quota.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limited {
    slug: String,
    quota: DatabaseQuota,
    state: Gate,
}

/// Whether anything can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Gate {
    Open,
    Closed,
    /// It was being opened or closed.
    Unknown,
}

/// The instances whose database has a quota.
pub fn limited(folders: &Folders) -> Vec<String> {
    folders::load_all::<Limited>(&folders.state("databases")).into_iter().map(|limited| limited.slug).collect()
}

/// The account has just been given all its rights; `quota` is what it has from now on.
pub async fn ensured(agent: &NodeAgent, slug: &str, quota: Option<&DatabaseQuota>) -> Outcome<()> {
    if !is_slug(slug) {
        let refused = internal(format!("{slug:?} is no instance's name"));
        return if quota.is_none() { Ok(()) } else { Err(refused) };
    }
    let (path, held) = (path(&agent.folders, slug), load(agent, slug)?);
    let was_open = held.as_ref().is_none_or(|held| held.state == Gate::Open);
    match quota {
        None => {
            // Connections that it has still know the rights from before.
            if let Some(held) = held.filter(|_| !was_open) {
                feed(&agent.engine, &held.quota.open).await?;
            }
            folders::remove_file(&path)?;
        }
        Some(quota) => {
            let state = if was_open { Gate::Open } else { Gate::Unknown };
            let limited = Limited { slug: slug.to_owned(), quota: quota.clone(), state };
            if held.as_ref() != Some(&limited) {
                folders::store(&path, &limited)?;
            }
        }
    }
    Ok(())
}

/// Its files take so many bytes: closes or opens it. Nobody else may do anything with it meanwhile.
pub async fn check(agent: &NodeAgent, slug: &str, bytes: u64) -> Outcome<()> {
    let Some(mut held) = load(agent, slug)? else { return Ok(()) };
    let most = held.quota.bytes.bytes();
    let counted = if bytes < most { bytes } else { bytes.saturating_sub(free_room(agent, slug).await?) };
    let state = next(held.state, counted, most);
    if state == held.state {
        return Ok(());
    }
    let path = path(&agent.folders, slug);
    let before = std::mem::replace(&mut held.state, Gate::Unknown);
    folders::store(&path, &held)?;
    feed(&agent.engine, if state == Gate::Closed { &held.quota.close } else { &held.quota.open }).await?;
    if before != Gate::Unknown {
        let (slug, quota, at) = (slug.to_owned(), held.quota.bytes, jiff::Timestamp::now());
        agent.spool.push(&Observation::DatabaseFull {
            slug,
            full: state == Gate::Closed,
            bytes: counted,
            quota,
            at,
        })?;
    }
    held.state = state;
    folders::store(&path, &held)
}

/// The database is gone.
pub fn forget(folders: &Folders, slug: &str) -> Outcome<()> {
    folders::remove_file(&path(folders, slug)).map(|_| ())
}

fn next(state: Gate, counted: u64, most: u64) -> Gate {
    let has_room = u128::from(counted) * 100 < u128::from(most) * u128::from(OPENS_BELOW);
    match state {
        _ if counted >= most => Gate::Closed,
        Gate::Closed if !has_room => Gate::Closed,
        _ => Gate::Open,
    }
}

/// Room in the database's files that is filled before they grow.
async fn free_room(agent: &NodeAgent, slug: &str) -> Outcome<u64> {
    let sql =
        format!("SELECT COALESCE(SUM(DATA_FREE), 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{slug}'");
    let said = ask(&agent.engine, &sql).await?;
    said.trim().parse().map_err(|_| node(format!("mariadb says {:?} where it has free room", said.trim())))
}

fn load(agent: &NodeAgent, slug: &str) -> Outcome<Option<Limited>> {
    folders::load(&path(&agent.folders, slug))
}

fn path(folders: &Folders, slug: &str) -> PathBuf {
    folders.state("databases").join(format!("{slug}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_closes_at_its_quota_and_opens_below_it() {
        use Gate::{Closed, Open, Unknown};
        for (state, counted, expect) in [
            (Open, 0, Open),
            (Open, 99, Open),
            (Open, 100, Closed),
            (Closed, 150, Closed),
            (Closed, 95, Closed),
            (Closed, 94, Open),
            (Unknown, 100, Closed),
            (Unknown, 99, Open),
        ] {
            assert_eq!(next(state, counted, 100), expect, "{state:?} {counted}");
        }
        assert_eq!(next(Open, 0, 0), Closed, "nothing may be written with a quota of nothing");
    }
}
