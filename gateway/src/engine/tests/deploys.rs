//! Success, failure in each phase, death in each phase, locks, retries, cancelling and destroying.

use magrathea_core::api::{DeployEvent, DeployEventKind, DeployInfo, DeployStatus, IfUnchanged, Phase, SourceInfo};
use magrathea_core::clusters::parse_clusters;
use magrathea_core::names::{DeployId, ReleaseNumber};

use super::world::{Hang, World, app};
use crate::api::error::{ApiError, Code};
use crate::db::{apps, config_values, instances, releases};
use crate::engine;
use crate::services::config::{ValueName, set_value};
use crate::testing::CLUSTERS;

const APP: &str = "
app_layer: {stack: php, health: {watch: 15s}}
db: {mysql: {}, memcache: 64MiB}
storage: {writable: {uploads: {kind: shared}}}
hooks: {release: [php migrate.php], after: [php warm.php]}
";

fn with_ttl(ttl: &str) -> String {
    format!("{APP}proxy: {{ttl: {ttl}}}\n")
}

fn replicas(world: &World) -> Vec<u32> {
    world.held().services.iter().filter(|(name, _)| name.contains("-web-v")).filter_map(|(_, n)| *n).collect()
}

#[tokio::test]
async fn a_deploy_goes_through_all_phases_and_a_second_one_replaces_it() {
    let world = World::new().await;
    let first = world.deploy(APP).await;
    assert_eq!(first.failure, None);
    assert_eq!(first.status, DeployStatus::Succeeded);
    assert_eq!(first.urls, ["http://blog.localhost/"]);
    assert_eq!(world.held().serving, Some(1));
    let events = world.events(DeployId(first.id)).await;
    let sequences: Vec<_> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    let phases: Vec<Phase> = events
        .iter()
        .filter_map(|e| match e.event {
            DeployEventKind::PhaseFinished { phase, .. } => Some(phase),
            _ => None,
        })
        .collect();
    // Nobody asked for a canary.
    let all: Vec<Phase> = Phase::ALL.into_iter().filter(|phase| *phase != Phase::Canary).collect();
    assert_eq!(phases, all);

    let made = |events: &[DeployEvent]| {
        let told = DeployEventKind::Log { phase: Phase::Receive, line: "made the app blog".into() };
        events.iter().filter(|event| event.event == told).count()
    };
    assert_eq!(made(&events), 1);

    world.held().calls.clear();
    let second = world.deploy(APP).await;
    assert_eq!(made(&world.events(DeployId(second.id)).await), 0);
    assert_eq!(second.release.unwrap().0, 2);
    assert_eq!(world.held().serving, Some(2));
    assert_eq!(replicas(&world), [2]);
    let calls = world.held().calls.clone();
    let expected = [
        "Build",
        "RunOnce php migrate.php",
        "Ensure app/web",
        "AwaitHealthy",
        "Ensure routing/route",
        "Watch",
        "Drain",
    ];
    assert_eq!(calls.iter().take(7).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>(), "{calls:?}");
    assert_eq!(
        world.timeline().await,
        [
            "admin app.created",
            "admin deploy.started",
            "admin deploy.succeeded",
            "admin deploy.started",
            "admin deploy.succeeded"
        ]
    );
}

/// `cargo nextest run -p magrathea-gateway --run-ignored only control_plane --no-capture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: the gateway's own share of a redeploy, on a node that answers at once"]
async fn the_control_planes_share_of_a_redeploy() {
    let world = World::new().await;
    world.deploy(APP).await;
    for _ in 0..10 {
        let began = std::time::Instant::now();
        let deploy = world.deploy(APP).await;
        let total = began.elapsed();
        let events = world.events(DeployId(deploy.id)).await;
        let switched =
            events.iter().find(|e| matches!(e.event, DeployEventKind::PhaseFinished { phase: Phase::Routing, .. }));
        let until = switched.unwrap().at.duration_since(events[0].at);
        println!("{total:?} in all, {} ms from the record to the switch", until.as_millis());
    }
}

#[tokio::test]
async fn a_failure_in_any_phase_leaves_what_served_before() {
    let world = World::new().await;
    world.deploy(APP).await;
    world.settles("swept", |held| held.calls.iter().any(|call| call == "Inventory")).await;
    let cache = world.held().cache.clone();
    for (action, phase, code) in [
        ("Build", Phase::Build, "build_failed"),
        ("RunOnce php migrate.php", Phase::ReleaseHook, "hook_failed"),
        ("Ensure app/web", Phase::App, "refused"),
        ("AwaitHealthy", Phase::Health, "unhealthy"),
        ("Ensure proxy/cache", Phase::Proxy, "refused"),
        ("Ensure routing/route", Phase::Routing, "refused"),
        ("Watch", Phase::Watch, "rolled_back"),
    ] {
        world.held().fail.insert(action.to_owned());
        let deploy = world.deploy(&with_ttl("1m")).await;
        let failure = deploy.failure.unwrap_or_else(|| panic!("{action}: no failure"));
        assert_eq!((failure.phase, failure.code.as_str()), (phase, code), "{action}");
        assert_eq!(failure.log_tail, ["last words"]);
        assert_eq!(deploy.status, DeployStatus::Failed);
        assert_eq!(replicas(&world), [1], "{action}");
        assert_eq!(world.held().serving, Some(1), "{action}");
        assert_eq!(world.held().cache, cache, "{action}");
        assert_eq!(world.held().images.len(), 1, "{action}: the failed image is gone");
    }
    assert_eq!(world.deploy(APP).await.status, DeployStatus::Succeeded);
}

#[tokio::test]
async fn a_gateway_killed_anywhere_leaves_the_old_or_the_new_release() {
    let mut world = World::new().await;
    world.deploy(APP).await;
    let (mut serving, mut cache) = (1, world.held().cache.clone());
    for (action, hang, survives) in [
        ("Build", Hang::Before, false),
        ("Build", Hang::After, false),
        ("RunOnce php migrate.php", Hang::After, false),
        ("Ensure app/web", Hang::Before, false),
        ("Ensure app/web", Hang::After, false),
        ("AwaitHealthy", Hang::Before, false),
        ("Ensure proxy/cache", Hang::After, false),
        ("Ensure routing/route", Hang::Before, false),
        ("Ensure routing/route", Hang::After, true),
        ("Watch", Hang::Before, true),
        ("Drain", Hang::Before, true),
        ("Remove app/web", Hang::After, true),
        ("RunOnce php warm.php", Hang::Before, true),
    ] {
        // Nodes are reconciled when a gateway starts; the hanging action is to be the deploy's.
        world.quiet().await;
        let ttl = format!("{}m", world.held().calls.len() + 1);
        world.held().hang = Some((action.to_owned(), hang));
        let deploy = world.submit(&with_ttl(&ttl), SourceInfo::default()).await.unwrap();
        let reached = world.reached.clone();
        tokio::time::timeout(std::time::Duration::from_secs(10), reached.notified()).await.expect(action);
        world.restart().await;
        let ended = world.finished(DeployId(deploy.id)).await;
        let what = format!("{action} {hang:?}: {:?}", ended.failure);
        if survives {
            serving = ended.release.unwrap().0;
            assert_eq!(ended.status, DeployStatus::Succeeded, "{what}");
        } else {
            assert_eq!(ended.failure.map(|failure| failure.code).as_deref(), Some("interrupted"), "{what}");
        }
        assert_eq!(world.held().serving, Some(serving), "{what}");
        world.settles(&what, |held| held.services.values().flatten().eq([&serving])).await;
        let now = world.held().cache.clone();
        assert_eq!(now != cache, survives, "{what}: the cache is as it was, or the new release's");
        cache = now;
        let last = world.timeline().await.pop().unwrap();
        assert!(
            last.starts_with(if survives { "gateway deploy.succeeded" } else { "gateway deploy.failed" }),
            "{last}"
        );
    }
    assert_eq!(world.deploy(APP).await.status, DeployStatus::Succeeded);
}

#[tokio::test]
async fn one_deploy_at_a_time_others_are_refused_or_wait() {
    let world = World::new().await;
    world.held().hang = Some(("Build".to_owned(), Hang::Before));
    let first = world.submit(APP, SourceInfo::default()).await.unwrap();
    world.reached.notified().await;
    world.held().hang = None;
    let refused = world.submit(APP, SourceInfo::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::Locked);
    assert!(refused.message.contains(&first.id.to_string()) && refused.message.contains("admin"), "{refused}");
    let waiting = world.submit(APP, SourceInfo { wait: Some(10), ..Default::default() }).await.unwrap();
    assert_eq!(waiting.status, DeployStatus::Waiting);
    engine::cancel(world.state(), &world.test.admin, DeployId(first.id)).await.unwrap();
    assert_eq!(world.finished(DeployId(first.id)).await.status, DeployStatus::Cancelled);
    assert_eq!(world.finished(DeployId(waiting.id)).await.status, DeployStatus::Succeeded);
    let late = engine::cancel(world.state(), &world.test.admin, DeployId(waiting.id)).await.unwrap_err();
    assert_eq!(late.code, Code::NotCancellable);
}

#[tokio::test]
async fn a_retry_with_the_same_key_joins_the_first_try() {
    let world = World::new().await;
    let info = SourceInfo { idempotency_key: Some("k1".into()), ..Default::default() };
    let first = world.submit(APP, info.clone()).await.unwrap();
    let again = world.submit(APP, info.clone()).await.unwrap();
    assert_eq!(first.id, again.id);
    world.finished(DeployId(first.id)).await;
    assert_eq!(world.submit(APP, info).await.unwrap().id, first.id);
}

#[tokio::test]
async fn what_a_label_lacks_is_told_before_anything_is_recorded() {
    let world = World::new().await;
    for (manifest, info, code) in [
        ("app_layer: {replicas: many}", SourceInfo::default(), Code::ManifestInvalid),
        ("labels: {a: {}, b: {}}", SourceInfo::default(), Code::LabelUnknown),
        ("labels: {a: {}, b: {}}", SourceInfo { label: Some("c".into()), ..Default::default() }, Code::LabelUnknown),
        ("labels: {a: {cluster: mars}}", SourceInfo::default(), Code::ClusterUnknown),
    ] {
        assert_eq!(world.submit(manifest, info).await.unwrap_err().code, code, "{manifest}");
    }
    assert!(world.timeline().await.is_empty());
}

#[tokio::test]
async fn an_app_is_destroyed_with_all_that_it_had() {
    let world = World::new().await;
    world.deploy(APP).await;
    assert_eq!(world.held().databases.len(), 1);
    world.held().fail.insert("Remove db/mysql".to_owned());
    let found = apps::load_app(&world.state().db.conn().await.unwrap(), &app()).await.unwrap().unwrap();
    let interrupted = engine::destroy_app(world.state(), &world.test.admin, &found).await;
    assert!(interrupted.is_err());
    engine::destroy_app(world.state(), &world.test.admin, &found).await.unwrap();
    assert!(world.held().databases.is_empty());
    assert_eq!(world.held().serving, None);
    world
        .settles("nothing is left", |held| {
            held.images.is_empty()
                && !held.services.keys().any(|name| name.contains("-web-") || name.contains("-memcached"))
        })
        .await;
    assert_eq!(world.timeline().await.split_off(3), ["admin instance.destroyed", "admin app.destroyed"]);
    assert_eq!(world.deploy(APP).await.release.unwrap().0, 1);
}

#[tokio::test]
async fn a_node_that_comes_back_empty_is_laid_again() {
    let mut world = World::new().await;
    world.deploy(APP).await;
    {
        let mut held = world.held();
        held.services.clear();
        held.serving = None;
    }
    world.connect();
    world.settles("laid again", |held| held.serving == Some(1)).await;
    assert_eq!(replicas(&world), [1]);
}

#[tokio::test]
async fn a_preview_changes_nothing() {
    let world = World::new().await;
    world.state().engine.wait_ready(&[super::world::node()]).await;
    let body = || futures_util::stream::iter([Ok::<_, String>(super::world::archive(&[("index.php", "x")]))]);
    let before = world.held().calls.len();
    let preview =
        engine::preview(world.state(), &world.test.admin, &app(), SourceInfo::default(), body()).await.unwrap();
    assert_eq!((preview.buildpack.as_str(), preview.label.as_str()), ("php", "default"));
    assert!(preview.changes.iter().any(|change| change.key == "routing/route"));
    assert!(!preview.values.is_empty() && !preview.rendered.is_empty());
    assert!(world.held().calls[before..].iter().all(|call| !call.starts_with("Build") && !call.contains("app/")));
    assert!(world.timeline().await.is_empty());
}

/// Sets a value of the app's without deploying it.
async fn store(world: &World, key: &str, value: &str) {
    let name = ValueName { app: &app(), label: None, key };
    let state = world.state();
    set_value(&state.db, &state.seal, &world.test.admin, name, value).await.unwrap();
}

#[tokio::test]
async fn a_value_waits_for_the_next_deploy_whatever_is_laid_again_before() {
    let mut world = World::new().await;
    let manifest = format!("{APP}secrets: [KEY]\n");
    world.deploy(APP).await;
    store(&world, "KEY", "one").await;
    let first = world.deploy(&manifest).await;
    assert_eq!(first.failure, None);
    store(&world, "KEY", "two").await;
    let given = |world: &World| {
        let held = world.held();
        let web = held.given.iter().filter(|(name, _)| name.contains("-web-v"));
        web.filter_map(|(_, values)| values.get("KEY").cloned()).collect::<Vec<_>>()
    };
    world.held().given.clear();
    world.restart().await;
    world.settles("laid again", |held| held.given.keys().any(|name| name.contains("-web-v"))).await;
    assert_eq!(given(&world), ["one"]);
    world.held().given.clear();
    assert_eq!(world.deploy(&manifest).await.failure, None);
    assert_eq!(given(&world), ["two"]);
}

#[tokio::test]
async fn a_value_that_is_replaced_during_a_deploy_is_kept_for_its_release() {
    let world = World::new().await;
    world.deploy(APP).await;
    store(&world, "KEY", "one").await;
    world.quiet().await;
    world.held().hang = Some(("Build".to_owned(), Hang::Pause));
    let deploy = world.submit(&format!("{APP}secrets: [KEY]\n"), SourceInfo::default()).await.unwrap();
    world.reached.notified().await;
    store(&world, "KEY", "two").await;
    let forgotten = async || config_values::forget_former(&world.state().db.conn().await.unwrap()).await.unwrap();
    assert_eq!(forgotten().await, 0);
    world.held().hang = None;
    assert_eq!(world.finished(DeployId(deploy.id)).await.failure, None);
    assert_eq!(forgotten().await, 0);
    let given: Vec<_> = world.held().given.values().filter_map(|values| values.get("KEY").cloned()).collect();
    assert_eq!(given, ["one"]);
    // A plain deploy takes the new value; the old one stays for the way back.
    world.deploy(&format!("{APP}secrets: [KEY]\n")).await;
    assert_eq!(forgotten().await, 0);
}

fn calls(world: &World) -> Vec<String> {
    let held = world.held();
    held.calls.iter().filter(|call| !matches!(call.as_str(), "Inventory" | "Prune" | "ReadServing")).cloned().collect()
}

async fn roll_back(world: &World, to: Option<u32>) -> Result<DeployInfo, ApiError> {
    let conn = world.state().db.conn().await.unwrap();
    let found = apps::load_app(&conn, &app()).await.unwrap().unwrap();
    let instance = instances::list_app_instances(&conn, found.id).await.unwrap().remove(0);
    drop(conn);
    engine::rollback(world.state(), &world.test.admin, instance, to.map(ReleaseNumber), 0).await
}

#[tokio::test]
async fn a_gateway_killed_while_it_goes_back_leaves_the_one_or_the_other() {
    let mut world = World::new().await;
    let mut caches = Vec::new();
    for ttl in ["1m", "2m"] {
        assert_eq!(world.deploy(&with_ttl(ttl)).await.failure, None);
        caches.push(world.held().cache.clone());
    }
    let mut serving = 2;
    for (action, hang, survives) in [
        ("Ensure app/web", Hang::After, false),
        ("AwaitHealthy", Hang::Before, false),
        ("Ensure proxy/cache", Hang::After, false),
        ("Ensure routing/route", Hang::Before, false),
        ("Ensure routing/route", Hang::After, true),
        ("Drain", Hang::Before, true),
        ("Remove app/web", Hang::After, true),
        ("RunOnce php warm.php", Hang::Before, true),
    ] {
        world.quiet().await;
        world.held().hang = Some((action.to_owned(), hang));
        let other = 3 - serving;
        let deploy = roll_back(&world, Some(other)).await.unwrap();
        let reached = world.reached.clone();
        tokio::time::timeout(std::time::Duration::from_secs(10), reached.notified()).await.expect(action);
        world.restart().await;
        let ended = world.finished(DeployId(deploy.id)).await;
        let what = format!("{action} {hang:?}: {:?}", ended.failure);
        assert_eq!(ended.status == DeployStatus::Succeeded, survives, "{what}");
        serving = if survives { other } else { serving };
        assert_eq!(world.held().serving, Some(serving), "{what}");
        world.settles(&what, |held| held.services.values().flatten().eq([&serving])).await;
        assert_eq!(world.held().cache, caches[serving as usize - 1], "{what}");
    }
    let last = roll_back(&world, Some(3 - serving)).await.unwrap();
    assert_eq!(world.finished(DeployId(last.id)).await.status, DeployStatus::Succeeded);
}

#[tokio::test]
async fn a_release_comes_back_with_its_configuration_and_its_values() {
    let world = World::new().await;
    let manifest = |ttl: &str| format!("{}secrets: [KEY]\n", with_ttl(ttl));
    world.deploy(APP).await;
    store(&world, "KEY", "one").await;
    world.deploy(&manifest("1m")).await;
    store(&world, "KEY", "two").await;
    assert_eq!(world.deploy(&manifest("2m")).await.failure, None);
    let cache = world.held().cache.clone();
    let timeline = world.timeline().await.len();
    world.quiet().await;
    world.held().calls.clear();
    world.held().given.clear();

    let back = async |to: Option<u32>| {
        let deploy = roll_back(&world, to).await?;
        Ok::<_, ApiError>(world.finished(DeployId(deploy.id)).await)
    };
    let deploy = back(None).await.unwrap();
    assert_eq!((deploy.failure, deploy.status), (None, DeployStatus::Succeeded));
    assert_eq!(deploy.release, Some(ReleaseNumber(2)));
    assert_eq!(world.held().serving, Some(2));
    assert_eq!(replicas(&world), [2]);
    assert_ne!(world.held().cache, cache);
    let given: Vec<_> = world.held().given.values().filter_map(|values| values.get("KEY").cloned()).collect();
    assert_eq!(given, ["one"]);
    // Nothing is built, and the data are not migrated by old code.
    let calls = calls(&world);
    assert!(!calls.iter().any(|call| call == "Build" || call.contains("migrate")), "{calls:?}");
    assert!(calls.contains(&"RunOnce php warm.php".to_owned()), "{calls:?}");
    assert_eq!(world.timeline().await[timeline..], ["admin deploy.started", "admin deploy.succeeded"]);

    // One that fails leaves the other's image alone.
    world.held().fail.insert("AwaitHealthy".into());
    let failed = back(Some(3)).await.unwrap();
    assert_eq!(failed.status, DeployStatus::Failed);
    assert_eq!(world.held().serving, Some(2));
    world.quiet().await;
    let deploy = back(Some(3)).await.unwrap();
    assert_eq!((deploy.failure, world.held().serving), (None, Some(3)));
    assert_eq!(world.held().cache, cache);
    assert_eq!(world.held().images.len(), 3);
    for (to, message) in [
        (Some(3), "v3 serves blog (default) already"),
        (Some(9), "blog (default) has no release v9 that served and is kept"),
    ] {
        assert_eq!(back(to).await.unwrap_err().message, message);
    }
    // What follows is a release of its own again, with the values of now.
    let next = world.deploy(&manifest("2m")).await;
    assert_eq!(next.release, Some(ReleaseNumber(4)));
}

#[tokio::test]
async fn what_serves_already_is_skipped_when_asked() {
    let world = World::new().await;
    let skip = || SourceInfo { if_unchanged: IfUnchanged::Skip, ..SourceInfo::default() };
    let first = world.submit(APP, skip()).await.unwrap();
    assert!(!first.unchanged);
    world.finished(DeployId(first.id)).await;
    let calls = |world: &World| world.held().calls.iter().filter(|call| *call == "Build").count();
    let same = world.submit(APP, skip()).await.unwrap();
    assert_eq!((same.id, same.unchanged, same.status), (first.id, true, DeployStatus::Succeeded));
    assert_eq!((same.release.unwrap().0, calls(&world)), (1, 1));
    // Without being asked it is a release as any other; so is another source, and the same with other values.
    assert_eq!(world.deploy(APP).await.release.unwrap().0, 2);
    let other = world.submit(&with_ttl("1m"), skip()).await.unwrap();
    assert_eq!(world.finished(DeployId(other.id)).await.release.unwrap().0, 3);
    assert!(world.submit(&with_ttl("1m"), skip()).await.unwrap().unchanged);
    let (state, name) = (world.state(), ValueName { app: &app(), label: None, key: "KEY" });
    set_value(&state.db, &state.seal, &world.test.admin, name, "x").await.unwrap();
    let again = world.submit(&with_ttl("1m"), skip()).await.unwrap();
    assert_eq!(world.finished(DeployId(again.id)).await.release.unwrap().0, 4);
    // What is down is deployed, whatever it was made from.
    world.held().serving = None;
    let down = world.submit(&with_ttl("1m"), skip()).await.unwrap();
    assert!(!down.unchanged);
    world.finished(DeployId(down.id)).await;
}

#[tokio::test]
async fn releases_are_kept_by_count_and_age_and_never_without_a_way_back() {
    let world = World::new().await;
    let bounds = |count: u16, age: &str| {
        let text =
            CLUSTERS.replace("    domain:", &format!("    keep_releases: {{count: {count}, age: {age}}}\n    domain:"));
        world.test.clusters.send_replace(std::sync::Arc::new(parse_clusters("clusters.yml", &text).unwrap()));
    };
    bounds(3, "30d");
    for n in 0..5 {
        world.deploy(&with_ttl(&format!("{n}m"))).await;
    }
    let kept = async || {
        let conn = world.state().db.conn().await.unwrap();
        let instance = instances::list_instances(&conn).await.unwrap().remove(0).id;
        let kept = releases::list_kept(&conn, instance).await.unwrap();
        kept.into_iter().map(|number| number.0).collect::<Vec<_>>()
    };
    let settles = async |expected: &[u32]| {
        for _ in 0..200 {
            if kept().await == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(kept().await, expected);
    };
    settles(&[5, 4, 3]).await;
    assert_eq!(world.held().images.len(), 3);
    // Old ones go, but for what serves and the one to go back to.
    let conn = world.state().db.conn().await.unwrap();
    conn.batch_execute("UPDATE releases SET last_served = now() - interval '31 days'").await.unwrap();
    let instance = instances::list_instances(&conn).await.unwrap().remove(0);
    drop(conn);
    engine::sweep_later(world.state(), &instance.cluster);
    settles(&[5, 4]).await;
    let back = engine::rollback(world.state(), &world.test.admin, instance.clone(), None, 0).await.unwrap();
    assert_eq!(world.finished(DeployId(back.id)).await.release.unwrap().0, 4);
    assert_eq!(world.held().serving, Some(4));
    // What served until a moment ago is young, however old it is.
    settles(&[5, 4]).await;
    let conn = world.state().db.conn().await.unwrap();
    conn.batch_execute("UPDATE releases SET last_served = now() - interval '31 days'").await.unwrap();
    drop(conn);
    bounds(1, "30d");
    engine::sweep_later(world.state(), &instance.cluster);
    settles(&[4]).await;
    assert_eq!(world.held().images.len(), 1);
}
