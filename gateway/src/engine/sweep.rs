//! Takes away what nothing refers to any more: services of releases that neither serve nor are being brought, of hooks and
//! detached runs whose end a lost node did not hear of, images beyond those that are kept, and sources. What is there is asked first and what is wanted is asked after it, so that
//! nothing that appears in between is taken for left over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use magrathea_core::names::{ClusterName, InstanceId, ReleaseNumber};
use magrathea_core::wire::{Holdings, Inventory, Prune};
use uuid::Uuid;

use super::apply::all_nodes;
use crate::db::releases::Retention;
use crate::db::{DbError, config_values, deploys, instances, releases, runs};
use crate::hub::NodeRef;
use crate::remote::runs::run_of_service;
use crate::state::State;

/// How often clusters are swept though nothing happens: releases grow old.
const REGULARLY: Duration = Duration::from_secs(3600);
/// How often a sweep is tried that leaves something, and how far apart.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(5);
/// A source that nothing refers to may belong to a deploy that is about to be recorded.
const YOUNG: Duration = Duration::from_secs(3600);

/// Sweeps a cluster in the background; once more when something could not be taken away, as while an engine restarts.
pub fn sweep_later(state: &Arc<State>, cluster: &ClusterName) {
    let (state, cluster) = (Arc::clone(state), cluster.clone());
    let tasks = state.tasks.clone();
    let stop = state.shutdown.clone();
    let work = async move {
        for _ in 0..TRIES {
            if sweep(&state, &cluster).await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(work).await });
}

/// Sweeps all clusters now and then, until the gateway ends.
pub async fn watch(state: Arc<State>) {
    while state.shutdown.run_until_cancelled(tokio::time::sleep(REGULARLY)).await.is_some() {
        for cluster in state.clusters().clusters.keys() {
            sweep_later(&state, cluster);
        }
    }
}

/// Whether all is gone that should be.
async fn sweep(state: &Arc<State>, cluster: &ClusterName) -> bool {
    let clusters = state.clusters();
    let Some(spec) = clusters.clusters.get(cluster) else { return true };
    let connected = state.hub.connected();
    let mut is_done = true;
    for node in all_nodes(cluster, spec).into_iter().filter(|node| connected.contains(node)) {
        let swept = async {
            let holdings = state.hub.call(&node, Inventory {}, |_| {}).await?;
            prune(state, &node, holdings).await
        };
        match swept.await {
            Ok(all) => is_done &= all,
            Err(error) => {
                tracing::info!(%node, "the node is swept later: {error:#}");
                is_done = false;
            }
        }
    }
    if let Err(error) = drop_sources(state).await {
        tracing::warn!("cannot remove old sources: {error:#}");
    }
    if let Err(error) = forget_values(state).await {
        tracing::warn!(%error, "cannot forget former values");
    }
    is_done
}

/// What of the instances is wanted on nodes.
#[derive(Debug, Default)]
struct Wanted {
    /// By slug; an instance that is not here is gone.
    releases: BTreeMap<String, BTreeSet<ReleaseNumber>>,
    /// Instances with a deploy under way, whose image may not be recorded yet.
    busy: BTreeSet<String>,
    images: BTreeSet<String>,
    /// Detached runs that are not over.
    runs: BTreeSet<Uuid>,
}

async fn load_wanted(state: &State) -> Result<Wanted, DbError> {
    let conn = state.db.conn().await?;
    let mut wanted = Wanted::default();
    for instance in instances::list_instances(&conn).await? {
        let serving = releases::load_serving(&conn, instance.id).await?;
        wanted.releases.insert(instance.id.slug(), serving.map(|row| row.release).into_iter().collect());
    }
    for deploy in deploys::list_unfinished(&conn, i64::MAX).await? {
        let slug = InstanceId(deploy.info.instance).slug();
        wanted.releases.entry(slug.clone()).or_default().extend(deploy.info.release);
        wanted.busy.insert(slug);
    }
    wanted.runs = runs::list_running_ids(&conn).await?.into_iter().collect();
    let clusters = state.clusters();
    let bounds = clusters.clusters.iter();
    let bounds: Vec<Retention> =
        bounds.map(|(name, spec)| Retention { cluster: name.clone(), keep: spec.keep_releases }).collect();
    wanted.images = releases::list_kept_images(&conn, &bounds).await?.into_iter().collect();
    Ok(wanted)
}

/// What is left over. Layer services and images that are not a release's are never touched.
fn left_over(holdings: &Holdings, wanted: &Wanted) -> Prune {
    let services = holdings.services.iter().filter(|service| {
        let Some(slug) = &service.slug else { return false };
        match (wanted.releases.get(slug), service.release) {
            (None, _) => true,
            (Some(releases), Some(release)) => !releases.contains(&release),
            (Some(_), None) => match run_of_service(&service.name) {
                Some(run) => !wanted.runs.contains(&run),
                None => is_hook(&service.name, slug) && !wanted.busy.contains(slug),
            },
        }
    });
    let images = holdings.images.iter().filter(|image| {
        let slug = image.labels.get("magrathea.slug");
        slug.is_some_and(|slug| !wanted.images.contains(&image.id) && !wanted.busy.contains(slug))
    });
    Prune {
        services: services.map(|service| service.name.clone()).collect(),
        images: images.map(|image| image.id.clone()).collect(),
    }
}

/// Whether a service is a hook's one-off, as in `SLUG-v3-release-1`.
fn is_hook(name: &str, slug: &str) -> bool {
    let rest = name.strip_prefix(slug).and_then(|rest| rest.strip_prefix("-v"));
    rest.and_then(|rest| rest.split('-').next()).is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether nothing that was to go is left.
async fn prune(state: &State, node: &NodeRef, holdings: Holdings) -> anyhow::Result<bool> {
    let prune = left_over(&holdings, &load_wanted(state).await?);
    if prune.services.is_empty() && prune.images.is_empty() {
        return Ok(true);
    }
    let images = prune.images.clone();
    let pruned = state.hub.call(node, prune, |_| {}).await?;
    tracing::info!(%node, removed = pruned.removed.len(), left = pruned.left.len(), "swept");
    let gone: Vec<String> = pruned.removed.into_iter().filter(|name| images.contains(name)).collect();
    releases::mark_pruned(&state.db.conn().await?, &gone).await?;
    Ok(pruned.left.is_empty())
}

/// Values that no release needs any more.
async fn forget_values(state: &State) -> Result<(), DbError> {
    let forgotten = config_values::forget_former(&state.db.conn().await?).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "former values were forgotten");
    }
    Ok(())
}

async fn drop_sources(state: &Arc<State>) -> anyhow::Result<()> {
    let folder = state.blobs();
    let now: SystemTime = jiff::Timestamp::now().into();
    let mut old = Vec::new();
    let mut entries = tokio::fs::read_dir(&folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let modified = entry.metadata().await?.modified()?;
        if now.duration_since(modified).is_ok_and(|age| age > YOUNG) {
            old.push(entry);
        }
    }
    let kept = releases::list_kept_sources(&state.db.conn().await?).await?;
    for entry in old {
        if !entry.file_name().to_str().is_some_and(|name| kept.iter().any(|kept| kept == name)) {
            tokio::fs::remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use magrathea_core::wire::{HeldImage, HeldService};

    fn service(name: &str, slug: Option<&str>, release: Option<u32>) -> HeldService {
        let release = release.map(ReleaseNumber);
        HeldService { name: name.into(), slug: slug.map(Into::into), release, running: 1, wanted: 1 }
    }

    fn image(id: &str, slug: Option<&str>) -> HeldImage {
        let labels = slug.map(|slug| ("magrathea.slug".to_owned(), slug.to_owned())).into_iter().collect();
        HeldImage { id: id.into(), labels, size: 1 }
    }

    #[test]
    fn only_what_nothing_refers_to_is_left_over() {
        let wanted = Wanted {
            releases: [("i1".to_owned(), [ReleaseNumber(3)].into()), ("i2".to_owned(), [].into())].into(),
            busy: ["i2".to_owned()].into(),
            images: ["kept".to_owned()].into(),
            runs: [Uuid::from_u128(1)].into(),
        };
        let run = |slug: &str, id: u128| crate::remote::runs::service_name(slug, Uuid::from_u128(id));
        let holdings = Holdings {
            services: vec![
                service("router", None, None),
                service("i1-web-v3", Some("i1"), Some(3)),
                service("i1-web-v2", Some("i1"), Some(2)),
                service("i1-memcached", Some("i1"), None),
                service("i2-web-v1", Some("i2"), Some(1)),
                service("i9-memcached", Some("i9"), None),
                service(&run("i1", 1), Some("i1"), None),
                service(&run("i1", 2), Some("i1"), None),
                service("i1-v3-release-1", Some("i1"), None),
                service("i2-v1-release-1", Some("i2"), None),
                // Somebody's shell beside it: the agent ends it with its connection.
                service("i1-run-01", Some("i1"), None),
            ],
            images: vec![
                image("layer", None),
                image("kept", Some("i1")),
                image("old", Some("i1")),
                image("being-built", Some("i2")),
                image("orphan", Some("i9")),
            ],
        };
        let prune = left_over(&holdings, &wanted);
        let gone = ["i1-web-v2", "i2-web-v1", "i9-memcached", &run("i1", 2), "i1-v3-release-1"];
        assert_eq!(prune.services, gone);
        assert_eq!(prune.images, ["old", "orphan"]);
    }
}
