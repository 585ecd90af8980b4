//! Who may open a door, and what closes it, against an agent that keeps its world in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use magrathea_core::api::RunStatus;
use magrathea_core::names::{LabelName, OrganisationId};
use magrathea_core::people::{Access, Grant, Role, Scope};
use magrathea_core::wire::{ActionErrorKind, Frame};

use super::*;
use crate::doors;
use crate::engine::tests::world::{Hang, World, app, named, node};
use crate::hub::StreamEnd;
use crate::services::people::actor_of_token;

const APP: &str = "
app_layer: {stack: php}
db: {mysql: {}}
storage: {writable: {uploads: {kind: shared}}}
";

fn label() -> LabelName {
    "default".parse().unwrap()
}

fn somebody(world: &World, grants: Vec<Grant>) -> Actor {
    Actor { access: Arc::new(Access { grants, limits: None }), ..world.test.admin.clone() }
}

/// Opens a shell; gives both ends of it.
async fn open(world: &World, actor: &Actor) -> (StreamHandle, StreamEnd) {
    let state = world.state();
    let name = named(label().as_str());
    let coming = async {
        loop {
            let asked = world.held().streams.pop();
            if let Some(asked) = asked {
                return state.hub.accept_stream(&node(), asked.id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (handle, end) = tokio::join!(shell(state, actor, &name, ShellRequest::default()), coming);
    (handle.unwrap(), end)
}

#[tokio::test]
async fn only_those_who_may_operate_get_in() {
    let world = World::new().await;
    world.deploy(APP).await;
    let state = world.state();
    let stored = crate::db::apps::load_app(&state.db.conn().await.unwrap(), &app()).await.unwrap().unwrap();
    let staging = "staging".parse().unwrap();
    let role = |role, scope| vec![Grant { role, scope }];
    for (grants, code) in [
        (Vec::new(), Code::AppNotFound),
        (role(Role::Administrator, Scope::Organisation(OrganisationId(Uuid::now_v7()))), Code::AppNotFound),
        (role(Role::Accountant, Scope::App(stored.id)), Code::Forbidden),
        (role(Role::Viewer, Scope::App(stored.id)), Code::Forbidden),
        (role(Role::Developer, Scope::Organisation(stored.organisation_id)), Code::Forbidden),
        (role(Role::Operator, Scope::Label(stored.id, staging)), Code::InstanceNotFound),
    ] {
        let actor = somebody(&world, grants.clone());
        let name = named(label().as_str());
        let refused = |error: Option<ApiError>| error.map(|error| error.code);
        let opened = shell(state, &actor, &name, ShellRequest::default()).await.err();
        assert_eq!(refused(opened), Some(code), "shell: {grants:?}");
        let opened = files(state, &actor, &name, FilesProgram::Sftp).await.err();
        assert_eq!(refused(opened), Some(code), "files: {grants:?}");
        let wanted = magrathea_core::api::StartRun { command: "true".into(), time_limit: None };
        assert_eq!(refused(runs::start(state, &actor, &name, wanted).await.err()), Some(code), "run: {grants:?}");
    }
    assert!(world.held().streams.is_empty());
    let operator = somebody(&world, role(Role::Operator, Scope::Label(stored.id, label())));
    open(&world, &operator).await;
    // What the instance does not have is told.
    let name = named(label().as_str());
    let missing = tunnel(state, &operator, &name, TunnelTo::Memcached).await.err().unwrap();
    assert_eq!(missing.code, Code::ServiceMissing);
}

async fn messages(world: &World) -> Vec<String> {
    let conn = world.state().db.conn().await.unwrap();
    let lines = crate::db::timeline::list(&conn, &world.test.admin.access, Default::default(), 50).await.unwrap();
    lines.into_iter().map(|line| format!("{} {}", line.action, line.message)).collect()
}

#[tokio::test]
async fn frames_pass_and_the_end_is_on_the_timeline() {
    let world = World::new().await;
    world.deploy(APP).await;
    let (mut handle, mut end) = open(&world, &world.test.admin).await;
    let data = |text: &'static str| Frame::Data(Bytes::from_static(text.as_bytes()));
    handle.to.send(data("ls\n")).await.unwrap();
    assert_eq!(end.outgoing.recv().await, Some(data("ls\n")));
    end.incoming.send(data("index.php\n")).await.unwrap();
    end.incoming.send(Frame::Exit { code: 3 }).await.unwrap();
    assert_eq!(handle.from.recv().await, Some(data("index.php\n")));
    assert_eq!(handle.from.recv().await, Some(Frame::Exit { code: 3 }));
    assert_eq!(handle.from.recv().await, None);
    let told = |lines: &[String], part: &str| lines.iter().any(|line| line.contains(part));
    for _ in 0..200 {
        if told(&messages(&world).await, "exit 3") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let lines = messages(&world).await;
    assert!(told(&lines, "shell.opened") && told(&lines, "shell.closed") && told(&lines, "exit 3"), "{lines:#?}");
}

#[tokio::test]
async fn a_door_closes_when_its_token_is_gone() {
    let world = World::new().await;
    world.deploy(APP).await;
    let state = world.state();
    state.tasks.spawn(doors::watch(Arc::clone(state)));
    let actor = actor_of_token(state, &world.test.token, [127, 0, 0, 1].into()).await.unwrap().unwrap();
    let (mut handle, mut end) = open(&world, &actor).await;
    state.db.conn().await.unwrap().execute("DELETE FROM tokens", &[]).await.unwrap();
    let began = std::time::Instant::now();
    let last = tokio::time::timeout(Duration::from_secs(10), handle.from.recv()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let Some(Frame::Failed(error)) = last else { panic!("{last:?}") };
    assert_eq!(error.kind, ActionErrorKind::Cancelled);
    // The node is told at once, and ends what runs.
    let ended = tokio::time::timeout(Duration::from_secs(1), end.outgoing.recv()).await;
    assert_eq!(ended.unwrap(), None);
}

async fn run(world: &World, command: &str) -> magrathea_core::api::RunInfo {
    let wanted = magrathea_core::api::StartRun { command: command.into(), time_limit: None };
    runs::start(world.state(), &world.test.admin, &named(label().as_str()), wanted).await.unwrap()
}

/// How a run stands once that is no longer as it was.
async fn status(world: &World, id: Uuid, before: RunStatus) -> RunStatus {
    for _ in 0..1000 {
        let found = runs::find(world.state(), &world.test.admin, id).await.unwrap().status;
        if found != before {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    before
}

#[tokio::test]
async fn a_run_outlives_its_nodes_absence() {
    let mut world = World::new().await;
    world.deploy(APP).await;
    world.held().hang = Some(("RunOnce long".into(), Hang::Before));
    let begun = run(&world, "long").await;
    world.reached.notified().await;
    world.disconnect();
    // Longer than any other call waits for a node.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = runs::find(world.state(), &world.test.admin, begun.id).await.unwrap();
    assert_eq!(found.status, RunStatus::Running, "{found:?}");
    world.held().hang = None;
    world.connect();
    assert_eq!(status(&world, begun.id, RunStatus::Running).await, RunStatus::Ended);
    assert_eq!(world.held().calls.iter().filter(|call| *call == "RunOnce long").count(), 2);
}

#[tokio::test]
async fn what_a_run_leaves_goes_when_its_node_is_back() {
    let mut world = World::new().await;
    world.deploy(APP).await;
    world.held().hang = Some(("RunOnce long".into(), Hang::Before));
    let (stopped, going) = (run(&world, "long").await, run(&world, "long").await);
    let slug = magrathea_core::names::InstanceId(stopped.instance).slug();
    let names = [stopped.id, going.id].map(|id| runs::service_name(&slug, id));
    world.reached.notified().await;
    world.disconnect();
    for name in &names {
        world.held().services.insert(name.clone(), None);
    }
    runs::stop(world.state(), &world.test.admin, stopped.id).await.unwrap();
    world.connect();
    world.settles("the stopped run's service is removed", |held| !held.services.contains_key(&names[0])).await;
    world.quiet().await;
    assert!(world.held().services.contains_key(&names[1]), "the other goes on");
}
