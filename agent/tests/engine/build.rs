//! Builds: what comes of them, and each way in which they can fail.

use std::time::{Duration, Instant};

use magrathea_core::units::Span;
use magrathea_core::wire::*;

use crate::support::Node;

#[tokio::test(flavor = "multi_thread")]
async fn builds_end_as_they_should() {
    let Some(node) = Node::start("magtb", &["static"]).await else { return };
    let source = || node.blob(&[("index.html", "hello"), ("uploads/a.txt", "a")]);

    let mut plain = node.build(source(), &[]);
    plain.hidden_by_mounts = vec!["uploads".into()];
    let began = Instant::now();
    let built = node.ask(plain).await.unwrap();
    println!("without commands: {:?}", began.elapsed());
    assert!(built.image.starts_with("sha256:") && built.size > 0);
    assert!(node.said().await.concat().contains("warning: 1 file"));

    let commands =
        [("echo made > made.txt; mkdir -p out; cp made.txt out/; echo said; id -u; touch /cache/kept", false)];
    let mut made = node.build(source(), &commands);
    made.output = Some("out".into());
    let began = Instant::now();
    node.ask(made).await.unwrap();
    println!("with a command: {:?}", began.elapsed());
    let said = node.said().await;
    assert!(said.contains(&"said".to_owned()) && said.contains(&"199999".to_owned()), "{said:?}");

    let check = |run: &'static str| {
        let mut build = node.build(source(), &[(run, false)]);
        build.timeout = Span(Duration::from_secs(4));
        let node = &node;
        async move { node.ask(build).await.map_err(|error| (error.kind, error.log_tail.join("\n"))) }
    };
    assert!(check("test -e /cache/kept && ! test -e out").await.is_ok(), "the cache stays, the work does not");
    let (kind, tail) = check("echo because; exit 3").await.unwrap_err();
    assert_eq!((kind, tail.as_str()), (ActionErrorKind::CommandFailed, "because"));
    assert_eq!(check("sleep 60").await.unwrap_err().0, ActionErrorKind::TimedOut);
    assert_eq!(check("head -c 200M /dev/zero > big").await.unwrap_err().0, ActionErrorKind::DiskFull);
    assert_eq!(check("head -c 400M /dev/zero | tail").await.unwrap_err().0, ActionErrorKind::OutOfMemory);
    assert_eq!(check("mkfifo pipe").await.unwrap_err().0, ActionErrorKind::Refused);
    assert_eq!(check("! touch /usr/x").await.map(|_| ()), Ok(()), "the root is read-only");

    let cancelled = node.ask(node.build(source(), &[("sleep 60", false)]));
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.call.cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(cancelled, cancel);
    assert_eq!(outcome.unwrap_err().kind, ActionErrorKind::Cancelled);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*node.options.data.to_string_lossy()), "no disk stays mounted");
    node.end().await;
}
