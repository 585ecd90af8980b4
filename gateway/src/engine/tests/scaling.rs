//! Numbers of replicas that follow the load: who changes them, what keeps them, and what gives way to whom.

use std::time::Duration;

use magrathea_core::api::{Counts, DeployStatus, ProcessInfo, SourceInfo};
use magrathea_core::names::{DeployId, ProcessName};
use magrathea_core::scaling::Pace;
use magrathea_core::units::Span;

use super::world::{Hang, Held, World, app};
use crate::db::{apps, instances, loads, previews};
use crate::engine;

/// 512 MiB make eight requests at once.
const MANIFEST: &str = "app_layer: {stack: php, replicas: {min: 1, max: 3}}\n";

async fn world() -> World {
    let span = |seconds| Span(Duration::from_secs(seconds));
    World::with(|state| state.pace = Pace { up: span(1), down: span(2), rest: span(1) }).await
}

fn replicas(held: &Held) -> Option<u16> {
    held.wanted.iter().find(|(name, _)| name.contains("-web-") && held.services.contains_key(*name)).map(|(_, n)| *n)
}

async fn becomes(world: &World, count: u16) {
    world.settles(&format!("{count} replicas"), |held| replicas(held) == Some(count)).await;
}

async fn instance(world: &World) -> instances::Instance {
    let conn = world.state().db.conn().await.unwrap();
    let app = apps::load_app(&conn, &app()).await.unwrap().unwrap();
    instances::list_app_instances(&conn, app.id).await.unwrap().remove(0)
}

async fn web(world: &World) -> ProcessInfo {
    engine::processes(world.state(), instance(world).await).await.unwrap().remove(0)
}

async fn messages(world: &World, action: &str) -> Vec<String> {
    let conn = world.state().db.conn().await.unwrap();
    let entries = crate::db::timeline::list(&conn, &world.test.admin.access, Default::default(), 50).await.unwrap();
    let entries = entries.into_iter().rev().filter(|entry| entry.action == action && entry.actor == "gateway");
    entries.map(|entry| entry.message).collect()
}

/// Waits until the gateway has told so many.
async fn scalings(world: &World, count: usize) -> Vec<String> {
    for _ in 0..400 {
        let told = messages(world, "app.scaled").await;
        if told.len() >= count {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {count}: {:?}", messages(world, "app.scaled").await);
}

async fn scale(world: &World, count: Option<u16>) -> magrathea_core::api::DeployInfo {
    let counts = Counts::from([(ProcessName::web(), count)]);
    let deploy = engine::scale(world.state(), &world.test.admin, instance(world).await, counts, 0).await.unwrap();
    world.finished(DeployId(deploy.id)).await
}

#[tokio::test]
async fn the_number_follows_the_load_and_later_deploys_begin_with_it() {
    let world = world().await;
    world.held().busy = Some(7);
    let deploy = world.deploy(MANIFEST).await;
    assert_eq!(deploy.status, DeployStatus::Succeeded);
    becomes(&world, 2).await;
    world.held().busy = Some(1000);
    becomes(&world, 3).await;
    let told = scalings(&world, 2).await;
    assert_eq!(told[0], "blog (default): web 1 → 2: 87 % of 8 at once in use for 1s");
    assert!(told[1].starts_with("blog (default): web 2 → 3: "), "{told:?}");
    let info = web(&world).await;
    let automatic = info.automatic.unwrap();
    assert_eq!((automatic.min, automatic.max, automatic.rests, info.scaled, info.wanted), (1, 3, false, None, 3));
    assert_eq!(info.busy.unwrap().at_once, 24);

    // Neither another release nor an earlier one begins with fewer.
    world.held().busy = None;
    world.deploy(MANIFEST).await;
    becomes(&world, 3).await;
    let back = engine::rollback(world.state(), &world.test.admin, instance(&world).await, None, 0).await.unwrap();
    world.finished(DeployId(back.id)).await;
    becomes(&world, 3).await;
    // Nobody saw anything for a while.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(replicas(&world.held()), Some(3));

    world.held().busy = Some(0);
    becomes(&world, 1).await;
    let told = scalings(&world, 4).await;
    assert!(told[3].contains("web 2 → 1: at most 0 of 16 at once in use"), "{told:?}");
    assert!(!world.timeline().await.contains(&"gateway deploy.started".to_owned()));
    let hours = loads::list_hours(&world.state().db.conn().await.unwrap(), instance(&world).await.id).await.unwrap();
    let seen: u32 = hours.iter().map(|hour| hour.seconds).sum();
    assert!(seen >= 3 && hours.iter().any(|hour| hour.at_once == 24), "{hours:?}");
}

#[tokio::test]
async fn somebodys_number_rests_it_until_it_is_given_back() {
    let world = world().await;
    world.held().busy = Some(0);
    world.deploy(MANIFEST).await;
    assert_eq!(scale(&world, Some(2)).await.status, DeployStatus::Succeeded);
    world.held().busy = Some(1000);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(replicas(&world.held()), Some(2));
    let info = web(&world).await;
    assert!(info.automatic.unwrap().rests && info.scaled == Some(2));
    let deploy = world.submit(MANIFEST, SourceInfo::default()).await.unwrap();
    let events = format!("{:?}", world.events(DeployId(deploy.id)).await);
    assert!(events.contains("web keeps 2, as `td app scale` has set it; magrathea.yml says 1–3 at 70%"), "{events}");

    world.held().busy = None;
    scale(&world, None).await;
    assert_eq!(replicas(&world.held()), Some(2), "it goes on from there");
    world.held().busy = Some(1000);
    becomes(&world, 3).await;
    // A file that names a number has it again.
    world.deploy("app_layer: {stack: php, replicas: 2}\n").await;
    becomes(&world, 2).await;
}

#[tokio::test]
async fn a_window_holds_without_a_load() {
    let world = world().await;
    let window = "{from: 2020-01-01T00:00, until: 2999-01-01T00:00, min: 3}";
    world.deploy(&format!("app_layer: {{stack: php, replicas: {{max: 4, windows: [{window}]}}}}\n")).await;
    becomes(&world, 3).await;
    let told = scalings(&world, 1).await;
    assert_eq!(told, ["blog (default): web 1 → 3: a window wants at least 3 until 2999-01-01T00:00:00Z"]);
    assert_eq!(web(&world).await.automatic.unwrap().window.unwrap().min, 3);
}

#[tokio::test]
async fn a_preview_does_not_live_longer_for_it() {
    let world = world().await;
    world.held().busy = Some(0);
    let branch = SourceInfo { branch: Some("preview/x".into()), ..SourceInfo::default() };
    let manifest = format!("{MANIFEST}labels: {{\"preview/*\": {{}}}}\n");
    let deploy = world.submit(&manifest, branch).await.unwrap();
    world.finished(DeployId(deploy.id)).await;
    let expires = async || {
        let conn = world.state().db.conn().await.unwrap();
        previews::load_preview(&conn, instance(&world).await.id).await.unwrap().unwrap().expires
    };
    let before = expires().await;
    world.held().busy = Some(7);
    scalings(&world, 1).await;
    assert_eq!(expires().await, before);
}

#[tokio::test]
async fn what_fails_is_told_once_and_tried_again() {
    let world = world().await;
    world.held().busy = Some(0);
    world.deploy(MANIFEST).await;
    world.held().fail.insert("AwaitHealthy".into());
    world.held().busy = Some(7);
    world.settles("it has failed", |held| held.fail.is_empty()).await;
    world.held().fail.insert("AwaitHealthy".into());
    world.settles("it has failed again", |held| held.fail.is_empty()).await;
    becomes(&world, 2).await;
    scalings(&world, 1).await;
    assert_eq!(messages(&world, "deploy.failed").await.len(), 1);
}

/// A scaling of the gateway's own is under way, and does not end by itself.
async fn scaling() -> World {
    let world = world().await;
    world.held().busy = Some(0);
    world.deploy(MANIFEST).await;
    world.held().hang = Some(("AwaitHealthy".into(), Hang::Before));
    world.held().busy = Some(7);
    world.reached.notified().await;
    world
}

#[tokio::test]
async fn it_gives_way_to_who_destroys_the_app() {
    let world = scaling().await;
    let conn = world.state().db.conn().await.unwrap();
    let app = apps::load_app(&conn, &app()).await.unwrap().unwrap();
    engine::destroy_app(world.state(), &world.test.admin, &app).await.unwrap();
    assert_eq!(replicas(&world.held()), None);
}

#[tokio::test]
async fn it_gives_way_to_people() {
    let world = scaling().await;
    // Nobody waits for it, and nobody is refused because of it.
    world.held().hang = None;
    let deploy = world.submit(MANIFEST, SourceInfo::default()).await.unwrap();
    let deploy = world.finished(DeployId(deploy.id)).await;
    assert_eq!((deploy.status, deploy.person.as_str()), (DeployStatus::Succeeded, "admin"));
    becomes(&world, 2).await;
}
