//! A cluster of two nodes: one carries all layers, the other replicas.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use magrathea_core::api::{DeployStatus, SourceInfo};
use magrathea_core::clusters::parse_clusters;
use magrathea_core::names::{DeployId, InstanceId};

use super::world::{Hang, Held, World, archive};
use crate::db::{apps, plans};
use crate::engine;
use crate::testing::CLUSTERS;

/// A gateway of that cluster, and what the second node holds: the images of the first releases, as if they had been brought.
async fn two_nodes() -> (World, Arc<Mutex<Held>>) {
    let mut world = World::new().await;
    let first = CLUSTERS.replace("127.0.0.1", "192.0.2.1");
    let two = format!("{first}      node2: {{address: 192.0.2.2, layers: [app], zone: b}}\n");
    world.test.clusters.send_replace(Arc::new(parse_clusters("clusters.yml", &two).unwrap()));
    let second = join(&mut world).await;
    (world, second)
}

/// Brings the second node, and waits until it takes replicas.
async fn join(world: &mut World) -> Arc<Mutex<Held>> {
    join_failing(world, &[]).await
}

/// The same, where these actions fail once.
async fn join_failing(world: &mut World, fail: &[&str]) -> Arc<Mutex<Held>> {
    let mut held = Held::default();
    held.images = (1..9).map(|n| (format!("sha256:{:0>64}", format!("b{n}")), Default::default())).collect();
    held.fail = fail.iter().map(|action| (*action).to_owned()).collect();
    let second = world.join_with("local", "node2", held);
    world.settles("the node is admitted", |held| held.admitted.get("node2") == Some(&true)).await;
    second
}

/// Loses it, and waits until it gets no new replicas.
async fn lose(world: &mut World) {
    world.lose_others();
    world.settles("the node is suspended", |held| held.admitted.get("node2") == Some(&false)).await;
}

fn calls(held: &Mutex<Held>) -> Vec<String> {
    std::mem::take(&mut held.lock().unwrap().calls)
}

#[tokio::test]
async fn a_node_enters_the_swarm_and_takes_what_is_spread() {
    let (world, second) = two_nodes().await;
    let entry = second.lock().unwrap().entry.clone().unwrap();
    assert_eq!(entry.manager, "192.0.2.1:2377");
    assert!(!format!("{entry:?}").contains("SWMTKN"), "a token is not told");
    assert_eq!(world.held().entry, None);
    let own: BTreeSet<_> = calls(&second).into_iter().filter(|call| call.starts_with("Ensure")).collect();
    assert_eq!(own, BTreeSet::from(["Ensure routing/firewall".to_owned()]), "shared services are the manager's");

    assert_eq!(world.deploy("app_layer: {replicas: 3}").await.status, DeployStatus::Succeeded);
    let (here, there) = (calls(&world.held), calls(&second));
    for key in ["storage/network", "storage/crossing", "storage/files", "app/web", "routing/route"] {
        assert!(here.contains(&format!("Ensure {key}")), "{key}: {here:?}");
        assert_eq!(there.contains(&format!("Ensure {key}")), key == "storage/files", "{key}: {there:?}");
    }
    assert!(there.contains(&"DescribeImage".to_owned()) && !there.contains(&"Build".to_owned()), "{there:?}");

    // What runs on the manager alone is of its images.
    let infos = engine::instance_infos(world.state(), &world.test.admin, None).await.unwrap();
    let conn = world.state().db.conn().await.unwrap();
    let plan = plans::load_serving_plan(&conn, InstanceId(infos[0].id)).await.unwrap().unwrap();
    let shared = plans::load_cluster_plan(&conn, &"local".parse().unwrap()).await.unwrap().unwrap();
    let foreign: Vec<_> = plan.images().chain(shared.images()).filter(|image| image.contains("node2")).collect();
    assert_eq!(foreign, [] as [&str; 0]);
    drop(conn);

    // What needs the database stays where that is.
    assert_eq!(world.deploy("db: {mysql: {}}\napp_layer: {replicas: 3}").await.status, DeployStatus::Succeeded);
    assert!(!calls(&second).contains(&"Ensure storage/files".to_owned()));
    let services: Vec<_> = world.held().services.keys().filter(|name| name.contains("crossing")).cloned().collect();
    assert_eq!(services, [] as [&str; 0], "the way to the other node is gone");
}

#[tokio::test]
async fn a_node_that_is_away_holds_nobody_up() {
    let (mut world, _) = two_nodes().await;
    assert_eq!(world.deploy("").await.status, DeployStatus::Succeeded);
    lose(&mut world).await;
    assert_eq!(world.deploy("").await.status, DeployStatus::Succeeded);
    // When it is back, it is given replicas after it has what serves.
    let second = join(&mut world).await;
    let there = calls(&second);
    let place = |call: &str| there.iter().position(|made| made == call).unwrap_or_else(|| panic!("{call}: {there:?}"));
    assert!(place("Join") < place("DescribeImage") && place("DescribeImage") < place("Ensure storage/files"));
}

#[tokio::test]
async fn a_node_that_fails_holds_nobody_up() {
    let (world, second) = two_nodes().await;
    for (failing, manifest) in [("DescribeImage", ""), ("Ensure storage/files", "storage: {quota: 1GiB}")] {
        second.lock().unwrap().fail.insert(failing.into());
        let deployed = world.deploy(manifest).await;
        assert_eq!(deployed.status, DeployStatus::Succeeded, "{failing}: {:?}", deployed.failure);
        assert!(!world.held().admitted["node2"], "{failing}");
        let events = world.events(DeployId(deployed.id)).await;
        let told = events.iter().any(|event| format!("{event:?}").contains("local/node2 gets no new replicas for now"));
        assert!(told, "{failing}: {events:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.settles("the node is prepared anew", |held| held.admitted["node2"]).await;
    }
}

#[tokio::test]
async fn a_node_is_admitted_when_it_has_what_replicas_need() {
    let (mut world, _) = two_nodes().await;
    lose(&mut world).await;
    // Nothing serves yet, but a deploy is about to start replicas.
    world.held().hang = Some(("AwaitHealthy".into(), Hang::Pause));
    let deploy = world.submit("", SourceInfo::default()).await.unwrap();
    world.reached.notified().await;
    calls(&world.held);
    let second = join_failing(&mut world, &["Ensure routing/firewall"]).await;
    let there = calls(&second);
    for (call, times) in [("Ensure routing/firewall", 2), ("Ensure storage/files", 1)] {
        assert_eq!(there.iter().filter(|made| *made == call).count(), times, "{call}: {there:?}");
    }
    assert!(there.contains(&"DescribeImage".to_owned()), "{there:?}");
    assert_eq!(calls(&world.held).iter().filter(|made| *made == "Admit").count(), 1);
    world.held().hang = None;
    assert_eq!(world.finished(DeployId(deploy.id)).await.status, DeployStatus::Succeeded);
}

#[tokio::test]
async fn what_a_release_holds_puts_no_node_off() {
    let (world, second) = two_nodes().await;
    let manifest = "storage: {writable: {cache: {kind: local}}}\n";
    second.lock().unwrap().fail.insert("Ensure storage/seed".into());
    let deployed = world.deploy(manifest).await;
    assert_eq!(deployed.status, DeployStatus::Failed, "{:?}", calls(&second));
    assert!(world.held().admitted["node2"]);
    assert_eq!(world.deploy(manifest).await.status, DeployStatus::Succeeded);
}

#[tokio::test]
async fn data_is_gone_from_every_node_or_kept() {
    let (mut world, _) = two_nodes().await;
    assert_eq!(world.deploy("").await.status, DeployStatus::Succeeded);
    lose(&mut world).await;
    let conn = world.state().db.conn().await.unwrap();
    let app = apps::load_app(&conn, &super::world::app()).await.unwrap().unwrap();
    let refused = engine::destroy_app(world.state(), &world.test.admin, &app).await.unwrap_err();
    assert!(refused.message.contains("node2"), "{refused:?}");
    let second = join(&mut world).await;
    engine::destroy_app(world.state(), &world.test.admin, &app).await.unwrap();
    assert!(calls(&second).contains(&"Remove storage/files".to_owned()));
}

#[tokio::test]
async fn a_plan_says_why_replicas_stay_together() {
    let (world, _) = two_nodes().await;
    let warnings = async |manifest: &str| {
        let body = archive(&[("magrathea.yml", manifest), ("index.php", "<?php echo 1;")]);
        let body = futures_util::stream::iter([Ok::<_, String>(body)]);
        let admin = &world.test.admin;
        engine::preview(world.state(), admin, &super::world::app(), SourceInfo::default(), body).await.unwrap().warnings
    };
    assert_eq!(warnings("app_layer: {replicas: 3}").await, [] as [&str; 0]);
    assert_eq!(warnings("db: {mysql: {}}").await, [] as [&str; 0], "one replica is on one node anyway");
    let said = warnings("db: {mysql: {}}\napp_layer: {replicas: 3}").await;
    assert_eq!(said, ["all replicas are on node node1: the database of db.mysql is reached from there alone"]);
}
