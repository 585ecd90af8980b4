//! What each action of the wire does here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, TryFutureExt};
use magrathea_core::plan::{SeedSpec, Spec, crossing_name};
use magrathea_core::wire::*;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::build::{self, Blobs};
use crate::clean::SWARM_MARKER;
use crate::crossing;
use crate::engine::Ours;
use crate::fail::{Doing, Outcome, cancelled, node, with_hint};
use crate::node::NodeAgent;
use crate::reporter::Reporter;
use crate::streams::Streams;
use crate::{database, firewall, folders, health, run_once, storage};

const BRIDGE_TRIES: u32 = 50;
const BRIDGE_PAUSE: Duration = Duration::from_millis(100);

/// What a call brings beside its action.
#[derive(Debug, Clone)]
pub struct Call {
    pub reporter: Reporter,
    pub blobs: Blobs,
    pub streams: Streams,
    /// The gateway no longer wants it.
    pub cancel: CancellationToken,
}

/// Performs an action; the reply as JSON. Each action is boxed: together they would make a future that fills a stack.
pub async fn perform(agent: &Arc<NodeAgent>, call: &Call, action: Action) -> Outcome<serde_json::Value> {
    match action {
        Action::Report(_) => reply(report(agent).boxed().await),
        Action::Join(action) => reply(join(agent, &action).boxed().await),
        Action::Invite(_) => reply(agent.engine.invite().boxed().await),
        Action::Admit(action) => reply(agent.engine.admit(&action).boxed().await.map(|()| Admitted {})),
        Action::Suspend(action) => {
            reply(agent.engine.suspend(&action.name).boxed().await.map(|changed| Suspended { changed }))
        }
        Action::Ensure(action) => unless_cancelled(call, reply_of(ensure(agent, action)).boxed()).await,
        Action::Remove(action) => reply(remove(agent, action).boxed().await),
        Action::Build(action) => {
            let _turn = agent.serial.turn(format!("build {}", action.cache)).await;
            let built = build::build(&agent.engine, &agent.folders, &call.blobs, &action, &call.reporter, &call.cancel);
            reply(built.boxed().await)
        }
        Action::AwaitHealthy(action) => {
            let healthy = health::await_healthy(agent, &action);
            unless_cancelled(call, reply_of(healthy).boxed()).await
        }
        Action::Watch(action) => {
            let watched = health::watch(agent, &action);
            unless_cancelled(call, reply_of(watched).boxed()).await
        }
        Action::Drain(action) => {
            let drained = agent.router.drain(&action.slug, action.release, action.timeout.0);
            unless_cancelled(call, reply_of(drained).boxed()).await
        }
        Action::RunOnce(action) => {
            let _turn = agent.serial.turn(format!("run {}", action.name)).await;
            let ran = run_once::run_once(&agent.engine, &agent.folders, &action, &call.reporter, &call.cancel);
            reply(ran.boxed().await)
        }
        Action::Inventory(_) => reply(inventory(agent).boxed().await),
        Action::DescribeImage(action) => {
            let described = agent.engine.describe_release(&action.id).boxed().await;
            reply(described.map(|image| Described { image }))
        }
        Action::CountLayers(action) => {
            let counted = agent.engine.count_layers(&action.layers).boxed().await;
            reply(counted.map(|count| KnownLayers { count }))
        }
        Action::Prune(action) => reply(prune(agent, &action).boxed().await),
        Action::ReadServing(action) => reply(agent.router.read(&action.slug).await),
        Action::ReadUsage(_) => reply(Ok(LiveUsage { instances: agent.usage.live() })),
        Action::ReadLoad(action) => reply(Ok(agent.router.load(action.after))),
        Action::Limit(action) => reply(agent.router.limit(action.then).await.map(|changed| Limited { changed })),
        Action::OpenStream(action) => {
            let opened = call.streams.open(agent, action).map_ok(|()| Opened {});
            unless_cancelled(call, reply_of(opened).boxed()).await
        }
        Action::Shutdown(_) => {
            let removed = async {
                if services(agent).await?.is_empty() { Ok(false) } else { agent.engine.remove_all_services().await }
            };
            reply(removed.boxed().await.map(|changed| Removed { changed }))
        }
    }
}

fn reply<T: Serialize>(outcome: Outcome<T>) -> Outcome<serde_json::Value> {
    serde_json::to_value(outcome?).doing(|| "encoding a reply".into())
}

async fn reply_of<T: Serialize>(work: impl Future<Output = Outcome<T>>) -> Outcome<serde_json::Value> {
    reply(work.await)
}

/// For work that may be left at any point: whatever it did is found done by the next try.
async fn unless_cancelled(
    call: &Call,
    work: impl Future<Output = Outcome<serde_json::Value>>,
) -> Outcome<serde_json::Value> {
    tokio::select! {
        () = call.cancel.cancelled() => Err(cancelled()),
        outcome = work => outcome,
    }
}

/// What is on the node.
pub async fn report(agent: &NodeAgent) -> Outcome<NodeReport> {
    let mut report = agent.engine.report().await?;
    let disk = agent.folders.disk()?;
    (report.disk_total, report.disk_free) = (disk.total, disk.free);
    report.trouble = agent.usage.trouble().borrow().clone();
    Ok(report)
}

async fn join(agent: &NodeAgent, action: &Join) -> Outcome<Joined> {
    let _turn = agent.serial.turn("join".into()).await;
    let no_bridge = agent.engine.instance_gateway().await?.is_none();
    let marker = agent.folders.state(SWARM_MARKER);
    let created = match &action.entry {
        Some(entry) => {
            let ours = if folders::load::<bool>(&marker)?.is_some() { Ours::Yes } else { Ours::No };
            let was_out = agent.engine.swarm_state().await? == "inactive";
            if was_out {
                // The engine may get in after it has told that it did not.
                folders::store(&marker, &no_bridge)?;
            }
            let entered = agent.engine.enter_swarm(action.advertise, entry, ours).await;
            if entered.is_err() && was_out && agent.engine.swarm_state().await? == "inactive" {
                folders::remove_file(&marker)?;
            }
            entered?
        }
        None => agent.engine.make_swarm(action.advertise).await?,
    };
    if created {
        folders::store(&marker, &no_bridge)?;
    }
    // A node that has entered is labelled by its manager, when everything that replicas need is there.
    if action.entry.is_none() {
        agent.engine.label_node(&action.layers, action.zone.as_deref()).await?;
        agent.engine.dismiss_others(&action.others).await?;
    }
    let mut gateway = agent.engine.instance_gateway().await?;
    // The engine makes the bridge a moment after the swarm.
    for _ in 0..BRIDGE_TRIES {
        if gateway.is_some() || !created {
            break;
        }
        tokio::time::sleep(BRIDGE_PAUSE).await;
        gateway = agent.engine.instance_gateway().await?;
    }
    let instance_gateway = gateway.ok_or_else(|| {
        with_hint(
            node("the engine has no docker_gwbridge network"),
            "leave and make the swarm again, or restart the engine",
        )
    })?;
    Ok(Joined { created, instance_gateway, id: agent.engine.swarm_id().await? })
}

async fn ensure(agent: &NodeAgent, action: Ensure) -> Outcome<Ensured> {
    let Ensure { resource, secrets } = action;
    let _turn = agent.serial.turn(turn_of(&resource.spec)).await;
    let (engine, folders) = (&agent.engine, &agent.folders);
    let changed = match &resource.spec {
        Spec::Network(spec) => engine.ensure_overlay(&spec.name).await?,
        Spec::Storage(spec) => storage::ensure(folders, spec).await?,
        Spec::Seed(spec) => storage::seed(engine, folders, spec).await?,
        Spec::Assets(spec) => storage::keep_assets(engine, folders, spec).await?,
        Spec::Database(spec) => database::ensure(agent, spec, &secrets).await.map(|()| true)?,
        Spec::Service(spec) => {
            let changed = engine.ensure_service(spec, (resource.layer, &resource.key), &secrets, folders).await?;
            if let Some(slug) = crossing::slug_of(&spec.name) {
                crossing::open(engine, folders, &slug).await?;
            }
            if changed {
                // Swarm has chosen which replicas are too many, and tells them to end in three seconds.
                agent.router.leave_out(engine.going(spec).await?).await?;
            }
            changed
        }
        Spec::Cache(spec) => agent.caches.ensure(spec).await?,
        Spec::Route(spec) => {
            let (changed, serving) = agent.router.ensure(spec.clone(), secrets).await?;
            return Ok(Ensured { changed, serving: Some(serving) });
        }
        // Carried out by a later part of the product.
        Spec::Support(_) => false,
        Spec::Logs(spec) => agent.logs.bound(&spec.slug, &spec.bounds)?,
        Spec::Router(spec) => agent.router.configure(spec.clone()).await?,
        Spec::Firewall(spec) => firewall::ensure(engine, folders, spec).await?,
    };
    Ok(Ensured { changed, serving: None })
}

async fn remove(agent: &NodeAgent, action: Remove) -> Outcome<Removed> {
    let _turn = agent.serial.turn(turn_of(&action.resource.spec)).await;
    let (engine, folders) = (&agent.engine, &agent.folders);
    let destroy = action.data == DataFate::Destroy;
    let changed = match &action.resource.spec {
        Spec::Network(spec) => {
            // One that an earlier release left would hold the network.
            remove_service(agent, &crossing_name(&spec.name)).await?;
            engine.remove_network(&engine.prefix().name(&spec.name)).await?
        }
        Spec::Storage(spec) if destroy => storage::destroy(folders, spec).await?,
        Spec::Database(spec) if destroy => database::destroy(agent, spec).await.map(|()| true)?,
        Spec::Logs(spec) if destroy => {
            agent.usage.forget(&spec.slug);
            agent.logs.destroy(&spec.slug)?
        }
        Spec::Storage(_) | Spec::Database(_) | Spec::Seed(_) | Spec::Assets(_) | Spec::Support(_) | Spec::Logs(_) => {
            false
        }
        Spec::Service(spec) => remove_service(agent, &spec.name).await?,
        Spec::Cache(spec) => agent.caches.remove(&spec.slug).await?,
        Spec::Route(spec) => agent.router.remove(&spec.slug).await?,
        Spec::Router(_) => agent.router.unconfigure().await?,
        Spec::Firewall(_) => firewall::remove(engine, folders).await?,
    };
    Ok(Removed { changed })
}

/// Removes a service by the plan's name, with what is remembered of it.
async fn remove_service(agent: &NodeAgent, name: &str) -> Outcome<bool> {
    agent.checks.forget(name);
    agent.router.forget(name).await?;
    if let Some(slug) = crossing::slug_of(name) {
        crossing::close(&agent.folders, &slug).await?;
    }
    agent.engine.remove_service(&agent.engine.prefix().name(name)).await
}

/// What must not be touched by two calls at once.
fn turn_of(spec: &Spec) -> String {
    match spec {
        Spec::Network(spec) => format!("network {}", spec.name),
        Spec::Storage(spec) | Spec::Seed(SeedSpec { storage: spec, .. }) => format!("storage {}", spec.slug),
        Spec::Assets(spec) => format!("assets {}", spec.storage.slug),
        Spec::Database(spec) => format!("database {}", spec.name),
        Spec::Service(spec) => format!("service {}", spec.name),
        Spec::Cache(spec) => format!("cache {}", spec.slug),
        Spec::Route(spec) => format!("route {}", spec.slug),
        Spec::Support(_) => "support".into(),
        Spec::Logs(spec) => format!("logs {}", spec.slug),
        Spec::Router(_) => "router".into(),
        Spec::Firewall(_) => "firewall".into(),
    }
}

/// The services that this node's engine manages: those of the whole swarm on its manager, none on another node.
async fn services(agent: &NodeAgent) -> Outcome<Vec<HeldService>> {
    match agent.engine.swarm_state().await?.as_str() {
        "worker" => Ok(Vec::new()),
        _ => agent.engine.list_services().await,
    }
}

async fn inventory(agent: &NodeAgent) -> Outcome<Holdings> {
    firewall::refresh(&agent.engine, &agent.folders).await?;
    Ok(Holdings { services: services(agent).await?, images: agent.engine.list_release_images().await? })
}

async fn prune(agent: &NodeAgent, action: &Prune) -> Outcome<Pruned> {
    let mut pruned = Pruned::default();
    let own: Vec<_> = services(agent).await?.into_iter().map(|service| service.name).collect();
    for name in &action.services {
        let outcome = if own.contains(name) { remove_service(agent, name).await } else { Ok(false) };
        note(&mut pruned, name, outcome);
    }
    for id in &action.images {
        note(&mut pruned, id, agent.engine.remove_image(id).await);
    }
    Ok(pruned)
}

fn note(pruned: &mut Pruned, name: &str, outcome: Outcome<bool>) {
    match outcome {
        Ok(_) => pruned.removed.push(name.to_owned()),
        Err(error) => drop(pruned.left.insert(name.to_owned(), error.message)),
    }
}
