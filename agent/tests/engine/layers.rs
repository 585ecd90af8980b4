//! The shared services: each instance's VCL in Varnish, databases in MariaDB.

use std::time::Duration;

use magrathea_core::manifest::ProxyKind;
use magrathea_core::names::Layer;
use magrathea_core::plan::*;
use magrathea_core::units::{ByteSize, Span};
use magrathea_core::wire::ActionErrorKind;

use crate::support::{Node, SLUG};

fn service(node: &Node, name: &str, on: Layer) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        image: node.images[name].clone(),
        mode: ServiceMode::Global,
        on,
        spread: false,
        network: ServiceNetwork::Bridge,
        user: None,
        command: Vec::new(),
        env: Default::default(),
        files: Vec::new(),
        secret_env: Default::default(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        read_only: false,
        capabilities: Some(Vec::new()),
        limits: Limits::default(),
        stop_signal: None,
        stop_grace: Span(Duration::from_secs(20)),
        labels: Default::default(),
    }
}

fn mount(folder: NodeFolder, read_only: bool) -> MountSpec {
    MountSpec { source: MountSource::Node(folder), target: folder.target().into(), read_only }
}

#[tokio::test(flavor = "multi_thread")]
async fn varnish_takes_each_instances_own_vcl() {
    let Some(node) = Node::start("magtv", &["varnish"]).await else { return };
    let mut varnish = service(&node, "varnish", Layer::Routing);
    varnish.mounts = vec![mount(NodeFolder::Varnish, true), mount(NodeFolder::Sockets, false)];
    node.ensure(Layer::Proxy, Spec::Service(Box::new(varnish))).await.unwrap();
    let cache = |slug: &str, answer: u16| {
        let text = format!("vcl 4.1;\nbackend default none;\nsub vcl_recv {{ return (synth({answer})); }}\n");
        Spec::Cache(CacheSpec { slug: slug.into(), proxy: ProxyKind::Varnish, text })
    };
    let other = "iaaaaaaaaaaaa";
    assert!(node.ensure(Layer::Proxy, cache(SLUG, 201)).await.unwrap().changed);
    assert!(!node.ensure(Layer::Proxy, cache(SLUG, 201)).await.unwrap().changed);
    assert!(node.ensure(Layer::Proxy, cache(other, 202)).await.unwrap().changed);
    assert_eq!((ask(&node, SLUG).await, ask(&node, other).await), (201, 202));
    assert!(node.ensure(Layer::Proxy, cache(SLUG, 203)).await.unwrap().changed);
    assert_eq!((ask(&node, SLUG).await, ask(&node, other).await), (203, 202));

    let bad =
        CacheSpec { slug: SLUG.into(), proxy: ProxyKind::Varnish, text: "vcl 4.1;\nsub vcl_recv { nonsense }".into() };
    let refused = node.ensure(Layer::Proxy, Spec::Cache(bad)).await.unwrap_err();
    assert_eq!(refused.kind, ActionErrorKind::Refused);
    assert!(refused.message.contains("nonsense"), "{refused}");
    assert_eq!(ask(&node, SLUG).await, 203);

    // A Varnish that starts anew has everything.
    let ps =
        std::process::Command::new("docker").args(["ps", "-q", "--filter", "name=magtv-varnish"]).output().unwrap();
    let id = String::from_utf8(ps.stdout).unwrap();
    std::process::Command::new("docker").args(["kill", id.trim()]).output().unwrap();
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    while ask(&node, SLUG).await != 203 {
        assert!(std::time::Instant::now() < give_up);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(node.remove(Layer::Proxy, cache(SLUG, 203)).await.unwrap().changed);
    assert_eq!((ask(&node, SLUG).await, ask(&node, other).await), (503, 202));
    node.end().await;
}

/// The status that Varnish answers a request of an instance with; 0 when nothing answers.
async fn ask(node: &Node, slug: &str) -> u16 {
    let socket = node.options.data.join("node/sockets/varnish.sock");
    let exchange = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::UnixStream::connect(socket).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Magrathea-Instance: {slug}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.unwrap_or_default();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

pub async fn start_mariadb(node: &Node) {
    let mut mariadb = service(node, "mariadb", Layer::App);
    let config = "[mariadbd]\nskip-networking\nsocket=/run/mysqld/mysqld.sock\nuser=mysql\ndatadir=/var/lib/mysql\n[client]\nsocket=/run/mysqld/mysqld.sock\n";
    mariadb.files = vec![FileSpec { target: "/etc/magrathea/mariadb.cnf".into(), mode: 0o444, content: config.into() }];
    mariadb.capabilities = Some(["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"].map(str::to_owned).to_vec());
    mariadb.mounts = vec![mount(NodeFolder::Mariadb, false)];
    mariadb.tmpfs = vec![TmpfsSpec { target: "/run/mysqld".into(), size: ByteSize::mib(1), mode: 0o755 }];
    node.ensure(Layer::Db, Spec::Service(Box::new(mariadb))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_come_and_go() {
    let Some(node) = Node::start("magtd", &["mariadb"]).await else { return };
    start_mariadb(&node).await;
    let database = |ensure: &str| {
        Spec::Database(DatabaseSpec {
            name: "mag_x".into(),
            ensure: SecretText(ensure.into()),
            destroy: "DROP DATABASE IF EXISTS mag_x; DROP USER IF EXISTS mag_x;".into(),
            quota: None,
        })
    };
    let sql = "CREATE DATABASE IF NOT EXISTS mag_x; CREATE USER IF NOT EXISTS mag_x IDENTIFIED BY '${secret:WORD}';";
    for _ in 0..2 {
        let began = std::time::Instant::now();
        node.ensure(Layer::Db, database(sql)).await.unwrap();
        println!("a database: {:?}", began.elapsed());
    }
    assert_eq!(node.ensure(Layer::Db, database("NONSENSE")).await.unwrap_err().kind, ActionErrorKind::Refused);
    assert_eq!(
        node.ensure(Layer::Db, database("${secret:MISSING}")).await.unwrap_err().kind,
        ActionErrorKind::Internal
    );
    node.remove(Layer::Db, database(sql)).await.unwrap();
    node.end().await;
}
