//! Levels come from nodes: people are told of each mark once, and where the disk itself refuses nothing, deploys are refused.

use magrathea_core::api::{DeployInfo, DeployStatus, SourceInfo};
use magrathea_core::names::DeployId;
use magrathea_core::usage::{Batch, Level, Metric};
use uuid::Uuid;

use super::world::{World, node};
use crate::db::{instances, usage};
use crate::engine::quotas::follow;

fn manifest(quota: &str) -> String {
    format!(
        "app_layer: {{stack: php}}\nstorage: {{quota: {quota}, writable: {{uploads: {{kind: shared}}}}}}\ndb: {{mysql: {{quota: 1GiB}}}}\n"
    )
}

async fn deploy(world: &World, quota: &str) -> DeployInfo {
    let deploy = world.submit(&manifest(quota), SourceInfo::default()).await.unwrap();
    world.finished(DeployId(deploy.id)).await
}

/// The node tells what the only instance takes, as its batch number so and so.
async fn tell(world: &World, number: u64, metric: Metric, mebibytes: u64) {
    let conn = world.state().db.conn().await.unwrap();
    let slug = instances::list_instances(&conn).await.unwrap()[0].id.slug();
    let at = jiff::Timestamp::now();
    let level = Level { slug, at, bytes: [(metric, mebibytes << 20)].into() };
    let (rows, gaps, levels) = (Vec::new(), Vec::new(), vec![level.clone()]);
    let batch = Batch { ledger: Uuid::from_u128(1), number, rows, levels, gaps, refused: 0 };
    usage::add_batch(&conn, &node(), &batch, at).await.unwrap();
    follow(world.state(), &level).await.unwrap();
}

async fn told(world: &World) -> Vec<String> {
    let mut lines = world.timeline().await;
    lines.retain(|line| line.contains("quota.") || line.contains("database."));
    lines
}

#[tokio::test]
async fn an_instance_over_its_quota_gets_no_new_code() {
    let world = World::new().await;
    assert_eq!(deploy(&world, "100MiB").await.status, DeployStatus::Succeeded);
    for (number, mebibytes) in [(1, 50), (2, 85), (3, 86), (4, 95), (5, 100), (6, 99), (7, 120)] {
        tell(&world, number, Metric::Files, mebibytes).await;
    }
    assert_eq!(told(&world).await.len(), 3, "80, 90 and 100 % once each: {:?}", told(&world).await);
    world.held().calls.clear();
    let refused = deploy(&world, "100MiB").await.failure.unwrap();
    assert_eq!(refused.code, "quota_reached");
    assert_eq!(refused.message, "its writable files take 120 MiB of 100 MiB");
    assert!(!world.held().calls.iter().any(|call| call == "Build"), "{:?}", world.held().calls);

    // A larger quota, less on the disk, and a database that is full are no hindrance.
    assert_eq!(deploy(&world, "200MiB").await.failure, None);
    tell(&world, 8, Metric::Files, 90).await;
    assert_eq!(deploy(&world, "100MiB").await.failure, None);
    tell(&world, 9, Metric::Database, 2048).await;
    assert_eq!(deploy(&world, "100MiB").await.failure, None);
    let lines = told(&world).await;
    assert_eq!(lines.iter().filter(|line| line.contains("quota.lifted")).count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("quota.reached")).count(), 2, "{lines:?}");
}
