//! A cluster of one node in memory, and what tests do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use magrathea_core::api::{DeployEvent, DeployEventKind, DeployInfo, SourceInfo};
use magrathea_core::names::{AppName, DeployId, ReleaseNumber};
use magrathea_core::plan::{ServiceMode, Spec};
use magrathea_core::usage::Then;
use magrathea_core::wire::*;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::api::error::ApiError;
use crate::engine;
use crate::hub::NodeRef;
use crate::hub::fake::FakeAgent;
use crate::services::access::InstanceName;
use crate::state::State;
use crate::testing::{self, TestState};

/// What the node holds.
#[derive(Debug, Default)]
pub struct Held {
    pub services: BTreeMap<String, Option<u32>>,
    pub images: BTreeMap<String, BTreeMap<String, String>>,
    pub serving: Option<u32>,
    /// The release on trial and its share.
    pub canary: Option<(u32, u8)>,
    /// The text of the cache.
    pub cache: Option<String>,
    /// The PEM text of the route's certificate.
    pub certificate: Option<String>,
    /// Services that somebody gave another number of replicas, by the name of their process.
    pub scaled: BTreeMap<String, u16>,
    pub databases: BTreeSet<String>,
    /// Each action in order, as in `Ensure app/web` or `Build`.
    pub calls: Vec<String>,
    /// Actions that fail, once each.
    pub fail: BTreeSet<String>,
    /// An action that does not end until told, before its effect or after it.
    pub hang: Option<(String, Hang)>,
    /// Streams that were asked for.
    pub streams: Vec<OpenStream>,
    /// The values that each service was given.
    pub given: BTreeMap<String, BTreeMap<String, String>>,
    /// How many requests each instance has, in each second; nobody sees it when absent.
    pub busy: Option<u32>,
    /// By service.
    pub wanted: BTreeMap<String, u16>,
    /// Whose visitors get less.
    pub limited: BTreeMap<String, Then>,
    /// The swarm that it was told to enter.
    pub entry: Option<Entry>,
    /// Other nodes by name, and whether they take replicas.
    pub admitted: BTreeMap<String, bool>,
    built: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    Before,
    After,
    /// Before, until [`Held::hang`] is taken away.
    Pause,
}

pub struct World {
    pub test: TestState,
    pub held: Arc<Mutex<Held>>,
    /// Told when the hanging action is reached.
    pub reached: Arc<Notify>,
    agent: Option<FakeAgent>,
    /// Those of other nodes.
    others: Vec<FakeAgent>,
}

pub fn node() -> NodeRef {
    NodeRef { cluster: "local".parse().unwrap(), node: "node1".parse().unwrap() }
}

pub fn app() -> AppName {
    "blog".parse().unwrap()
}

/// An instance of the app, wherever its label lives.
pub fn named(label: &str) -> InstanceName {
    InstanceName { app: app(), label: label.parse().unwrap(), cluster: None }
}

impl World {
    pub async fn new() -> Self {
        World::with(|_| {}).await
    }

    /// With a gateway that is changed before it begins.
    pub async fn with(change: impl FnOnce(&mut State)) -> Self {
        let mut test = testing::state().await;
        change(Arc::get_mut(&mut test.state).unwrap());
        let mut world = World { test, held: Arc::default(), reached: Arc::default(), agent: None, others: Vec::new() };
        engine::start(world.state());
        world.connect();
        world
    }

    pub fn state(&self) -> &Arc<State> {
        &self.test.state
    }

    pub fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    pub fn connect(&mut self) {
        self.agent = Some(self.agent_of(&node(), &self.held));
    }

    /// Brings another node; gives what it holds.
    pub fn join(&mut self, cluster: &str, node: &str) -> Arc<Mutex<Held>> {
        self.join_with(cluster, node, Held::default())
    }

    /// The same with one that holds something.
    pub fn join_with(&mut self, cluster: &str, node: &str, held: Held) -> Arc<Mutex<Held>> {
        let held = Arc::new(Mutex::new(held));
        let node = NodeRef { cluster: cluster.parse().unwrap(), node: node.parse().unwrap() };
        self.others.push(self.agent_of(&node, &held));
        held
    }

    /// Loses the other nodes' connections.
    pub fn lose_others(&mut self) {
        self.others.clear();
    }

    fn agent_of(&self, node: &NodeRef, held: &Arc<Mutex<Held>>) -> FakeAgent {
        let names = [
            "base",
            "router",
            "varnish",
            "nginx",
            "mariadb",
            "memcached",
            "static",
            "php",
            "php-build",
            "tomcat",
            "tomcat-build",
        ];
        // Each node builds its own.
        let whose = if node.node.as_str() == "node1" { "" } else { node.node.as_str() };
        let image = |name: &&str| ((*name).to_owned(), format!("sha256:{:0>64}", format!("{whose}{name}")));
        let report = NodeReport {
            cpus: 4,
            memory: 16 << 30,
            disk_total: 100 << 30,
            instance_gateway: Some("172.18.0.1".parse().unwrap()),
            images: names.iter().map(image).collect(),
            ..Default::default()
        };
        let (held, reached, given) = (Arc::clone(held), Arc::clone(&self.reached), report.clone());
        let serve: crate::hub::fake::Serve = Arc::new(move |action| {
            let (held, reached, report) = (Arc::clone(&held), Arc::clone(&reached), given.clone());
            Box::pin(async move {
                let name = name_of(&action);
                let hang = {
                    let mut held = held.lock().unwrap();
                    // They are asked all the time.
                    if name != "ReadLoad" && name != "Limit" {
                        held.calls.push(name.clone());
                    }
                    if held.fail.remove(&name) {
                        return Err(error(&action));
                    }
                    held.hang.clone().filter(|(hanging, _)| *hanging == name).map(|(_, hang)| hang)
                };
                if name == "Watch" {
                    // Its caller asks again and again.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if hang == Some(Hang::Pause) {
                    reached.notify_one();
                    while held.lock().unwrap().hang.is_some() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                if hang == Some(Hang::Before) {
                    reached.notify_one();
                    std::future::pending::<()>().await;
                }
                let reply = act(&mut held.lock().unwrap(), action, report);
                if hang == Some(Hang::After) {
                    reached.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(reply)
            })
        });
        FakeAgent::connect(&self.test.state.hub, node, report, serve)
    }

    /// Kills the gateway, as far as it can be done in one process: all its tasks end where they are. Then starts it.
    pub async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    /// The same with a gateway that is changed before it begins.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut State)) {
        self.test.state.shutdown.cancel();
        self.agent = None;
        self.test.state.tasks.close();
        let tasks = &self.test.state.tasks;
        let ended = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
        assert!(ended.is_ok(), "they run on: {}", tasks.left());
        self.held().hang = None;
        self.test.reopen();
        change(Arc::get_mut(&mut self.test.state).unwrap());
        engine::start(&self.test.state);
        self.connect();
    }

    /// Loses the node's connection.
    pub fn disconnect(&mut self) {
        self.agent = None;
    }

    pub async fn submit(&self, manifest: &str, info: SourceInfo) -> Result<DeployInfo, ApiError> {
        let body = archive(&[("magrathea.yml", manifest), ("index.php", "<?php echo 1;")]);
        let body = futures_util::stream::iter([Ok::<_, String>(body)]);
        let info = SourceInfo { create: true, ..info };
        engine::submit(self.state(), &self.test.admin, &app(), info, body).await
    }

    /// Deploys and waits for the end.
    pub async fn deploy(&self, manifest: &str) -> DeployInfo {
        let deploy = self.submit(manifest, SourceInfo::default()).await.unwrap();
        self.finished(DeployId(deploy.id)).await
    }

    pub async fn finished(&self, id: DeployId) -> DeployInfo {
        match self.events(id).await.pop().unwrap().event {
            DeployEventKind::Finished { deploy } => *deploy,
            other => panic!("{other:?} is not the end"),
        }
    }

    pub async fn events(&self, id: DeployId) -> Vec<DeployEvent> {
        let events = engine::follow(Arc::clone(self.state()), id, 0).collect();
        tokio::time::timeout(Duration::from_secs(20), events).await.expect("the deploy does not end")
    }

    /// Waits until the node holds what it should.
    pub async fn settles(&self, what: &str, check: impl Fn(&Held) -> bool) {
        for _ in 0..400 {
            if check(&self.held()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:#?}", self.held());
    }

    /// Waits until nobody asks the node for anything any more.
    pub async fn quiet(&self) {
        let mut before = usize::MAX;
        loop {
            let now = self.held().calls.len();
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub async fn timeline(&self) -> Vec<String> {
        let conn = self.state().db.conn().await.unwrap();
        let entries = crate::db::timeline::list(&conn, &self.test.admin.access, Default::default(), 50).await.unwrap();
        let entries = entries.into_iter().rev().filter(|entry| !entry.action.starts_with("node."));
        entries.map(|entry| format!("{} {}", entry.actor, entry.action)).collect()
    }
}

fn name_of(action: &Action) -> String {
    match action {
        Action::Ensure(ensure) => format!("Ensure {}", ensure.resource.key),
        Action::Remove(remove) => format!("Remove {}", remove.resource.key),
        Action::RunOnce(run) => format!("RunOnce {}", run.command),
        other => other.name().to_owned(),
    }
}

fn error(action: &Action) -> ActionError {
    let kind = match action {
        Action::Build(_) => ActionErrorKind::CommandFailed,
        Action::AwaitHealthy(_) | Action::Watch(_) => ActionErrorKind::Unhealthy,
        Action::RunOnce(_) => ActionErrorKind::CommandFailed,
        Action::Ensure(_) => ActionErrorKind::Refused,
        _ => ActionErrorKind::Node,
    };
    ActionError { kind, message: "as the test wants it".into(), hint: None, log_tail: vec!["last words".into()] }
}

fn act(held: &mut Held, action: Action, report: NodeReport) -> Value {
    match action {
        Action::Report(_) => json!(report),
        Action::Join(join) => {
            held.entry = join.entry;
            json!(Joined { created: false, instance_gateway: "172.18.0.1".parse().unwrap(), id: "n2".into() })
        }
        Action::Invite(_) => {
            json!(Entry { manager: "192.0.2.1:2377".into(), id: "n1".into(), token: JoinToken("SWMTKN-1".into()) })
        }
        Action::Admit(admit) => {
            held.admitted.insert(admit.name.to_string(), true);
            json!(Admitted {})
        }
        Action::Suspend(suspend) => {
            held.admitted.insert(suspend.name.to_string(), false);
            json!(Suspended { changed: true })
        }
        Action::Ensure(ensure) => {
            let mut serving = None;
            match &ensure.resource.spec {
                Spec::Service(service) => {
                    let release = service.name.rsplit_once("-v").and_then(|(_, n)| n.parse().ok());
                    held.scaled.retain(|process, _| !service.name.contains(&format!("-{process}-")));
                    if let ServiceMode::Replicated(replicas) = service.mode {
                        held.wanted.insert(service.name.clone(), replicas);
                    }
                    held.services.insert(service.name.clone(), release);
                    held.given.insert(service.name.clone(), ensure.secrets.clone());
                }
                Spec::Cache(cache) => held.cache = Some(cache.text.clone()),
                Spec::Database(database) => {
                    let password = &ensure.secrets["DB_PASSWORD"];
                    assert_eq!(password.len(), 32);
                    held.databases.insert(database.name.clone());
                }
                Spec::Route(route) => {
                    assert!(held.services.contains_key(&route.service), "routed to a service that is not there");
                    held.canary = route.canary.map(|share| (route.release.0, share));
                    if route.canary.is_none() {
                        held.serving = Some(route.release.0);
                        held.certificate = ensure.secrets.get("certificate").cloned();
                    }
                    serving = Some(Serving { release: held.serving.map(ReleaseNumber), replicas: Vec::new() });
                }
                _ => {}
            }
            json!(Ensured { changed: true, serving })
        }
        Action::Remove(remove) => {
            match &remove.resource.spec {
                Spec::Service(service) => {
                    held.services.remove(&service.name);
                }
                Spec::Cache(_) => held.cache = None,
                Spec::Route(_) => held.serving = None,
                Spec::Database(database) if remove.data == DataFate::Destroy => {
                    held.databases.remove(&database.name);
                }
                _ => {}
            }
            json!(Removed { changed: true })
        }
        Action::Build(build) => {
            held.built += 1;
            let image = format!("sha256:{:0>64}", format!("b{}", held.built));
            held.images.insert(image.clone(), build.labels);
            json!(Built { image, size: 1000 })
        }
        Action::AwaitHealthy(_) => json!(Healthy { replicas: Vec::new() }),
        Action::Watch(_) => json!(Watched {}),
        Action::Drain(_) => json!(Drained { cut: 0 }),
        Action::RunOnce(_) => json!(RanOnce { exit_code: 0 }),
        Action::Inventory(_) => {
            let wanted = |name: &str| {
                let scaled = held.scaled.iter().find(|(process, _)| name.contains(&format!("-{process}-")));
                scaled.map(|(_, n)| *n).or(held.wanted.get(name).copied()).unwrap_or(1)
            };
            let service = |(name, release): (&String, &Option<u32>)| HeldService {
                name: name.clone(),
                slug: name.split('-').next().filter(|slug| slug.len() == 13).map(str::to_owned),
                release: release.map(ReleaseNumber),
                running: 1,
                wanted: wanted(name),
            };
            let image = |(id, labels): (&String, &BTreeMap<String, String>)| HeldImage {
                id: id.clone(),
                labels: labels.clone(),
                size: 1,
            };
            let (services, images) = (held.services.iter().map(service), held.images.iter().map(image));
            json!(Holdings { services: services.collect(), images: images.collect() })
        }
        Action::DescribeImage(image) => {
            let held = held.images.contains_key(&image.id);
            json!(Described { image: held.then(|| ImageLayers { layers: vec!["base".into(), "app".into()], size: 8 }) })
        }
        Action::CountLayers(_) => json!(KnownLayers { count: 1 }),
        Action::Prune(prune) => {
            for name in &prune.services {
                held.services.remove(name);
            }
            for id in &prune.images {
                held.images.remove(id);
            }
            let removed = prune.services.into_iter().chain(prune.images).collect();
            json!(Pruned { removed, left: BTreeMap::new() })
        }
        Action::ReadServing(_) => {
            let replica = Replica { container: "c".into(), address: "10.0.0.2:80".into(), state: "up".into() };
            let release = held.serving.map(ReleaseNumber);
            json!(Serving { release, replicas: release.map(|_| replica).into_iter().collect() })
        }
        Action::ReadUsage(_) => json!(LiveUsage::default()),
        Action::Limit(limit) => {
            held.limited = limit.then;
            json!(Limited { changed: true })
        }
        Action::ReadLoad(asked) => {
            let now = jiff::Timestamp::now().as_second();
            let slugs =
                held.services.keys().filter_map(|name| name.split_once("-web-")).map(|(slug, _)| slug.to_owned());
            let slugs: BTreeSet<String> = slugs.collect();
            let second = |busy: u32| {
                let busy: BTreeMap<String, u32> = slugs.iter().map(|slug| (slug.clone(), busy)).collect();
                move |at| LoadSecond { at, busy: busy.clone() }
            };
            let seconds = (now - 59).max(asked.after + 1)..=now;
            json!(Loads { now, seconds: held.busy.map(|busy| seconds.map(second(busy)).collect()).unwrap_or_default() })
        }
        Action::OpenStream(asked) => {
            held.streams.push(asked);
            json!(Opened {})
        }
        Action::Shutdown(_) => json!(Removed { changed: true }),
    }
}

pub fn archive(files: &[(&str, &str)]) -> Bytes {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap().into()
}
