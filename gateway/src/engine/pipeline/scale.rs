//! Another number of replicas for what serves: the serving release's plan once more, with other numbers in it. Its services
//! stay, so whatever is warm stays warm. What is added gets visitors when it is healthy; what is too many gets no new ones
//! before it is told to end, and ends what it has.

use std::collections::BTreeMap;

use magrathea_core::api::Phase;
use magrathea_core::manifest::{Resolved, Stack};
use magrathea_core::names::{ProcessName, WEB};
use magrathea_core::plan::{Plan, Resource, ServiceMode, Spec};

use super::build::{Made, wait_for_nodes};
use super::{Attempt, Job};
use crate::db::scales::{self, Rescale, Scales};
use crate::db::{DbError, deploys, plans, releases};
use crate::engine::capacity::promise;
use crate::engine::carry::ensure_image;
use crate::engine::failure::Failure;
use crate::engine::health::process_of;
use crate::engine::layout::{gather, load_secrets_of, urls_of};

/// Takes the serving plan out, as a new generation with these numbers.
pub async fn rescale(job: &Job, attempt: &mut Attempt, rescale: &Rescale) -> Result<Made, Failure> {
    let counts = &rescale.counts;
    let (site, recorder) = (&job.site, attempt.recorder.clone());
    let id = site.instance.id;
    wait_for_nodes(attempt).await?;
    let conn = site.state.db.conn().await?;
    let nothing = || Failure::new("release_not_found", "nothing serves that could be scaled");
    let release = releases::load_serving(&conn, id).await?.ok_or_else(nothing)?.release;
    let (old, configured, info, source, generation, mut scales) = tokio::try_join!(
        plans::load_serving_plan(&conn, id),
        releases::load_configured(&conn, id, release),
        releases::load_release(&conn, id, release),
        releases::load_source(&conn, id, release),
        plans::next_generation(&conn, id),
        scales::load_scales(&conn, id),
    )?;
    drop(conn);
    let (old, configured, info) =
        (old.ok_or_else(nothing)?, configured.ok_or_else(nothing)?, info.ok_or_else(nothing)?);
    for (process, count) in counts {
        match count {
            Some(count) => drop(scales.insert(process.clone(), *count)),
            None => drop(scales.remove(process)),
        }
    }
    stand(&mut scales, &configured.resolved, Some(&old));
    let mut resources = old.resources.clone();
    let changes = set_replicas(&mut resources, &configured.resolved, &scales);
    recorder.enter(Phase::Plan, &if changes.is_empty() { "as it is".to_owned() } else { changes.join(", ") }).await?;
    ensure_image(site, &recorder, (&info.image, &resources), None).await?;
    attempt.applier.secrets = load_secrets_of(site, &configured).await?;
    attempt.resolved = configured.resolved.clone();
    if configured.resolved.sections.app_layer.stack == Some(Stack::Tomcat) {
        // Whether visitors stay with a replica depends on there being several.
        let mut ingredients = gather(site.clone(), configured, &source.unwrap_or_default()).await?;
        ingredients.scales = scales;
        let fresh = ingredients.render(Stack::Tomcat, release, &info.image, generation, None)?;
        for route in resources.iter_mut().filter(|resource| matches!(resource.spec, Spec::Route(_))) {
            if let Some(fresh) = fresh.get(&route.key) {
                *route = fresh.clone();
            }
        }
    }
    let plan = Plan::new(old.subject.clone(), generation, Some(old.hash()), resources);
    promise(site, attempt.deploy, &plan).await?;
    attempt.old = Some(old);
    attempt.release = release;
    attempt.image = Some(info.image.clone());
    attempt.resolved.sections.hooks.release.clear();
    attempt.resolved.sections.hooks.after.clear();

    let mut conn = site.state.db.conn().await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    plans::insert_plan(&tx, id, release, &plan).await?;
    scales::note_counts(&tx, attempt.deploy, counts).await?;
    deploys::set_release(&tx, attempt.deploy, release, &info.image, &urls_of(site, &attempt.resolved)).await?;
    tx.commit().await.map_err(DbError::from)?;
    attempt.plan = Some(plan.clone());
    Ok(Made { plan })
}

/// Where the number follows the load and nobody has set one, what is laid begins with the number that there is: it
/// goes on from there.
pub fn stand(scales: &mut Scales, resolved: &Resolved, serving: Option<&Plan>) {
    let standing = serving.and_then(|plan| replicas_in(plan, WEB));
    if let (Some(scaling), Some(standing)) = (resolved.sections.app_layer.replicas.scaling(), standing) {
        let within = standing.max(scaling.min).min(scaling.max);
        scales.entry(ProcessName::web()).or_insert(within);
    }
}

/// How many replicas of a process type a plan has.
pub fn replicas_in(plan: &Plan, process: &str) -> Option<u16> {
    let service = plan.resources.iter().find(|resource| process_of(resource) == Some(process))?;
    match &service.spec {
        Spec::Service(service) => match service.mode {
            ServiceMode::Replicated(count) => Some(count),
            ServiceMode::Global => None,
        },
        _ => None,
    }
}

/// Gives each process type the number that was set, or else the manifest's; tells what that changes, as in `web 1 → 3`.
pub fn set_replicas(resources: &mut [Resource], resolved: &Resolved, scales: &Scales) -> Vec<String> {
    let app = resolved.sections.app_layer.clone().with_replicas(scales);
    let mut wanted: BTreeMap<&ProcessName, u16> =
        app.workers.iter().map(|(name, worker)| (name, worker.replicas)).collect();
    let web = ProcessName::web();
    wanted.insert(&web, app.replicas.least());
    let mut changes = Vec::new();
    for resource in resources {
        let process = process_of(resource).map(str::to_owned);
        let (Some(process), Spec::Service(service)) = (process, &mut resource.spec) else { continue };
        let count = wanted.iter().find(|(name, _)| name.as_str() == process).map(|(_, count)| *count);
        if let (ServiceMode::Replicated(before), Some(count)) = (&service.mode, count)
            && *before != count
        {
            changes.push(format!("{process} {before} → {count}"));
            service.mode = ServiceMode::Replicated(count);
        }
    }
    changes
}
