//! Storage, database, release hook, replicas, their health and the cache: all that must stand before the switch.

use futures_util::future::try_join_all;
use magrathea_core::api::Phase;
use magrathea_core::manifest::Resolved;
use magrathea_core::names::Layer;
use magrathea_core::plan::{Plan, Resource, Spec};
use magrathea_core::units::Span;
use magrathea_core::wire::RunOnce;

use super::build::{Made, summary};
use super::{Attempt, count};
use crate::engine::apply::{Applier, Listener, is_spread, spread_image};
use crate::engine::carry::ensure_image;
use crate::engine::failure::Failure;
use crate::engine::health::checks;
use crate::engine::layout::{Part, Site, part_of, parts};

/// Most time a hook may take when the manifest does not say.
const HOOK_TIMEOUT: Span = Span(std::time::Duration::from_secs(10 * 60));

/// Tells what the last phase, the proxy's, came to.
pub async fn lay(attempt: &mut Attempt, made: &Made) -> Result<String, Failure> {
    let recorder = attempt.recorder.clone();
    let plan = &made.plan;
    recorder.enter(Phase::Storage, &summary(attempt.old.as_ref(), plan)).await?;
    let storage = ensure_layer(attempt, plan, Layer::Storage).await?;
    ensure_all(attempt, &parts(plan, Part::Seed)).await?;
    // Usually done when that release came; what pages already loaded ask for must be there before the switch.
    if let Some(old) = &attempt.old
        && let Err(failure) = ensure_all(attempt, &parts(old, Part::Assets)).await
    {
        recorder.warn(format!("the former release's assets: {failure}"));
    }
    recorder.enter(Phase::Db, &storage).await?;
    let db = ensure_layer(attempt, plan, Layer::Db).await?;
    recorder.enter(Phase::ReleaseHook, &db).await?;
    let hooks = attempt.resolved.sections.hooks.release.clone();
    run_hooks(attempt, plan, "release", &hooks).await?;
    recorder.enter(Phase::App, &count(hooks.len(), "command")).await?;

    // A node may have come since the image was brought; from now on replicas may be on it.
    if let Some(image) = plan.resources.iter().find_map(spread_image) {
        ensure_image(&attempt.site, &recorder, (image, &plan.resources), None).await?;
        for resource in plan.resources.iter().filter(|r| is_spread(r) && part_of(r) != Part::Assets) {
            attempt.applier.ensure(resource, &attempt.listener()).await?;
        }
    }

    // What stands already as it is wanted needs no second look.
    let stands = |resource: &&Resource| {
        attempt.old.as_ref().and_then(|old| old.get(&resource.key)).is_some_and(|old| old.spec == resource.spec)
    };
    let replicas: Vec<_> = parts(plan, Part::Replicas).into_iter().filter(|resource| !stands(resource)).collect();
    let caches = parts(plan, Part::Cache);
    // The cache of an instance without visitors may be laid while the replicas start.
    if attempt.old.is_none() {
        let laid = tokio::try_join!(async { start(attempt, &replicas).await.map_err(Broken::Here) }, async {
            ensure_all(attempt, &caches).await.map_err(Broken::Cache)
        });
        match laid {
            Ok(_) => {}
            Err(Broken::Here(failure)) => return Err(failure),
            Err(Broken::Cache(failure)) => {
                recorder.enter(Phase::Proxy, "").await?;
                return Err(failure);
            }
        }
    } else {
        start(attempt, &replicas).await?;
    }
    recorder.enter(Phase::Proxy, "healthy").await?;
    ensure_all(attempt, &caches).await?;
    Ok(if caches.is_empty() { "no cache" } else { "ready" }.to_owned())
}

enum Broken {
    Here(Failure),
    Cache(Failure),
}

/// Starts the replicas and waits until all are healthy.
async fn start(attempt: &Attempt, replicas: &[&Resource]) -> Result<(), Failure> {
    ensure_all(attempt, replicas).await?;
    attempt.recorder.enter(Phase::Health, &count(replicas.len(), "service")).await?;
    await_replicas(&attempt.applier, &attempt.site, &attempt.resolved, replicas, &attempt.listener()).await
}

/// Waits until all replicas of these services are healthy.
pub async fn await_replicas(
    applier: &Applier,
    site: &Site,
    resolved: &Resolved,
    replicas: &[&Resource],
    listener: Listener<'_>,
) -> Result<(), Failure> {
    let node = &applier.first_node(Layer::App)?;
    try_join_all(checks(site, resolved, replicas).into_iter().map(|check| async move {
        let call = site.state.hub.call(node, check.health, listener);
        call.await.map_err(|error| Failure::call(node, "unhealthy", error).of_process(check.process))
    }))
    .await?;
    Ok(())
}

/// Runs hooks one after the other in one-off containers of the release.
pub async fn run_hooks(attempt: &Attempt, plan: &Plan, when: &str, hooks: &[String]) -> Result<(), Failure> {
    let Some(resource) = plan.get("app/web") else { return Ok(()) };
    let Spec::Service(service) = &resource.spec else { return Ok(()) };
    for (n, command) in hooks.iter().enumerate() {
        let node = attempt.applier.first_node(Layer::App)?;
        let request = RunOnce {
            service: service.clone(),
            secrets: attempt.applier.secrets_of(resource),
            command: command.clone(),
            name: format!("{}-v{}-{when}-{}", attempt.site.slug(), attempt.release.0, n + 1),
            timeout: attempt.resolved.sections.hooks.timeout.unwrap_or(HOOK_TIMEOUT),
        };
        let ran = attempt.site.state.hub.call(&node, request, attempt.listener()).await;
        let ran = ran.map_err(|error| Failure::call(&node, "hook_failed", error))?;
        if ran.exit_code != 0 {
            let message = format!("the {when} hook `{command}` ended with exit status {}", ran.exit_code);
            return Err(Failure::new("hook_failed", message));
        }
    }
    Ok(())
}

/// Brings a layer's ground about; tells what it came to.
async fn ensure_layer(attempt: &Attempt, plan: &Plan, layer: Layer) -> Result<String, Failure> {
    let ground: Vec<_> = plan.resources.iter().filter(|r| r.layer == layer && part_of(r) == Part::Ground).collect();
    ensure_all(attempt, &ground).await?;
    Ok(if ground.is_empty() { "nothing asked for".to_owned() } else { "ready".to_owned() })
}

/// Brings resources about: networks first, for services are attached to them, then the others at once.
pub async fn ensure_all(attempt: &Attempt, resources: &[&Resource]) -> Result<(), Failure> {
    let listener = attempt.listener();
    let (networks, others): (Vec<&Resource>, Vec<&Resource>) =
        resources.iter().partition(|resource| matches!(resource.spec, Spec::Network(_)));
    for stage in [networks, others] {
        try_join_all(stage.into_iter().map(|resource| attempt.applier.ensure(resource, &listener))).await?;
    }
    Ok(())
}
