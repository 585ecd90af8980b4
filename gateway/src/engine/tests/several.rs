//! One label on several clusters.

use std::sync::{Arc, Mutex};

use magrathea_core::api::{DeployInfo, DeployStatus, LabelDeploy, Phase, Promote, Rollback, SourceInfo};
use magrathea_core::clusters::parse_clusters;
use magrathea_core::names::{ClusterName, DeployId};
use magrathea_core::wire::{ActionError, ActionErrorKind, Frame, SendImage, StreamSpec, TakeImage};

use super::world::{Held, World, app, archive, named};
use crate::api::error::{ApiError, Code};
use crate::engine::{self, Labels};
use crate::hub::{NodeRef, StreamEnd};
use crate::services::access::InstanceName;
use crate::services::releases;
use crate::testing::CLUSTERS;

const BOTH: &str = "labels: {production: {cluster: [local, rome]}, staging: {cluster: local}}";

/// A gateway of two clusters, and what the second one's node holds.
async fn two_clusters() -> (World, Arc<Mutex<Held>>) {
    let mut world = World::new().await;
    let rome = CLUSTERS.replace("clusters:\n", "").replace("local:", "rome:").replace("127.0.0.1", "127.0.0.2");
    let both = parse_clusters("clusters.yml", &format!("{CLUSTERS}{rome}")).unwrap();
    world.test.clusters.send_replace(Arc::new(both));
    let held = world.join("rome", "node1");
    (world, held)
}

fn of(label: &str) -> SourceInfo {
    SourceInfo { label: Some(label.into()), create: true, ..SourceInfo::default() }
}

fn on(label: &str, cluster: &str) -> InstanceName {
    InstanceName { cluster: Some(cluster.parse().unwrap()), ..named(label) }
}

async fn submit(world: &World, labels: Labels, manifest: &str, info: SourceInfo) -> Result<Vec<LabelDeploy>, ApiError> {
    let body = archive(&[("magrathea.yml", manifest), ("index.php", "<?php echo 1;")]);
    let body = futures_util::stream::iter([Ok::<_, String>(body)]);
    engine::submit_all(world.state(), &world.test.admin, &app(), labels, info, body).await
}

/// Deploys a label everywhere and waits for all ends: cluster, and how it went.
async fn deploy(world: &World, manifest: &str, label: &str) -> Vec<(String, DeployStatus)> {
    let mut ended = Vec::new();
    for begun in submit(world, Labels::One, manifest, of(label)).await.unwrap() {
        let deploy = world.finished(DeployId(begun.deploy.unwrap().id)).await;
        assert_eq!(begun.cluster.as_deref(), Some(deploy.cluster.as_str()));
        ended.push((deploy.cluster, deploy.status));
    }
    ended
}

async fn instances(world: &World) -> Vec<magrathea_core::api::InstanceInfo> {
    engine::instance_infos(world.state(), &world.test.admin, None).await.unwrap()
}

#[tokio::test]
async fn a_label_gets_an_instance_on_each_of_its_clusters() {
    let (world, rome) = two_clusters().await;
    let both = [("local".to_owned(), DeployStatus::Succeeded), ("rome".to_owned(), DeployStatus::Succeeded)];
    assert_eq!(deploy(&world, BOTH, "production").await, both);
    let all = instances(&world).await;
    assert_eq!(all.len(), 2);
    assert_ne!(all[0].id, all[1].id);
    // The default host is below each cluster's own domain, which is the same here: a host belongs to one instance of each.
    assert_eq!(all[0].urls, all[1].urls);
    assert_eq!((world.held().serving, rome.lock().unwrap().serving), (Some(1), Some(1)));

    // What is about one instance says which there are.
    let state = world.state();
    let refused = engine::instance_info(state, &world.test.admin, &named("production")).await.unwrap_err();
    assert_eq!((refused.code, refused.clusters), (Code::ClusterAmbiguous, vec!["local".into(), "rome".into()]));
    assert!(refused.hint.unwrap().contains("blog.production.CLUSTER over SSH"));
    let found = engine::instance_info(state, &world.test.admin, &on("production", "rome")).await.unwrap();
    assert_eq!(found.cluster, "rome");
    let missing = engine::instance_info(state, &world.test.admin, &on("production", "oslo")).await.unwrap_err();
    assert_eq!((missing.code, missing.hint.as_deref()), (Code::InstanceNotFound, Some("it lives on local, rome")));
    let refused = world.submit(BOTH, of("production")).await.unwrap_err();
    assert_eq!(refused.code, Code::ClusterAmbiguous);

    // On one of them alone.
    let info = SourceInfo { cluster: Some("rome".into()), ..of("production") };
    let only = world.submit(BOTH, info.clone()).await.unwrap();
    assert_eq!(world.finished(DeployId(only.id)).await.cluster, "rome");
    assert_eq!((world.held().serving, rome.lock().unwrap().serving), (Some(1), Some(2)));
    let elsewhere = world.submit(BOTH, SourceInfo { cluster: Some("oslo".into()), ..info }).await.unwrap_err();
    assert_eq!((elsewhere.code, elsewhere.hint.as_deref()), (Code::ClusterUnknown, Some("it lives on local, rome")));
    let back = releases::rollback(state, &world.test.admin, &on("production", "rome"), Rollback::default()).await;
    assert_eq!(world.finished(DeployId(back.unwrap().id)).await.status, DeployStatus::Succeeded);
    assert_eq!((world.held().serving, rome.lock().unwrap().serving), (Some(1), Some(1)));

    // One can go without the other.
    let conn = state.db.conn().await.unwrap();
    let stored = crate::db::apps::load_app(&conn, &app()).await.unwrap().unwrap();
    drop(conn);
    engine::destroy_instance(state, &world.test.admin, &stored, &on("production", "rome")).await.unwrap();
    let left = instances(&world).await;
    assert_eq!(left.iter().map(|instance| instance.cluster.as_str()).collect::<Vec<_>>(), ["local"]);
}

#[tokio::test]
async fn one_cluster_fails_while_the_other_goes_on() {
    let (world, rome) = two_clusters().await;
    rome.lock().unwrap().fail.insert("Build".into());
    let ended = deploy(&world, BOTH, "production").await;
    assert_eq!(ended[0].1, DeployStatus::Succeeded);
    assert_eq!(ended[1].1, DeployStatus::Failed);
    assert_eq!((world.held().serving, rome.lock().unwrap().serving), (Some(1), None));
    assert_eq!(deploy(&world, BOTH, "production").await[1].1, DeployStatus::Succeeded);
    assert_eq!(rome.lock().unwrap().serving, Some(1));

    // A cluster that clusters.yml has not is told, and no hindrance to the other.
    let unknown = "labels: {production: {cluster: [local, mars]}}";
    let begun = submit(&world, Labels::One, unknown, of("production")).await.unwrap();
    assert_eq!(begun[1].cluster.as_deref(), Some("mars"));
    assert_eq!(begun[1].error.as_ref().unwrap().code, "cluster_unknown");
    world.finished(DeployId(begun[0].deploy.as_ref().unwrap().id)).await;
    // Where there is only one, its error is the answer.
    let alone = submit(&world, Labels::One, "labels: {a: {cluster: mars}}", of("a")).await.unwrap_err();
    assert_eq!(alone.code, Code::ClusterUnknown);
}

#[tokio::test]
async fn all_labels_go_to_all_of_their_clusters() {
    let (world, _) = two_clusters().await;
    let all = |info| submit(&world, Labels::All, BOTH, info);
    let told = |begun: Vec<LabelDeploy>| {
        begun.into_iter().map(|one| format!("{} {}", one.label, one.cluster.unwrap_or_default())).collect::<Vec<_>>()
    };
    let info = SourceInfo { create: true, wait: Some(30), ..SourceInfo::default() };
    let begun = all(info.clone()).await.unwrap();
    for one in &begun {
        world.finished(DeployId(one.deploy.as_ref().unwrap().id)).await;
    }
    assert_eq!(told(begun), ["production local", "production rome", "staging local"]);
    let begun = all(SourceInfo { cluster: Some("rome".into()), ..info }).await.unwrap();
    world.finished(DeployId(begun[0].deploy.as_ref().unwrap().id)).await;
    assert_eq!(told(begun), ["production rome"]);
}

#[tokio::test]
async fn a_cluster_that_leaves_the_list_is_told_and_serves_on() {
    let (world, rome) = two_clusters().await;
    deploy(&world, BOTH, "production").await;
    let begun = submit(&world, Labels::One, "labels: {production: {cluster: local}}", of("production")).await.unwrap();
    let events = world.events(DeployId(begun[0].deploy.as_ref().unwrap().id)).await;
    let told = events.iter().find_map(|event| {
        let text = format!("{event:?}");
        text.contains("production on rome has left magrathea.yml").then_some(text)
    });
    assert!(told.unwrap().contains("td app destroy --label production --cluster rome"));
    let absent = async || {
        let all = instances(&world).await;
        all.into_iter().filter(|i| i.absent_since.is_some()).map(|i| i.cluster).collect::<Vec<_>>()
    };
    assert_eq!(absent().await, ["rome"]);
    assert_eq!(rome.lock().unwrap().serving, Some(1));
    deploy(&world, BOTH, "production").await;
    assert_eq!(absent().await, [""; 0]);
}

#[tokio::test]
async fn what_is_promoted_comes_from_the_targets_own_cluster() {
    let (world, rome) = two_clusters().await;
    let manifest = "cluster: [local, rome]\nlabels: {staging: {}, production: {}}";
    deploy(&world, manifest, "staging").await;
    deploy(&world, manifest, "staging").await;
    let promote = async |name: &InstanceName, to_cluster: Option<&str>| -> Result<DeployInfo, ApiError> {
        let body = Promote { to: "production".into(), to_cluster: to_cluster.map(str::to_owned), wait: None };
        releases::promote(world.state(), &world.test.admin, name, body).await
    };
    assert_eq!(promote(&named("staging"), None).await.unwrap_err().code, Code::ClusterAmbiguous);
    assert_eq!(promote(&on("staging", "rome"), None).await.unwrap_err().code, Code::ClusterAmbiguous);
    let begun = promote(&named("staging"), Some("rome")).await.unwrap();
    let ended = world.finished(DeployId(begun.id)).await;
    assert_eq!((ended.cluster.as_str(), ended.status), ("rome", DeployStatus::Succeeded));
    let cluster: ClusterName = "rome".parse().unwrap();
    let told = crate::db::timeline::Of { cluster: Some(&cluster), ..Default::default() };
    let conn = world.state().db.conn().await.unwrap();
    let lines = crate::db::timeline::list(&conn, &world.test.admin.access, told, 50).await.unwrap();
    assert!(lines.iter().any(|line| line.message.contains("v2 of staging on rome is promoted to production")));
    assert!(lines.iter().all(|line| line.cluster.as_deref() == Some("rome")));
    assert_eq!(rome.lock().unwrap().calls.iter().filter(|call| *call == "Build").count(), 2);
}

/// A node's end of the next stream that is asked for there.
async fn end_at(world: &World, held: &Mutex<Held>, (cluster, node): (&str, &str)) -> (StreamSpec, StreamEnd) {
    let node = NodeRef { cluster: cluster.parse().unwrap(), node: node.parse().unwrap() };
    for _ in 0..2000 {
        let asked = held.lock().unwrap().streams.pop();
        if let Some(asked) = asked {
            return (asked.stream, world.state().hub.accept_stream(&node, asked.id).unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("no stream is asked for on {node}");
}

/// What the node that takes an image gets, and whether the end was said.
async fn taken(end: &mut StreamEnd) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = end.outgoing.recv().await {
        match frame {
            Frame::Data(data) => bytes.extend(data),
            Frame::Eof => return (bytes, true),
            other => panic!("{other:?}"),
        }
    }
    (bytes, false)
}

#[tokio::test]
async fn a_promoted_image_is_carried_to_the_other_cluster() {
    let (world, rome) = two_clusters().await;
    let manifest = "labels: {staging: {cluster: local}, production: {cluster: rome}}";
    deploy(&world, manifest, "staging").await;
    let promote = async || {
        let body = Promote { to: "production".into(), to_cluster: None, wait: None };
        DeployId(releases::promote(world.state(), &world.test.admin, &named("staging"), body).await.unwrap().id)
    };
    let data = |text: &'static str| Frame::Data(text.as_bytes().into());

    // The sender breaks off: the taker does not hear of an end, and nothing is made.
    let id = promote().await;
    let (sending, source) = end_at(&world, &world.held, ("local", "node1")).await;
    let (taking, mut target) = end_at(&world, &rome, ("rome", "node1")).await;
    let image = world.held().images.keys().next().unwrap().clone();
    assert_eq!(sending, StreamSpec::SendImage(SendImage { id: image.clone(), skip: 1 }));
    assert_eq!(taking, StreamSpec::TakeImage(TakeImage { id: image.clone(), skip: 1, size: 8 }));
    source.incoming.send(data("half of")).await.unwrap();
    drop(source);
    assert_eq!(taken(&mut target).await, (b"half of".to_vec(), false));
    let failure = world.finished(id).await.failure.unwrap();
    assert_eq!((failure.phase, failure.code.as_str()), (Phase::Build, "node"), "{failure:?}");
    drop(target);

    // The taker refuses what came.
    let id = promote().await;
    let (_, source) = end_at(&world, &world.held, ("local", "node1")).await;
    let (_, mut target) = end_at(&world, &rome, ("rome", "node1")).await;
    source.incoming.send(data("another image")).await.unwrap();
    source.incoming.send(Frame::Exit { code: 0 }).await.unwrap();
    assert_eq!(taken(&mut target).await, (b"another image".to_vec(), true));
    let refused = ActionError {
        kind: ActionErrorKind::Node,
        message: "the image that came is refused: layer 1".into(),
        hint: None,
        log_tail: Vec::new(),
    };
    target.incoming.send(Frame::Failed(refused)).await.unwrap();
    let failure = world.finished(id).await.failure.unwrap();
    assert!(failure.message.contains("refused: layer 1"), "{failure:?}");
    assert_eq!(rome.lock().unwrap().serving, None);

    // Whole, it serves, under the same id and without a build.
    let id = promote().await;
    let (_, source) = end_at(&world, &world.held, ("local", "node1")).await;
    let (_, mut target) = end_at(&world, &rome, ("rome", "node1")).await;
    source.incoming.send(data("the image")).await.unwrap();
    source.incoming.send(Frame::Exit { code: 0 }).await.unwrap();
    assert_eq!(taken(&mut target).await, (b"the image".to_vec(), true));
    rome.lock().unwrap().images.insert(image.clone(), Default::default());
    target.incoming.send(Frame::Exit { code: 0 }).await.unwrap();
    assert_eq!(world.finished(id).await.status, DeployStatus::Succeeded);
    assert!(!rome.lock().unwrap().calls.contains(&"Build".to_owned()));
    let told = world.events(id).await;
    assert!(told.iter().any(|event| format!("{event:?}").contains("the image came from local/node1 to rome/node1")));

    // What is there needs no way: neither once more nor back.
    let again = world.finished(promote().await).await;
    assert_eq!(again.status, DeployStatus::Succeeded);
    let back = releases::rollback(world.state(), &world.test.admin, &named("production"), Rollback::default()).await;
    assert_eq!(world.finished(DeployId(back.unwrap().id)).await.status, DeployStatus::Succeeded);
    assert!(rome.lock().unwrap().streams.is_empty() && world.held().streams.is_empty());
}

#[tokio::test]
async fn every_app_node_of_a_cluster_has_the_image_before_replicas_are_made() {
    let mut world = World::new().await;
    let first = CLUSTERS.replace("127.0.0.1", "192.0.2.1");
    let two = format!("{first}      node2: {{address: 192.0.2.2, layers: [app]}}\n");
    world.test.clusters.send_replace(Arc::new(parse_clusters("clusters.yml", &two).unwrap()));
    let second = world.join("local", "node2");
    let deploying = world.submit("", SourceInfo::default()).await.unwrap();
    let (sending, source) = end_at(&world, &world.held, ("local", "node1")).await;
    let (taking, mut target) = end_at(&world, &second, ("local", "node2")).await;
    let StreamSpec::SendImage(SendImage { id: image, .. }) = sending else { panic!("{sending:?}") };
    assert!(matches!(taking, StreamSpec::TakeImage(taking) if taking.id == image));
    assert!(!world.held().calls.iter().any(|call| call == "Ensure app/web"));
    source.incoming.send(Frame::Exit { code: 0 }).await.unwrap();
    assert_eq!(taken(&mut target).await, (Vec::new(), true));
    second.lock().unwrap().images.insert(image, Default::default());
    target.incoming.send(Frame::Exit { code: 0 }).await.unwrap();
    assert_eq!(world.finished(DeployId(deploying.id)).await.status, DeployStatus::Succeeded);
    assert!(world.held().calls.iter().any(|call| call == "Ensure app/web"));
    assert!(!second.lock().unwrap().calls.iter().any(|call| call == "Build"));
}
