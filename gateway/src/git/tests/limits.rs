//! Pushes beyond each limit: what is said, that nothing is left of them, and that the next one succeeds.

use std::time::Duration;

use rustix::process::Signal;

use super::forge::{Clone, Forge};
use crate::engine::tests::world::Hang;
use crate::git::Limits;

/// Commits a file that cannot be packed any smaller; the commit.
async fn large(clone: &Clone, bytes: usize) -> String {
    let mut content = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut content).unwrap();
    std::fs::write(clone.path().join("large"), content).unwrap();
    clone.commit(&[("index.php", "<?php")]).await
}

/// Nothing of the refused push is left, and one that is small succeeds.
async fn is_whole(forge: &Forge, clone: &Clone) {
    assert_eq!(forge.flaws().await, "");
    assert_eq!(forge.reference("refs/heads/topic").await, None);
    clone.git(&["rm", "--quiet", "--cached", "large"]).await.ok();
    clone.git(&["commit", "--quiet", "--amend", "--message", "small"]).await.ok();
    clone.push(&["main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(1));
    assert_eq!(forge.flaws().await, "");
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it does not come about");
}

#[tokio::test]
async fn a_pack_that_is_too_large_is_refused() {
    let forge = Forge::with(Limits { pack: 1 << 20, ..Limits::default() }).await;
    let clone = forge.clone().await;
    large(&clone, 30 << 20).await;
    let said = clone.push(&["main:topic"]).await.refused();
    assert!(said.contains("error: the push brings more than 1MiB, the most at once"), "{said}");
    assert!(said.contains("hint: push older commits first, to a branch that deploys nothing"), "{said}");
    let told = forge.outcomes().await;
    assert!(told.last().unwrap().ends_with("the push brings more than 1MiB, the most at once"), "{told:?}");
    is_whole(&forge, &clone).await;
}

#[tokio::test]
async fn a_repository_that_is_too_large_takes_no_more_until_there_is_room() {
    let forge = Forge::with(Limits { repository: 1 << 20, ..Limits::default() }).await;
    let clone = forge.clone().await;
    let commit = large(&clone, 2 << 20).await;
    clone.push(&["main:topic"]).await.ok();
    until(async || forge.size().await > 1 << 20).await;
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("error: the repository has grown beyond its limit of 1MiB"), "{said}");
    assert!(said.contains("hint: keep large files out of git; whoever runs the gateway can throw"), "{said}");
    let url = forge.url(&forge.world.test.token, "blog.git");
    clone.git(&["clone", "--quiet", "--branch=topic", &url, "clones/topic"]).await.ok();
    assert_eq!(forge.reference("refs/heads/topic").await, Some(commit));
    // As docs/operate/README.md says.
    let path = forge.repository().await;
    let path = path.to_str().unwrap();
    for command in [
        &["update-ref", "-d", "refs/heads/topic"][..],
        &["reflog", "expire", "--expire=now", "--all"],
        &["gc", "--quiet", "--prune=now"],
    ] {
        clone.git(&[&["-C", path][..], command].concat()).await.ok();
    }
    is_whole(&forge, &clone).await;
}

#[tokio::test]
async fn a_full_disk_takes_no_pushes() {
    let mut forge = Forge::with(Limits { free: u64::MAX, ..Limits::default() }).await;
    let clone = forge.clone().await;
    large(&clone, 1 << 20).await;
    let said = clone.push(&["main:topic"]).await.refused();
    assert!(said.contains("error: the gateway's disk is nearly full: nothing can be pushed"), "{said}");
    assert!(said.contains("hint: tell whoever runs the gateway"), "{said}");
    let url = forge.url(&forge.world.test.token, "blog.git");
    clone.git(&["clone", "--quiet", &url, "clones/readable"]).await.ok();
    forge.restart().await;
    is_whole(&forge, &clone).await;
}

#[tokio::test]
async fn a_push_that_stalls_is_given_up() {
    let forge = Forge::with(Limits { idle: Duration::from_secs(1), ..Limits::default() }).await;
    let clone = forge.clone().await;
    large(&clone, 60 << 20).await;
    let push = clone.begin_push("main:topic");
    let arriving = forge.repository().await.join("objects");
    until(async || std::fs::read_dir(&arriving).is_ok_and(|all| all.count() > 2)).await;
    push.signal(Signal::STOP);
    let given_up = "git ended with 128: nothing moved for 1s";
    until(async || forge.outcomes().await.last().is_some_and(|last| last.ends_with(given_up))).await;
    assert_eq!(forge.flaws().await, "");
    push.signal(Signal::CONT);
    let said = push.said().await.refused();
    assert!(said.contains("error: nothing moved for 1s"), "{said}");
    is_whole(&forge, &clone).await;
}

#[tokio::test]
async fn a_push_that_takes_too_long_is_given_up() {
    let forge = Forge::with(Limits { longest: Duration::from_secs(2), ..Limits::default() }).await;
    let clone = forge.clone().await;
    large(&clone, 1 << 20).await;
    forge.world.held().hang = Some(("Build".into(), Hang::Before));
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("error: it took longer than 2s"), "{said}");
    assert!(said.contains("hint: move less at once"), "{said}");
    forge.world.held().hang = None;
    assert_eq!(forge.reference("refs/heads/main").await, None);
    is_whole(&forge, &clone).await;
}
