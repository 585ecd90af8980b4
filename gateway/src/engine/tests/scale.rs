//! Other numbers of replicas, and a gateway that is killed on the way to them.

use magrathea_core::api::{DeployInfo, DeployStatus};
use magrathea_core::names::DeployId;

use super::world::{Hang, World};
use crate::db::{instances, scales};
use crate::engine;

const APP: &str = "app_layer: {stack: php}\n";

async fn scale(world: &World, web: u16) -> DeployInfo {
    let instance = instances::list_instances(&world.state().db.conn().await.unwrap()).await.unwrap().remove(0);
    let counts = [("web".parse().unwrap(), Some(web))].into();
    engine::scale(world.state(), &world.test.admin, instance, counts, 0).await.unwrap()
}

fn replicas(world: &World) -> u16 {
    world.held().wanted.iter().find(|(name, _)| name.contains("-web-")).map(|(_, replicas)| *replicas).unwrap()
}

#[tokio::test]
async fn a_gateway_killed_while_it_scales_leaves_as_many_as_before() {
    for (call, hang) in [
        ("Ensure app/web", Hang::Before),
        ("Ensure app/web", Hang::After),
        ("AwaitHealthy", Hang::Before),
        ("Ensure routing/route", Hang::After),
    ] {
        let mut world = World::new().await;
        world.deploy(APP).await;
        world.held().hang = Some((call.to_owned(), hang));
        let begun = scale(&world, 3).await;
        let reached = world.reached.notified();
        if tokio::time::timeout(std::time::Duration::from_secs(5), reached).await.is_err() {
            panic!("{call} is not asked for: {:?}", world.held().calls);
        }
        world.restart().await;
        let ended = world.finished(DeployId(begun.id)).await;
        assert_eq!((ended.status, replicas(&world)), (DeployStatus::Failed, 1), "{call}: {ended:?}");
        let conn = world.state().db.conn().await.unwrap();
        assert!(
            scales::load_scales(&conn, instances::list_instances(&conn).await.unwrap()[0].id).await.unwrap().is_empty()
        );
        let next = scale(&world, 2).await;
        assert_eq!(world.finished(DeployId(next.id)).await.failure, None, "{call}");
        assert_eq!((replicas(&world), world.held().serving), (2, Some(1)), "{call}");
    }
}
