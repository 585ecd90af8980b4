//! Nodes that come to differ from their plans while they are connected.

use magrathea_core::api::SourceInfo;
use magrathea_core::names::DeployId;

use super::world::{Hang, World, node};
use crate::db::instances;
use crate::engine::reconcile::check;

const APP: &str = "
app_layer: {stack: php, replicas: 2}
db: {mysql: {}, memcache: 64MiB}
routing: {domains: [blog.example], tls: auto}
";

/// A world with the app, and nothing more to do in it.
async fn deployed() -> World {
    let world = World::new().await;
    assert_eq!(world.deploy(APP).await.failure, None);
    world.quiet().await;
    world.held().calls.clear();
    world
}

/// What a look at the cluster asks of the node.
async fn look(world: &World) -> Vec<String> {
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, check(world.state(), &node().cluster)).await.expect("the look does not end");
    std::mem::take(&mut world.held().calls)
}

#[tokio::test]
async fn a_cluster_that_is_as_it_should_be_is_only_asked() {
    let world = deployed().await;
    for _ in 0..2 {
        assert_eq!(look(&world).await, ["Inventory", "ReadServing"]);
    }
}

#[tokio::test]
async fn what_differs_is_laid_again() {
    let world = deployed().await;
    world.held().serving = Some(9);
    assert_eq!(look(&world).await, ["Inventory", "ReadServing", "Ensure routing/route"]);
    assert_eq!(world.held().serving, Some(1));

    world.held().scaled.insert("web".to_owned(), 1);
    assert_eq!(
        look(&world).await,
        ["Inventory", "ReadServing", "Inventory", "ReadServing", "Ensure app/web", "AwaitHealthy"]
    );
    assert_eq!(look(&world).await, ["Inventory", "ReadServing"]);

    let before = world.held().services.clone();
    world.held().services.retain(|name, _| !name.contains("-web-"));
    let calls = look(&world).await;
    for laid in ["Ensure storage/network", "Ensure app/web", "Ensure routing/route"] {
        assert!(calls.iter().any(|call| call == laid), "{laid}: {calls:?}");
    }
    assert_eq!(world.held().services, before);

    world.held().services.remove("router");
    let calls = look(&world).await;
    assert!(calls.iter().any(|call| call == "Ensure routing/router"), "{calls:?}");
    assert_eq!(world.held().services, before);
    assert_eq!(look(&world).await, ["Inventory", "ReadServing"]);
}

#[tokio::test]
async fn an_instance_that_is_deployed_is_left_alone() {
    let world = deployed().await;
    world.held().hang = Some(("Build".to_owned(), Hang::Before));
    let deploy = world.submit(APP, SourceInfo::default()).await.unwrap();
    world.reached.notified().await;
    world.held().calls.clear();
    world.held().serving = Some(9);
    assert_eq!(look(&world).await, ["Inventory"]);
    crate::engine::cancel(world.state(), &world.test.admin, DeployId(deploy.id)).await.unwrap();
    world.finished(DeployId(deploy.id)).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_without_a_deploy() {
    let mut world = deployed().await;
    let state = world.state().clone();
    let conn = state.db.conn().await.unwrap();
    let id = instances::list_instances(&conn).await.unwrap()[0].id;
    let rows = conn.query("SELECT key FROM instance_secrets WHERE key LIKE 'certificate/%'", &[]).await.unwrap();
    let key: &str = rows[0].try_get(0).unwrap();
    // As if the present certificate had been made so many days ago.
    let age = async |days: i64| {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        let old = state.pki.issue_hosts(&["blog.example".to_owned()], then).unwrap();
        instances::update_secret(&conn, &state.seal, id, key, |_| Ok(Some(old.clone()))).await.unwrap()
    };
    let young = age(400).await;
    look(&world).await;
    assert_eq!(world.held().certificate.as_ref(), Some(&young), "one that somebody else renewed is taken");
    assert_eq!(look(&world).await, ["Inventory", "ReadServing"]);

    let old = age(500).await;
    assert_eq!(look(&world).await, ["Inventory", "Ensure routing/route"]);
    let new = world.held().certificate.clone().unwrap();
    assert!(new != old && new != young && !state.pki.is_due(&new, jiff::Timestamp::now()));
    assert_eq!(look(&world).await, ["Inventory", "ReadServing"]);

    // Killed after it was renewed and before any router had it.
    let old = age(500).await;
    world.held().hang = Some(("Ensure routing/route".to_owned(), Hang::Before));
    let (dying, reached) = (state.clone(), world.reached.clone());
    let cluster = node().cluster;
    tokio::select! {
        () = check(&dying, &cluster) => panic!("it ended"),
        () = reached.notified() => {}
    }
    world.restart().await;
    world
        .settles("renewed", |held| {
            held.certificate
                .as_ref()
                .is_some_and(|pem| *pem != old && *pem != new && !state.pki.is_due(pem, jiff::Timestamp::now()))
        })
        .await;
}
