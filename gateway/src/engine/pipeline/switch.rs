//! The cut-over and what follows it: one step in routing, then the old release drains and goes.

use futures_util::future::{join_all, try_join_all};
use magrathea_core::api::Phase;
use magrathea_core::names::{Layer, WEB};
use magrathea_core::plan::{Plan, Resource, Spec};
use magrathea_core::units::Span;
use magrathea_core::wire::{DataFate, Drain, ReadServing, Serving, Watch};

use super::lay::{ensure_all, run_hooks};
use super::password;
use super::{Attempt, count, tell_rescale};
use crate::db::scales::{self, Rescale};
use crate::db::{DbError, deploys, releases};
use crate::engine::apply::{UNHEARD, nodes_of};
use crate::engine::failure::Failure;
use crate::engine::health::{checks, process_of};
use crate::engine::history;
use crate::engine::layout::{Part, hosts_of, parts};

/// Sends the visitors to the new release. An error may leave open which one serves.
pub async fn switch(attempt: &Attempt) -> Result<Serving, Failure> {
    let Some(plan) = &attempt.plan else { return Err(anyhow::anyhow!("a deploy without a plan").into()) };
    let mut serving = Serving::default();
    for route in parts(plan, Part::Route) {
        let outcome = attempt.applier.ensure(route, &attempt.listener()).await?;
        for seen in outcome.serving {
            if seen.release != Some(attempt.release) {
                let what = seen.release.map_or("nothing".to_owned(), |release| release.to_string());
                return Err(Failure::new(
                    "node",
                    format!("the router was told to serve {} but serves {what}", attempt.release),
                ));
            }
            serving = seen;
        }
    }
    Ok(serving)
}

/// What the routers serve for the instance; nothing when they differ.
pub async fn read_serving(attempt: &Attempt) -> Result<Serving, Failure> {
    let site = &attempt.site;
    let mut serving: Option<Serving> = None;
    for node in nodes_of(&site.instance.cluster, &site.cluster, Layer::Routing) {
        let answer = site.state.hub.call(&node, ReadServing { slug: site.slug() }, |_| {}).await;
        let answer = answer.map_err(|error| Failure::call(&node, "node", error))?;
        match &serving {
            Some(before) if before.release != answer.release => return Ok(Serving::default()),
            _ => serving = Some(answer),
        }
    }
    Ok(serving.unwrap_or_default())
}

/// Keeps the old release standing by until the new one has shown that it stays up. A node that goes away meanwhile says
/// nothing about the app.
pub async fn stand_by(attempt: &Attempt) -> Result<(), Failure> {
    let span = attempt.resolved.sections.app_layer.health.watch.unwrap_or(Span(std::time::Duration::ZERO));
    let Some(plan) = attempt.plan.as_ref().filter(|_| !span.0.is_zero() && attempt.scale.is_none()) else {
        return Ok(());
    };
    attempt.recorder.enter(Phase::Watch, &format!("{} serves", attempt.release)).await?;
    match watch_replicas(attempt, plan, span).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.code == "unhealthy" => Err(rolled_back(attempt, failure)),
        Err(failure) => {
            attempt.recorder.warn(format!("{failure}; the new release was not watched to the end"));
            Ok(())
        }
    }
}

/// Watches the release's replicas for so long. `unhealthy`: one did not stay up; any other failure says nothing about the app.
pub async fn watch_replicas(attempt: &Attempt, plan: &Plan, span: Span) -> Result<(), Failure> {
    let node = &attempt.applier.first_node(Layer::App)?;
    let replicas = parts(plan, Part::Replicas);
    let listener = &attempt.listener();
    let checks = checks(&attempt.site, &attempt.resolved, &replicas);
    try_join_all(checks.into_iter().map(|check| async move {
        let call = attempt.site.state.hub.call(node, Watch { health: check.health, span }, listener);
        call.await.map_err(|error| Failure::call(node, "unhealthy", error).of_process(check.process))
    }))
    .await?;
    Ok(())
}

fn rolled_back(attempt: &Attempt, mut failure: Failure) -> Failure {
    let Some(old) = attempt.old.as_ref().and_then(Plan::release) else { return failure };
    failure.code = "rolled_back";
    failure.message = format!("{} did not stay up: {}; {old} serves again", attempt.release, failure.message);
    failure
}

/// Everything after the switch. May be repeated; an error is told, and undoes nothing.
pub async fn complete(attempt: &Attempt, author: &str, serving: &Serving) -> Result<(), Failure> {
    let Some(plan) = &attempt.plan else { return Ok(()) };
    // Without it the store would name the old release, and reconciling would bring that back.
    while let Err(error) = commit(attempt, plan, author, serving).await {
        tracing::warn!(deploy = %attempt.deploy, %error, "cannot record the switch; trying again");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let recorder = &attempt.recorder;
    recorder.enter(Phase::Drain, &format!("{} serves", attempt.release)).await?;
    let retired = retire(attempt, plan).await;
    if let Err(failure) = password::retire(attempt, plan).await {
        recorder.warn(format!("the database's former password is still good: {failure}"));
    }
    recorder.enter(Phase::AfterHook, &retired).await?;
    let hooks = &attempt.resolved.sections.hooks.after;
    if let Err(failure) = run_hooks(attempt, plan, "after", hooks).await {
        recorder.warn(failure.to_string());
    }
    recorder.enter(Phase::Record, &count(hooks.len(), "command")).await?;
    if let Err(failure) = ensure_all(attempt, &parts(plan, Part::Support)).await {
        recorder.warn(format!("the support layer: {failure}"));
    }
    let state = &attempt.site.state;
    let what = match &attempt.scale {
        Some(rescale) => format!("scale {}", tell_rescale(rescale)),
        None => format!("release {}", attempt.release),
    };
    let message = format!("{} ({}): {what}", attempt.site.instance.app_name, attempt.site.instance.label);
    history::record_later(state, &attempt.site.instance.cluster, attempt.site.slug(), plan.clone(), author, message);
    keep_assets_later(attempt, plan);
    recorder.leave("on the timeline").await?;
    Ok(())
}

/// Keeps the release's assets in the background; the next deploy makes up for it.
fn keep_assets_later(attempt: &Attempt, plan: &Plan) {
    let state = &attempt.site.state;
    let (applier, stop) = (attempt.applier.clone(), state.shutdown.clone());
    let assets: Vec<Resource> = parts(plan, Part::Assets).into_iter().cloned().collect();
    state.tasks.spawn(async move {
        for resource in &assets {
            match stop.run_until_cancelled(applier.ensure(resource, UNHEARD)).await {
                Some(Err(failure)) => tracing::info!(subject = applier.subject, %failure, "assets are kept later"),
                Some(Ok(_)) => {}
                None => return,
            }
        }
    });
}

/// The deploy has succeeded from here on, whatever happens.
async fn commit(attempt: &Attempt, plan: &Plan, author: &str, serving: &Serving) -> Result<(), DbError> {
    let instance = &attempt.site.instance;
    let mut conn = attempt.site.state.db.conn().await?;
    let tx = conn.transaction().await?;
    deploys::commit_deploy(&tx, attempt.deploy, serving).await?;
    let row = releases::ServingRow { release: attempt.release, generation: plan.generation };
    releases::set_serving(&tx, instance.id, row).await?;
    if let Some(Rescale { counts, reason: None }) = &attempt.scale {
        scales::set_scales(&tx, instance.id, counts, author).await?;
    }
    releases::release_hosts(&tx, instance.id, &hosts_of(&attempt.site, &attempt.resolved)).await?;
    Ok(tx.commit().await?)
}

/// Lets the old release finish its requests, then takes it away, with what the new plan no longer has. Data stays.
async fn retire(attempt: &Attempt, plan: &Plan) -> String {
    let Some(old) = &attempt.old else { return "nothing served before".to_owned() };
    if attempt.scale.is_some() {
        return "it serves on".to_owned();
    }
    // What visitors do not reach has nothing to drain: the new release's own runs already.
    let (workers, others): (Vec<_>, Vec<_>) = obsolete(old, plan)
        .into_iter()
        .partition(|resource| process_of(resource).is_some_and(|process| process != WEB));
    let remove = |gone: Vec<_>| join_all(gone.into_iter().map(|gone| attempt.applier.remove(gone, DataFate::Keep)));
    let (removed, (cut, others)) = tokio::join!(remove(workers), async {
        let cut = drain(attempt, old).await;
        (cut, remove(others).await)
    });
    for failure in removed.into_iter().chain(others).filter_map(Result::err) {
        attempt.recorder.warn(format!("{failure}; it is cleaned up later"));
    }
    match cut {
        0 => "no request was cut".to_owned(),
        cut => format!("{} cut at the end of the drain time", count(cut as usize, "request")),
    }
}

/// What of the old plan is in the way of the new one or left over by it. Never data or networks.
fn obsolete<'a>(old: &'a Plan, plan: &Plan) -> Vec<&'a Resource> {
    let is_obsolete = |resource: &&Resource| match (&resource.spec, plan.get(&resource.key).map(|r| &r.spec)) {
        (Spec::Service(before), Some(Spec::Service(now))) => before.name != now.name,
        (Spec::Cache(before), Some(Spec::Cache(now))) => before.proxy != now.proxy,
        (Spec::Service(_) | Spec::Cache(_) | Spec::Support(_), None) => true,
        _ => false,
    };
    old.resources.iter().filter(is_obsolete).collect()
}

/// Lets a release that no longer serves end its requests; gives how many were cut.
pub async fn drain(attempt: &Attempt, old: &Plan) -> u32 {
    let Some(release) = old.release() else { return 0 };
    let timeout = old.resources.iter().find_map(|resource| match &resource.spec {
        Spec::Route(route) => Some(route.drain),
        _ => None,
    });
    let site = &attempt.site;
    let nodes = nodes_of(&site.instance.cluster, &site.cluster, Layer::Routing);
    let calls = nodes.iter().map(|node| {
        let request =
            Drain { slug: site.slug(), release, timeout: timeout.unwrap_or(Span(std::time::Duration::from_secs(30))) };
        site.state.hub.call(node, request, |_| {})
    });
    let mut cut = 0;
    for drained in join_all(calls).await {
        match drained {
            Ok(drained) => cut += drained.cut,
            Err(error) => attempt.recorder.warn(format!("draining {release}: {error}")),
        }
    }
    cut
}
