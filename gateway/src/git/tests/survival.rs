//! Two at once, clients that leave, gateways that are killed.

use std::time::Duration;

use magrathea_core::api::SourceInfo;
use magrathea_core::names::DeployId;

use super::forge::Forge;
use crate::engine::tests::world::Hang;

fn hang(forge: &Forge, action: &str) {
    forge.world.held().hang = Some((action.into(), Hang::Before));
}

#[tokio::test]
async fn a_second_push_waits_and_sees_what_the_first_has_moved() {
    let forge = Forge::new().await;
    let (one, two) = (forge.clone().await, forge.clone().await);
    let manifest = ("magrathea.yml", "labels: {production: {branch: main}, staging: {branch: develop}}\n");
    let commit = one.commit(&[("index.php", "<?php echo 1;"), manifest]).await;
    two.commit(&[("index.php", "<?php echo 2;"), manifest]).await;
    // Not hung for good: the test lets it go on when both others wait.
    forge.world.held().hang = Some(("Build".into(), Hang::Pause));
    let first = one.push(&["main"]);
    let waiting = async {
        forge.world.reached.notified().await;
        let same = two.push(&["--force", "main"]);
        let other = two.push(&["main:develop"]);
        let both = async { tokio::join!(same, other) };
        let mut both = std::pin::pin!(both);
        let early = tokio::time::timeout(Duration::from_secs(2), both.as_mut()).await;
        assert!(early.is_err(), "they wait");
        forge.world.held().hang = None;
        both.await
    };
    let (first, (same, other)) = tokio::join!(first, waiting);
    first.ok();
    for said in [&same.said, &other.said] {
        assert!(said.contains("waiting for the push of admin since"), "{said}");
    }
    assert!(same.refused().contains("main has moved while this push waited"));
    other.ok();
    assert_eq!(forge.reference("refs/heads/main").await, Some(commit));
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_push_that_waited_is_refused_when_its_branch_has_moved() {
    let forge = Forge::new().await;
    let (one, two) = (forge.clone().await, forge.clone().await);
    one.commit(&[("index.php", "<?php echo 1;")]).await;
    one.push(&["main:feature"]).await.ok();
    two.commit(&[("index.php", "<?php echo 2;")]).await;
    let repository = forge.world.state().git.repository(app_id(&forge).await).await.unwrap();
    let turn = repository.take_turn("somebody").await;
    let (pushes, ()) = tokio::join!(
        async { tokio::join!(one.push(&["--force", "main:feature2"]), two.push(&["--force", "main:feature2"])) },
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(turn);
        }
    );
    let (one, two) = pushes;
    assert_ne!(one.ok, two.ok, "{one:?} {two:?}");
    let refused = if one.ok { two } else { one };
    assert!(refused.said.contains("feature2 has moved while this push waited"), "{}", refused.said);
}

async fn app_id(forge: &Forge) -> magrathea_core::names::AppId {
    let conn = forge.world.state().db.conn().await.unwrap();
    crate::db::apps::load_app(&conn, &"blog".parse().unwrap()).await.unwrap().unwrap().id
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_deploy() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php")]).await;
    hang(&forge, "Build");
    let push = clone.begin_push("main");
    forge.world.reached.notified().await;
    push.interrupt().await;
    forge.world.held().hang = None;
    for _ in 0..100 {
        if forge.world.timeline().await.iter().any(|line| line == "admin push.closed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let timeline = forge.world.timeline().await;
    assert!(timeline.iter().any(|line| line == "admin deploy.cancel"), "{timeline:?}");
    assert!(timeline.iter().any(|line| line == "admin push.closed"), "{timeline:?}");
    assert_eq!(forge.reference("refs/heads/main").await, None);
    clone.push(&["main"]).await.ok();
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_client_that_leaves_after_the_cut_over_has_pushed() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php echo 1;")]).await;
    clone.push(&["main"]).await.ok();
    let commit = clone.commit(&[("index.php", "<?php echo 2;")]).await;
    forge.world.held().hang = Some(("Drain".into(), Hang::Pause));
    let push = clone.begin_push("main");
    forge.world.reached.notified().await;
    push.interrupt().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    forge.world.held().hang = None;
    for _ in 0..100 {
        if forge.reference("refs/heads/main").await.as_deref() == Some(&commit) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(forge.reference("refs/heads/main").await, Some(commit));
    assert_eq!(forge.world.held().serving, Some(2));
}

#[tokio::test]
async fn a_killed_gateway_leaves_the_repository_whole_and_the_push_repeatable() {
    let mut forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php echo 1;")]).await;
    clone.push(&["main"]).await.ok();
    let commit = clone.commit(&[("index.php", "<?php echo 2;")]).await;
    hang(&forge, "Build");
    let push = clone.begin_push("main");
    forge.world.reached.notified().await;
    forge.restart().await;
    assert!(!push.end().await);
    assert_eq!(forge.flaws().await, "");
    clone.push(&["main"]).await.ok();
    assert_eq!(forge.reference("refs/heads/main").await, Some(commit));
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_push_that_was_cut_off_after_the_cut_over_is_repeated_without_a_deploy() {
    let mut forge = Forge::new().await;
    let clone = forge.clone().await;
    let first = clone.commit(&[("index.php", "<?php echo 1;")]).await;
    clone.push(&["main"]).await.ok();
    for (n, values_change) in [(2, false), (3, true)] {
        let before = forge.reference("refs/heads/main").await;
        let commit = clone.commit(&[("index.php", &format!("<?php echo {n};"))]).await;
        hang(&forge, "Drain");
        let push = clone.begin_push("main");
        forge.world.reached.notified().await;
        forge.restart().await;
        assert!(!push.end().await);
        assert_eq!(forge.reference("refs/heads/main").await, before);
        assert_eq!(forge.world.held().serving, Some(n));
        if values_change {
            let conn = forge.world.state().db.conn().await.unwrap();
            conn.execute("UPDATE apps SET config_version = config_version + 1", &[]).await.unwrap();
        }
        // The recovery may be under way still.
        let said = clone.push(&["main"]).await.ok();
        let again = format!("=====> v{n} of blog, label default, serves this commit already");
        assert_eq!(said.contains(&again), !values_change, "{said}");
        assert_eq!(forge.world.held().serving, Some(if values_change { n + 1 } else { n }));
        assert_eq!(forge.reference("refs/heads/main").await, Some(commit));
    }
    // What merely served once is deployed.
    clone.git(&["reset", "--quiet", "--hard", &first]).await.ok();
    clone.push(&["--force", "main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(5));
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_commit_by_name_alone_is_deployed() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let commit = clone.commit(&[("index.php", "<?php echo 'another';")]).await;
    // Somebody's working tree, said to be that commit.
    let info = SourceInfo { commit: Some(commit.clone()), ..SourceInfo::default() };
    let deploy = forge.world.submit("", info).await.unwrap();
    forge.world.finished(DeployId(deploy.id)).await;
    let said = clone.push(&["main"]).await.ok();
    assert!(said.contains("=====> v2 of blog, label default on local"), "{said}");
    assert_eq!(forge.reference("refs/heads/main").await, Some(commit));
}
