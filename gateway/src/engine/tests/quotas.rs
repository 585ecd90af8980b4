//! Levels come from nodes: people are told of each mark once, and where the disk itself refuses nothing, deploys are refused.

use magrathea_core::api::{DeployInfo, DeployStatus, SetQuota, SourceInfo};
use magrathea_core::names::DeployId;
use magrathea_core::usage::{Batch, Level, Metric, Row, Then, hour_of};
use uuid::Uuid;

use super::world::{World, app, node};
use crate::db::{instances, usage};
use crate::engine::quotas::follow;
use crate::engine::traffic::look;
use crate::services::quotas;

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

/// The only instance's visitors were sent so many bytes since the month began.
async fn serve(world: &World, number: u64, bytes: u64) {
    let conn = world.state().db.conn().await.unwrap();
    let slug = instances::list_instances(&conn).await.unwrap()[0].id.slug();
    let at = jiff::Timestamp::now();
    let usage = [(Metric::Sent, bytes)].into_iter().collect();
    let rows = vec![Row { slug, hour: hour_of(at), usage }];
    let batch = Batch { ledger: Uuid::from_u128(1), number, rows, levels: Vec::new(), gaps: Vec::new(), refused: 0 };
    usage::add_batch(&conn, &node(), &batch, at).await.unwrap();
}

#[tokio::test]
async fn a_month_that_is_used_up_is_told_and_lifted() {
    let world = World::new().await;
    assert_eq!(deploy(&world, "100MiB").await.status, DeployStatus::Succeeded);
    let (state, admin) = (world.state(), &world.test.admin);
    let limited = || world.held().limited.values().copied().collect::<Vec<_>>();
    let set = async |app: Option<&str>, organisation: Option<&str>, traffic: &str, then| {
        let (app, organisation) = (app.map(str::to_owned), organisation.map(str::to_owned));
        let wanted = SetQuota { app, organisation, traffic: traffic.to_owned(), then };
        quotas::set(state, admin, &wanted).await
    };
    let name = app();
    assert_eq!(set(Some(name.as_str()), None, "1GB", Then::Throttle).await.unwrap().percent, 0);
    for (number, megabytes) in [(1, 700), (2, 100), (3, 100), (4, 99)] {
        serve(&world, number, megabytes * 1_000_000).await;
        look(state).await.unwrap();
    }
    assert_eq!(limited(), []);
    assert_eq!(told(&world).await.len(), 3, "it was set, 80 and 90 %: {:?}", told(&world).await);
    serve(&world, 5, 1_000_000).await;
    look(state).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(limited(), [Then::Throttle]);
    assert_eq!(told(&world).await.len(), 4, "each is told once: {:?}", told(&world).await);

    // What is so already is not told again; what is raised is lifted, and told.
    set(Some(name.as_str()), None, "1GB", Then::Throttle).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(told(&world).await.len(), 4, "{:?}", told(&world).await);
    set(Some(name.as_str()), None, "1.2GB", Then::Throttle).await.unwrap();
    look(state).await.unwrap();
    assert_eq!((limited(), told(&world).await.len()), (Vec::new(), 6), "{:?}", told(&world).await);
    assert!(told(&world).await.iter().any(|line| line.contains("quota.lifted")), "{:?}", told(&world).await);
    set(Some(name.as_str()), None, "1GB", Then::Throttle).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(limited(), [Then::Throttle]);

    // The stricter of two counts; a larger one, none, and another month lift it.
    let organisation = quotas::list(state, admin).await.unwrap().remove(0).organisation;
    set(None, Some(&organisation), "0.5GB", Then::Page).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(limited(), [Then::Page]);
    quotas::remove(state, admin, None, Some(&organisation)).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(limited(), [Then::Throttle]);
    let conn = state.db.conn().await.unwrap();
    conn.execute("UPDATE usage_hours SET hour = hour - interval '32 days'", &[]).await.unwrap();
    conn.execute("UPDATE traffic_quotas SET month = month - interval '30 days'", &[]).await.unwrap();
    look(state).await.unwrap();
    assert_eq!(limited(), []);
    assert!(told(&world).await.iter().filter(|line| line.contains("quota.lifted")).count() == 2);
    let all = quotas::list(state, admin).await.unwrap();
    assert_eq!((all.len(), all[0].used, all[0].traffic), (1, 0, 1_000_000_000));

    for (app, organisation, traffic) in
        [(None, None, "1GB"), (Some("a"), Some("b"), "1GB"), (Some("nobodys"), None, "1GB"), (Some("a"), None, "much")]
    {
        assert!(set(app, organisation, traffic, Then::Warn).await.is_err(), "{app:?} {organisation:?} {traffic}");
    }
}
