//! What a cluster has is promised once: here 90 % of the 16 GiB and 400 % of the 4 CPUs of its node, less 512 MiB for what is shared.

use magrathea_core::api::{DeployInfo, DeployStatus, SourceInfo};
use magrathea_core::names::DeployId;

use super::world::{Hang, World};
use crate::db::instances;
use crate::engine;

fn manifest(memory: &str, replicas: u16) -> String {
    format!(
        "app_layer: {{stack: php, memory: {memory}, replicas: {replicas}}}\n\
         labels: {{one: {{cluster: local}}, two: {{cluster: local}}}}\n"
    )
}

fn of(label: &str) -> SourceInfo {
    SourceInfo { label: Some(label.to_owned()), ..SourceInfo::default() }
}

async fn deploy(world: &World, label: &str, manifest: &str) -> DeployInfo {
    let deploy = world.submit(manifest, of(label)).await.unwrap();
    world.finished(DeployId(deploy.id)).await
}

async fn scale(world: &World, label: &str, web: u16) -> DeployInfo {
    let conn = world.state().db.conn().await.unwrap();
    let found = instances::list_instances(&conn).await.unwrap().into_iter().find(|it| it.label.as_str() == label);
    let counts = [("web".parse().unwrap(), Some(web))].into();
    let deploy = engine::scale(world.state(), &world.test.admin, found.unwrap(), counts, 0).await.unwrap();
    world.finished(DeployId(deploy.id)).await
}

fn refusal(deploy: &DeployInfo) -> &str {
    let failure = deploy.failure.as_ref().unwrap();
    assert_eq!(failure.code, "capacity_exceeded", "{failure:?}");
    &failure.message
}

#[tokio::test]
async fn what_is_promised_is_not_promised_again() {
    let world = World::new().await;
    assert_eq!(deploy(&world, "one", &manifest("2GiB", 5)).await.status, DeployStatus::Succeeded);
    world.held().calls.clear();
    let full = "cluster local is too small: it takes 5.0 GiB of memory where there is room for 3.9 GiB";
    let refused = deploy(&world, "two", &manifest("5GiB", 1)).await;
    assert_eq!(refusal(&refused), full);
    let hint = refused.failure.unwrap().hint.unwrap();
    assert!(hint.starts_with("it takes web 1 × 5.0 GiB: "), "{hint}");
    let made = |call: &String| call.starts_with("Ensure") || call == "Build";
    assert!(!world.held().calls.iter().any(made), "{:?}", world.held().calls);

    // The same once more, a smaller one and one that fits are no question.
    assert_eq!(deploy(&world, "one", &manifest("2GiB", 5)).await.failure, None);
    assert_eq!(deploy(&world, "two", &manifest("2GiB", 1)).await.failure, None);
    let more = scale(&world, "one", 7).await;
    assert_eq!(
        refusal(&more),
        "cluster local is too small: it takes 14.0 GiB of memory (now 10.0 GiB) where there is room for 11.9 GiB"
    );
    assert_eq!(scale(&world, "one", 2).await.failure, None);
    assert_eq!(scale(&world, "two", 4).await.failure, None);
    // What is given up can be given to others; an earlier release takes what is set today.
    assert_eq!(scale(&world, "one", 3).await.status, DeployStatus::Failed);
}

#[tokio::test]
async fn what_a_deploy_that_runs_is_to_take_counts_until_it_ends() {
    let world = World::new().await;
    world.held().hang = Some(("Build".to_owned(), Hang::Pause));
    let first = world.submit(&manifest("8GiB", 1), of("one")).await.unwrap();
    world.reached.notified().await;
    let refused = deploy(&world, "two", &manifest("8GiB", 1)).await;
    assert!(refusal(&refused).contains("room for 5.9 GiB"), "{refused:?}");
    world.held().fail.insert("AwaitHealthy".to_owned());
    world.held().hang = None;
    assert_eq!(world.finished(DeployId(first.id)).await.status, DeployStatus::Failed);
    assert_eq!(deploy(&world, "two", &manifest("8GiB", 1)).await.failure, None);
}

#[tokio::test]
async fn plans_of_an_earlier_gateway_count() {
    let mut world = World::new().await;
    deploy(&world, "one", &manifest("8GiB", 1)).await;
    let conn = world.state().db.conn().await.unwrap();
    conn.execute("UPDATE plans SET memory = NULL, millicpus = NULL, disk = NULL", &[]).await.unwrap();
    drop(conn);
    world.restart().await;
    assert!(refusal(&deploy(&world, "two", &manifest("8GiB", 1)).await).contains("room for 5.9 GiB"));
}

#[tokio::test]
async fn a_replica_must_fit_on_a_node() {
    let world = World::new().await;
    let refused = deploy(&world, "default", "app_layer: {stack: php, cpus: \"4.5\"}\n").await;
    assert_eq!(refusal(&refused), "cluster local is too small: a replica takes 4.5 CPUs, and its node has 4");
}
