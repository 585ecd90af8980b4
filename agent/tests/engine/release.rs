//! Releases: made, healthy, switched to under load, drained, removed; and followed when a replica dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use magrathea_core::names::{InstanceId, Layer, ReleaseNumber};
use magrathea_core::plan::*;
use magrathea_core::units::Span;
use magrathea_core::wire::*;

use crate::support::{Node, SLUG};

const PORT: u16 = 18_480;

fn router_config() -> String {
    let maps = "/etc/magrathea/router/maps";
    format!(
        "global\n  stats socket /run/magrathea/admin/stats.sock mode 600 level admin expose-fd listeners\n  hard-stop-after 1m\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n  option idle-close-on-response\n\
         frontend public\n  bind 127.0.0.1:{PORT}\n  bind 127.0.0.1:{} ssl crt /etc/magrathea/router/certs/\n\
         \x20 http-request set-var(txn.slug) req.hdr(host),host_only,lower,map_str({maps}/hosts.map)\n\
         \x20 http-request set-var(txn.slug) req.hdr(host),host_only,lower,map_end({maps}/wildcards.map) if !{{ var(txn.slug) -m found }}\n\
         \x20 http-request set-var(txn.active) var(txn.slug),map_str({maps}/active.map)\n\
         \x20 http-request set-var(txn.backend) var(txn.active),field(1,'\",\"')\n\
         \x20 use_backend %[var(txn.backend)] if {{ var(txn.backend) -m found }}\n\
         \x20 http-request return status 404 if !{{ var(txn.backend) -m found }}\n",
        PORT + 1
    )
}

fn router(image: &str) -> ServiceSpec {
    let mount = |folder: NodeFolder, read_only| MountSpec {
        source: MountSource::Node(folder),
        target: folder.target().into(),
        read_only,
    };
    ServiceSpec {
        name: "router".into(),
        image: image.into(),
        mode: ServiceMode::Global,
        on: Layer::Routing,
        spread: false,
        network: ServiceNetwork::Host,
        user: None,
        command: Vec::new(),
        env: Default::default(),
        files: Vec::new(),
        secret_env: Default::default(),
        mounts: vec![
            mount(NodeFolder::Router, true),
            mount(NodeFolder::Sockets, false),
            mount(NodeFolder::RouterAdmin, false),
        ],
        tmpfs: Vec::new(),
        read_only: true,
        capabilities: Some(["KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"].map(str::to_owned).to_vec()),
        limits: Limits::default(),
        stop_signal: None,
        stop_grace: Span(Duration::from_secs(5)),
        labels: Default::default(),
    }
}

fn route(release: u32, backend: &str) -> RouteSpec {
    RouteSpec {
        instance: InstanceId(uuid::Uuid::from_u128(0x0123_4567_89ab)),
        slug: SLUG.into(),
        release: ReleaseNumber(release),
        hosts: vec!["app.test".into()],
        wildcards: vec!["wild.test".into()],
        service: format!("{SLUG}-web-v{release}"),
        port: 8080,
        backend: backend.into(),
        at_once: None,
        server_options: "check inter 2s fastinter 250ms downinter 500ms fall 2 rise 1".into(),
        files: Default::default(),
        certificates: Default::default(),
        drain: Span(Duration::from_secs(5)),
        canary: None,
    }
}

const BACKEND: &str = "balance leastconn\noption redispatch 1\nretry-on conn-failure empty-response";

async fn get(host: &str) -> Result<String, String> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let answer = client.get(format!("http://127.0.0.1:{PORT}/")).header("host", host).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| format!("{error:?}"))?;
    answer.text().await.map_err(|error| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_replaces_another_without_a_failed_request() {
    let Some(node) = Node::start("magtr", &["static", "router"]).await else { return };
    node.ensure(Layer::Routing, Spec::Router(RouterSpec { config: router_config() })).await.unwrap();
    node.ensure(Layer::Routing, Spec::Service(Box::new(router(&node.images["router"])))).await.unwrap();
    node.ensure(Layer::App, Spec::Network(NetworkSpec { name: SLUG.into() })).await.unwrap();
    let image = node.page("one").await;
    let began = Instant::now();
    assert!(node.ensure(Layer::App, Spec::Service(Box::new(node.web(&image, 1, 2)))).await.unwrap().changed);
    assert_eq!(node.ask(node.healthy(1, 2)).await.unwrap().replicas.len(), 2);
    println!("create to healthy: {:?}", began.elapsed());
    assert!(!node.ensure(Layer::App, Spec::Service(Box::new(node.web(&image, 1, 2)))).await.unwrap().changed);
    let ensured = node.ensure(Layer::Routing, Spec::Route(route(1, BACKEND))).await.unwrap();
    let serving = ensured.serving.unwrap();
    assert_eq!((serving.release, serving.replicas.len()), (Some(ReleaseNumber(1)), 2));
    assert_eq!(get("app.test").await.unwrap(), "one");
    assert_eq!(get("a.wild.test").await.unwrap(), "one");
    assert!(!node.ensure(Layer::Routing, Spec::Route(route(1, BACKEND))).await.unwrap().changed);

    // A refused text leaves everything as it is.
    let refused = node.ensure(Layer::Routing, Spec::Route(route(1, "no such directive"))).await.unwrap_err();
    assert_eq!(refused.kind, ActionErrorKind::Refused, "{refused}");
    assert_eq!(get("app.test").await.unwrap(), "one");

    let stop = Arc::new(AtomicBool::new(false));
    let (failed, answered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stop, failed, answered) = (stop.clone(), failed.clone(), answered.clone());
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match get("app.test").await {
                    Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        println!("failed: {error}");
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    // The last one changes the backend's text too, and so needs a reload.
    for (release, backend) in [
        (2, BACKEND),
        (3, BACKEND),
        (4, "balance roundrobin\noption redispatch 1\nretry-on conn-failure empty-response"),
    ] {
        let began = Instant::now();
        let image = node.page(&format!("release {release}")).await;
        let built = began.elapsed();
        node.ensure(Layer::App, Spec::Service(Box::new(node.web(&image, release, 2)))).await.unwrap();
        node.ask(node.healthy(release, 2)).await.unwrap();
        let healthy = began.elapsed();
        node.ensure(Layer::Routing, Spec::Route(route(release, backend))).await.unwrap();
        let switched = began.elapsed();
        assert_eq!(get("app.test").await.unwrap(), format!("release {release}"));
        let drain =
            Drain { slug: SLUG.into(), release: ReleaseNumber(release - 1), timeout: Span(Duration::from_secs(5)) };
        assert_eq!(node.ask(drain).await.unwrap().cut, 0);
        let drained = began.elapsed();
        assert!(node.remove(Layer::App, Spec::Service(Box::new(node.web("", release - 1, 2)))).await.unwrap().changed);
        println!(
            "v{release}: built {built:?} healthy {healthy:?} switched {switched:?} drained {drained:?} removed {:?}",
            began.elapsed()
        );
    }
    stop.store(true, Ordering::Relaxed);
    load.join_all().await;
    println!("{} answered", answered.load(Ordering::Relaxed));
    assert_eq!(failed.load(Ordering::Relaxed), 0);

    // A replica that dies is replaced in the router without anybody's doing.
    let serving = node.ask(ReadServing { slug: SLUG.into() }).await.unwrap();
    assert_eq!((serving.release, serving.replicas.len()), (Some(ReleaseNumber(4)), 2));
    let victim = &serving.replicas[0].container;
    let killed =
        std::process::Command::new("docker").args(["exec", victim, "sh", "-c", "kill -TERM 1"]).status().unwrap();
    assert!(killed.success());
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let now = node.ask(ReadServing { slug: SLUG.into() }).await.unwrap();
        if now.replicas.len() == 2 && now.replicas.iter().all(|r| r.container != *victim && r.state == "up") {
            break;
        }
        assert!(Instant::now() < give_up, "{now:?}");
        assert_eq!(get("app.test").await.unwrap(), "release 4");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A router that starts anew serves the same.
    let router =
        std::process::Command::new("docker").args(["ps", "-q", "--filter", "name=magtr-router"]).output().unwrap();
    let id = String::from_utf8(router.stdout).unwrap();
    std::process::Command::new("docker").args(["kill", id.trim()]).output().unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    while get("app.test").await.ok().as_deref() != Some("release 4") {
        assert!(Instant::now() < give_up);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let mut never = node.healthy(5, 1);
    let mut broken = node.web(&image, 5, 1);
    broken.command = ["sh", "-c", "echo broken by design; exit 1"].map(str::to_owned).to_vec();
    node.ensure(Layer::App, Spec::Service(Box::new(broken.clone()))).await.unwrap();
    let error = node.ask(never.clone()).await.unwrap_err();
    assert_eq!(error.kind, ActionErrorKind::Unhealthy);
    assert_eq!(error.log_tail, ["broken by design"], "{error:?}");
    node.remove(Layer::App, Spec::Service(Box::new(broken))).await.unwrap();
    never.service = format!("{SLUG}-web-v4");
    if let Probe::Http(probe) = &mut never.probe {
        probe.contains = Some("no such text".into());
    }
    never.timeout = Span(Duration::from_secs(1));
    let error = node.ask(never.clone()).await.unwrap_err();
    assert!(error.message.contains("without the wanted text: release 4"), "{error}");
    other_probes(&node, never).await;

    assert!(node.remove(Layer::Routing, Spec::Route(route(4, BACKEND))).await.unwrap().changed);
    assert!(get("app.test").await.unwrap_err().contains("404"));
    node.end().await;
}

/// Connections, commands, and having run for a while.
async fn other_probes(node: &Node, like: AwaitHealthy) {
    let second = Span(Duration::from_secs(1));
    let ask = async |probe: Probe, attempts: Option<u16>| {
        let timeout = if attempts.is_some() { Span(Duration::from_secs(9)) } else { second };
        node.ask(AwaitHealthy { probe, attempts, attempt_timeout: second, timeout, ..like.clone() }).await
    };
    let command =
        |line: &str| Probe::Command { command: ["sh", "-c", line].map(str::to_owned).to_vec(), title: line.to_owned() };
    ask(Probe::Tcp { port: 8080 }, None).await.unwrap();
    let error = ask(Probe::Tcp { port: 8081 }, None).await.unwrap_err();
    assert!(error.message.contains("port 8081 takes no connection"), "{error}");
    ask(Probe::Running { span: Span(Duration::from_millis(100)) }, None).await.unwrap();
    let error = ask(Probe::Running { span: Span(Duration::from_secs(9)) }, None).await.unwrap_err();
    assert!(error.message.contains("did not run for 9 s"), "{error}");

    ask(command("test $PLAIN = plain"), None).await.unwrap();
    let began = Instant::now();
    let error = ask(command("echo wrong; exit 7"), Some(2)).await.unwrap_err();
    assert_eq!(error.message, "a replica gave 2 wrong answers: `echo wrong; exit 7` ended with exit status 7: wrong");
    assert!(began.elapsed() < Duration::from_secs(5), "the attempts end it, not the time");

    // What takes too long is ended with all that it started; also when nobody waits any more.
    let left =
        async || node.agent.engine.exec(&first(node).await, &["sh", "-c", "cat /proc/[0-9]*/cmdline"], None).await;
    let line = "sleep 4321 & sleep 4322";
    let error = ask(command(line), Some(1)).await.unwrap_err();
    assert!(error.message.contains("was killed: it took longer than 1 s"), "{error}");
    let long = AwaitHealthy {
        probe: command(line),
        timeout: Span(Duration::from_secs(60)),
        attempt_timeout: Span(Duration::from_secs(60)),
        ..like.clone()
    };
    assert!(tokio::time::timeout(Duration::from_millis(700), node.ask(long)).await.is_err(), "it is under way");
    let give_up = Instant::now() + Duration::from_secs(5);
    while left().await.unwrap().out.contains("432") {
        assert!(Instant::now() < give_up, "the program goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn first(node: &Node) -> String {
    node.agent.engine.running(&format!("{SLUG}-web-v4")).await.unwrap().remove(0).container
}
