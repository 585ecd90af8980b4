//! Instances of branches: made, named, bounded, renewed and taken away.

use magrathea_core::api::{DeployEventKind, InstanceInfo, SourceInfo};
use magrathea_core::clusters::parse_clusters;
use magrathea_core::names::DeployId;
use magrathea_core::people::{Access, Grant, Role, Scope};

use super::world::{World, app, archive, named};
use crate::actor::Actor;
use crate::api::error::Code;
use crate::db::{apps, previews};
use crate::engine;
use crate::testing::CLUSTERS;

const MANIFEST: &str = r#"
app_layer: {stack: php}
labels:
  production: {branch: main}
  "preview/*": {expire: 1h}
"#;

fn of_branch(branch: &str) -> SourceInfo {
    SourceInfo { branch: Some(branch.into()), ..SourceInfo::default() }
}

async fn deploy(world: &World, info: SourceInfo) -> Vec<String> {
    let deploy = world.submit(MANIFEST, info).await.unwrap();
    let events = world.events(DeployId(deploy.id)).await;
    let warning = |event: magrathea_core::api::DeployEvent| match event.event {
        DeployEventKind::Warning { message } => Some(message),
        _ => None,
    };
    events.into_iter().filter_map(warning).collect()
}

async fn instances(world: &World) -> Vec<InstanceInfo> {
    engine::instance_infos(world.state(), &world.test.admin, None).await.unwrap()
}

async fn labels(world: &World) -> Vec<String> {
    instances(world).await.into_iter().map(|instance| instance.label).collect()
}

async fn sql(world: &World, text: &str) {
    world.state().db.conn().await.unwrap().batch_execute(text).await.unwrap();
}

#[tokio::test]
async fn a_branch_has_a_preview_that_expires() {
    let world = World::new().await;
    deploy(&world, of_branch("main")).await;
    deploy(&world, of_branch("preview/Login")).await;
    assert_eq!(labels(&world).await, ["preview-login", "production"]);
    let preview = instances(&world).await.remove(0);
    assert_eq!(preview.urls, ["http://blog-preview-login.localhost/"]);
    assert!(!preview.protected);
    let info = preview.preview.unwrap();
    assert_eq!((info.pattern.as_str(), info.branch.as_str()), ("preview/*", "preview/Login"));
    assert!(info.memory_gib_hours > 0.0 && info.memory_gib_hours < 0.1, "{}", info.memory_gib_hours);
    let left = info.expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((3500..=3600).contains(&left), "{left}");

    // Told once when little of its time is left, taken back by a deploy, told again, and gone in the end.
    sql(&world, "UPDATE previews SET expires = now() + interval '10 minutes'").await;
    let told = async |count: usize| {
        for _ in 0..80 {
            let timeline = world.timeline().await;
            if timeline.iter().filter(|line| line.ends_with(" preview.expires")).count() == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{:?}", world.timeline().await);
    };
    told(1).await;
    deploy(&world, SourceInfo { label: Some("preview-login".into()), ..of_branch("main") }).await;
    let renewed = instances(&world).await.remove(0).preview.unwrap();
    assert!(renewed.expires.duration_since(info.expires).as_secs() >= 0);
    assert_eq!(renewed.branch, "preview/Login");
    sql(&world, "UPDATE previews SET expires = now() + interval '10 minutes'").await;
    told(2).await;
    // The first try fails, and nobody else tries while it may still go on.
    world.held().fail.insert("Remove routing/route".into());
    sql(&world, "UPDATE previews SET expires = now()").await;
    world.settles("it was tried", |held| !held.fail.contains("Remove routing/route")).await;
    assert_eq!(labels(&world).await.len(), 2);
    let conn = world.state().db.conn().await.unwrap();
    assert!(previews::claim_expired(&conn).await.unwrap().is_empty());
    let refused = world.submit(MANIFEST, of_branch("preview/Login")).await.unwrap_err();
    assert_eq!(refused.code, Code::Locked, "{refused}");
    // Whoever had it is gone: the next one takes it away.
    sql(&world, "UPDATE previews SET ending = now() - interval '1 hour'").await;
    for _ in 0..80 {
        if labels(&world).await.len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(labels(&world).await, ["production"]);
    let timeline = world.timeline().await;
    assert!(timeline.contains(&"gateway instance.destroyed".into()), "{timeline:?}");
    assert!(timeline.contains(&"admin preview.created".into()), "{timeline:?}");
}

#[tokio::test]
async fn two_branches_never_share_a_preview_and_an_instance_never_becomes_one() {
    let world = World::new().await;
    deploy(&world, of_branch("preview/login")).await;
    let refused = world.submit(MANIFEST, of_branch("preview/Login")).await.unwrap_err();
    assert_eq!(refused.code, Code::NameTaken);
    assert!(refused.message.contains("belongs to the branch preview/login"), "{refused}");
    // A label of its own takes the instance over, and it stays.
    let deploy = world.submit("labels: {preview-login: {branch: main}}", of_branch("main")).await.unwrap();
    world.finished(DeployId(deploy.id)).await;
    let kept = instances(&world).await.remove(0);
    assert_eq!((kept.label.as_str(), kept.preview), ("preview-login", None));
    let refused = world.submit(MANIFEST, of_branch("preview/login")).await.unwrap_err();
    assert_eq!(refused.code, Code::NameTaken);
    assert!(refused.message.contains("is no preview"), "{refused}");
    let conn = world.state().db.conn().await.unwrap();
    let stored = apps::load_app(&conn, &app()).await.unwrap().unwrap();
    drop(conn);
    let name = named("preview-login");
    let refused = engine::end_preview(world.state(), &world.test.admin, &stored, &name, "").await.unwrap_err();
    assert_eq!(refused.code, Code::NotPreview);
    assert_eq!(labels(&world).await, ["preview-login"]);
}

#[tokio::test]
async fn previews_are_bounded() {
    let world = World::new().await;
    let bounded = CLUSTERS.replace("    domain:", "    previews: 2\n    domain:");
    world.test.clusters.send_replace(std::sync::Arc::new(parse_clusters("clusters.yml", &bounded).unwrap()));
    let (one, two) = tokio::join!(deploy(&world, of_branch("preview/a")), deploy(&world, of_branch("preview/b")));
    assert_eq!((one.len(), two.len()), (0, 0));
    let refused = world.submit(MANIFEST, of_branch("preview/c")).await.unwrap_err();
    assert_eq!(refused.code, Code::LimitReached);
    assert!(refused.message.contains("blog has 2 previews on local"), "{refused}");
    assert!(refused.hint.unwrap().contains("`previews` of the cluster"));
    // Those that are there can still be deployed, and one that goes makes room.
    deploy(&world, of_branch("preview/a")).await;
    let stored = apps::load_app(&world.state().db.conn().await.unwrap(), &app()).await.unwrap().unwrap();
    engine::end_preview(world.state(), &world.test.admin, &stored, &named("preview-b"), "done").await.unwrap();
    deploy(&world, of_branch("preview/c")).await;
    assert_eq!(labels(&world).await, ["preview-a", "preview-c"]);
}

#[tokio::test]
async fn a_grant_on_the_pattern_is_enough_for_previews_and_for_nothing_else() {
    let world = World::new().await;
    deploy(&world, of_branch("main")).await;
    let stored = apps::load_app(&world.state().db.conn().await.unwrap(), &app()).await.unwrap().unwrap();
    let scope = Scope::of_labels(stored.id, "preview/*").unwrap();
    let grants = vec![Grant { role: Role::Developer, scope }];
    let actor = Actor { access: Access { grants, limits: None }.into(), ..world.test.admin.clone() };
    let submit = async |branch: &str| {
        let body = archive(&[("magrathea.yml", MANIFEST), ("index.php", "<?php")]);
        let body = futures_util::stream::iter([Ok::<_, String>(body)]);
        engine::submit(world.state(), &actor, &app(), of_branch(branch), body).await
    };
    let deploy = submit("preview/x").await.unwrap();
    world.finished(DeployId(deploy.id)).await;
    assert_eq!(submit("main").await.unwrap_err().code, Code::InstanceNotFound);
    let seen = engine::instance_infos(world.state(), &actor, None).await.unwrap();
    assert_eq!(seen.len(), 1);
    let conn = world.state().db.conn().await.unwrap();
    let lines = crate::db::timeline::list(&conn, &actor.access, Default::default(), 50).await.unwrap();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.label.as_deref() == Some("preview-x")), "{lines:?}");
}

#[tokio::test]
async fn a_label_that_leaves_the_file_is_told_and_serves_on() {
    let world = World::new().await;
    deploy(&world, of_branch("main")).await;
    deploy(&world, of_branch("preview/x")).await;
    let submit = async |manifest: &str| {
        let deploy = world.submit(manifest, SourceInfo::default()).await.unwrap();
        let events = world.events(DeployId(deploy.id)).await;
        events.iter().filter(|e| format!("{e:?}").contains("has left magrathea.yml")).count()
    };
    assert_eq!(submit("labels: {live: {}}").await, 1);
    let since = |all: &[InstanceInfo], label: &str| {
        all.iter().find(|instance| instance.label == label).and_then(|instance| instance.absent_since)
    };
    let all = instances(&world).await;
    let left = since(&all, "production").unwrap();
    assert!(world.held().serving.is_some());
    // The preview's label is of another branch's file.
    assert_eq!((since(&all, "live"), since(&all, "preview-x")), (None, None));
    assert_eq!(submit("labels: {live: {}}").await, 1);
    assert_eq!(since(&instances(&world).await, "production"), Some(left));
    assert_eq!(submit("labels: {live: {}, production: {branch: main}, default: {}}").await, 0);
    assert_eq!(since(&instances(&world).await, "production"), None);
}
