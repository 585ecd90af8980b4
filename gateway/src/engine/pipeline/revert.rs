//! Takes back what a deploy did before its switch, so that what served before serves on, unchanged.

use magrathea_core::api::Phase;
use magrathea_core::names::Layer;
use magrathea_core::plan::{Plan, Resource, Spec};
use magrathea_core::wire::{DataFate, Prune};

use super::Attempt;
use super::switch::drain;
use crate::db::releases;
use crate::engine::apply::{UNHEARD, nodes_of};
use crate::engine::failure::Failure;
use crate::engine::layout::{Part, part_of, parts};

/// Takes everything back that can be. What a node that is away still holds is swept when it returns. Data stays.
pub async fn revert(attempt: &Attempt) {
    if let Some(plan) = &attempt.plan {
        for failure in take_back(attempt, plan).await {
            tracing::warn!(deploy = %attempt.deploy, "reverting: {failure}; it is cleaned up later");
        }
        if let Err(error) = mark_failed(attempt).await {
            tracing::warn!(deploy = %attempt.deploy, "marking the release as failed: {error}");
        }
    }
    prune_image(attempt).await;
}

async fn take_back(attempt: &Attempt, plan: &Plan) -> Vec<Failure> {
    let mut failures = Vec::new();
    if let (Some(_), Some(old)) = (&attempt.scale, &attempt.old) {
        // The services serve on, with as many replicas as before.
        for resource in parts(old, Part::Replicas).into_iter().chain(parts(old, Part::Route)) {
            failures.extend(attempt.applier.ensure(resource, UNHEARD).await.err());
        }
        return failures;
    }
    // First what visitors see: the old route, cache and services as they were.
    let switching = attempt.recorder.phase() >= Phase::Canary;
    let untouched = |r: &&Resource| !switching && matches!(r.spec, Spec::Route(_));
    for before in changed_back(attempt.old.as_ref(), plan).into_iter().filter(|r| !untouched(r)) {
        failures.extend(attempt.applier.ensure(before, UNHEARD).await.err());
    }
    if switching {
        drain(attempt, plan).await;
    }
    let is_new = |resource: &&Resource| attempt.old.as_ref().and_then(|old| old.get(&resource.key)).is_none();
    let mut unwanted = parts(plan, Part::Replicas);
    unwanted.extend(
        plan.resources
            .iter()
            .rev()
            .filter(is_new)
            .filter(|resource| matches!(resource.spec, Spec::Route(_) | Spec::Cache(_) | Spec::Support(_))),
    );
    for resource in unwanted {
        failures.extend(attempt.applier.remove(resource, DataFate::Keep).await.err());
    }
    failures
}

/// The old plan's resources that the new one may have changed in place; replicas are never changed in place.
fn changed_back<'a>(old: Option<&'a Plan>, plan: &Plan) -> Vec<&'a Resource> {
    let Some(old) = old else { return Vec::new() };
    let replicas: Vec<&str> = parts(old, Part::Replicas).iter().map(|r| r.key.as_str()).collect();
    let in_place =
        |r: &&Resource| !replicas.contains(&r.key.as_str()) && !matches!(part_of(r), Part::Seed | Part::Assets);
    let differs = |r: &&Resource| plan.get(&r.key).is_none_or(|new| new.spec != r.spec);
    old.resources.iter().filter(in_place).filter(differs).collect()
}

async fn mark_failed(attempt: &Attempt) -> Result<(), crate::db::DbError> {
    let conn = attempt.site.state.db.conn().await?;
    let instance = attempt.site.instance.id;
    releases::mark_failed(&conn, instance, attempt.release).await?;
    let kept = match releases::load_serving(&conn, instance).await? {
        Some(serving) => releases::load_resolved(&conn, instance, serving.release).await?,
        None => None,
    };
    let hosts = kept.map(|resolved| crate::engine::layout::hosts_of(&attempt.site, &resolved)).unwrap_or_default();
    releases::release_hosts(&conn, instance, &hosts).await
}

async fn is_used(attempt: &Attempt, image: &str) -> Result<bool, crate::db::DbError> {
    let conn = attempt.site.state.db.conn().await?;
    releases::is_image_kept(&conn, image).await
}

/// The image of a release that never served is of no use. Another release may have the very same one.
async fn prune_image(attempt: &Attempt) {
    let Some(image) = &attempt.image else { return };
    match is_used(attempt, image).await {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => return tracing::info!(%error, "the image of a failed release is removed later"),
    }
    let site = &attempt.site;
    for node in nodes_of(&site.instance.cluster, &site.cluster, Layer::App) {
        let request = Prune { services: Vec::new(), images: vec![image.clone()] };
        if let Err(error) = site.state.hub.call(&node, request, |_| {}).await {
            tracing::info!(%node, %error, "the image of a failed release is removed later");
        }
    }
}
