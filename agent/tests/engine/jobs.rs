//! One-off commands of a release, and storage with its seed.

use std::time::Duration;

use magrathea_core::clusters::StorageDriver;
use magrathea_core::names::Layer;
use magrathea_core::plan::*;
use magrathea_core::units::Span;
use magrathea_core::wire::*;

use crate::support::{Node, SLUG};

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_once_with_what_the_release_has() {
    let Some(node) = Node::start("magtk", &["static"]).await else { return };
    let source = node.blob(&[("index.html", "hello"), ("uploads/a.txt", "seeded")]);
    let image = node.ask(node.build(source, &[])).await.unwrap().image;
    node.ensure(Layer::App, Spec::Network(NetworkSpec { name: SLUG.into() })).await.unwrap();
    let storage = StorageSpec {
        slug: SLUG.into(),
        driver: StorageDriver::Directory,
        base: None,
        quota: None,
        uid: 200_001,
        mounts: vec![StorageMount { name: "uploads-1".into(), path: "uploads".into(), shared: true }],
        spread: false,
    };
    assert!(node.ensure(Layer::Storage, Spec::Storage(storage.clone())).await.unwrap().changed);
    assert!(!node.ensure(Layer::Storage, Spec::Storage(storage.clone())).await.unwrap().changed);
    let seed = || Spec::Seed(SeedSpec { storage: storage.clone(), image: image.clone() });
    assert!(node.ensure(Layer::Storage, seed()).await.unwrap().changed);
    assert!(!node.ensure(Layer::Storage, seed()).await.unwrap().changed);

    let mut service = node.web(&image, 1, 1);
    service.mounts = vec![MountSpec {
        source: MountSource::Storage { slug: SLUG.into(), base: None, mount: "uploads-1".into() },
        target: "/app/uploads".into(),
        read_only: false,
    }];
    let run = |name: &str, command: &str, seconds: u64| RunOnce {
        service: Box::new(service.clone()),
        secrets: [("WORD".to_owned(), "xyzzy".to_owned())].into(),
        command: command.into(),
        name: format!("{SLUG}-{name}"),
        timeout: Span(Duration::from_secs(seconds)),
    };
    let began = std::time::Instant::now();
    let ran = node
        .ask(run(
            "one",
            "cat uploads/a.txt; echo; echo $PLAIN $HIDDEN; id -u; pwd; echo more >> uploads/a.txt; exit 7",
            20,
        ))
        .await;
    println!("a job: {:?}", began.elapsed());
    let said = node.said().await;
    assert_eq!(ran.map(|ran| ran.exit_code), Ok(7), "{said:?}");
    assert_eq!(said, ["seeded", "plain xyzzy", "200001", "/app"]);
    assert_eq!(node.ask(run("two", "true", 20)).await.map(|ran| ran.exit_code), Ok(0));
    assert_eq!(node.ask(run("three", "sleep 60", 3)).await.unwrap_err().kind, ActionErrorKind::TimedOut);

    // Two calls of one name are one run.
    let first = node.ask(run("four", "echo ran; sleep 1", 20));
    let interrupted = tokio::time::timeout(Duration::from_millis(900), first).await;
    assert!(interrupted.is_err());
    assert_eq!(node.ask(run("four", "echo ran; sleep 1", 20)).await.map(|ran| ran.exit_code), Ok(0));
    assert!(node.ask(Inventory {}).await.unwrap().services.is_empty(), "no job stays");

    assert!(node.remove(Layer::Storage, Spec::Storage(storage)).await.unwrap().changed);
    assert!(node.remove(Layer::App, Spec::Network(NetworkSpec { name: SLUG.into() })).await.unwrap().changed);
    node.end().await;
}
