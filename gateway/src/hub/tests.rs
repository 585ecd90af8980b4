//! The hub against an agent that is only a websocket.

mod streams;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use magrathea_core::wire::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::db::{apps, instances, nodes, timeline};
use crate::testing::{self, Gateway};

fn node() -> NodeRef {
    NodeRef { cluster: "local".parse().unwrap(), node: "node1".parse().unwrap() }
}

/// A key and the certificate that the gateway signs for it.
struct Enrolled {
    chain: CertificateDer<'static>,
    key: Vec<u8>,
}

fn new_key() -> (rcgen::KeyPair, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    (key, csr.pem().unwrap())
}

async fn enrol(gateway: &Gateway, node: &NodeRef) -> Enrolled {
    enrol_at(gateway, node, jiff::Timestamp::now()).await
}

async fn enrol_at(gateway: &Gateway, node: &NodeRef, when: jiff::Timestamp) -> Enrolled {
    let (key, csr) = new_key();
    let signed = gateway.state().pki.sign_node(&csr, node, when).unwrap().unwrap();
    nodes::enrol_node(&gateway.state().db.conn().await.unwrap(), node, &signed.serial).await.unwrap();
    let chain = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    Enrolled { chain, key: key.serialize_der() }
}

async fn dial(gateway: &Gateway, enrolled: Option<&Enrolled>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(gateway.state().pki.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match enrolled {
        Some(enrolled) => {
            let key = PrivateKeyDer::try_from(enrolled.key.clone()).unwrap();
            builder.with_client_auth_cert(vec![enrolled.chain.clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(("127.0.0.1", gateway.agents)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// An agent that does what the test says.
struct Agent {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Agent {
    async fn open(gateway: &Gateway, enrolled: &Enrolled) -> Result<Self, Error> {
        let stream = dial(gateway, Some(enrolled)).await?;
        let url = format!("wss://127.0.0.1:{}/agent/v1/connect", gateway.agents);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        Ok(Agent { socket })
    }

    async fn connect(gateway: &Gateway, enrolled: &Enrolled) -> Self {
        let mut agent = Agent::open(gateway, enrolled).await.unwrap();
        agent.hello(PROTOCOL).await;
        assert!(matches!(agent.next().await, Some(GatewayFrame::Welcome { .. })));
        agent
    }

    async fn hello(&mut self, protocol: u32) {
        let NodeRef { cluster, node } = node();
        let report = NodeReport { hostname: "one".into(), ..NodeReport::default() };
        self.send(AgentFrame::Hello { protocol, version: "test".into(), cluster, node, report }).await;
    }

    async fn send(&mut self, frame: AgentFrame) {
        let text = serde_json::to_string(&frame).unwrap();
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next frame; none when the gateway closed the connection.
    async fn next(&mut self) -> Option<GatewayFrame> {
        loop {
            match tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn next_call(&mut self) -> (u64, Action) {
        match self.next().await {
            Some(GatewayFrame::Call { id, action }) => (id, *action),
            other => panic!("not a call: {other:?}"),
        }
    }

    async fn reply(&mut self, id: u64, reply: &impl serde::Serialize) {
        let result = Ok(serde_json::to_value(reply).unwrap());
        self.send(AgentFrame::Result { id, result }).await;
    }
}

fn drain() -> Drain {
    let timeout = magrathea_core::units::Span(Duration::from_secs(1));
    Drain { slug: "i0".into(), release: magrathea_core::names::ReleaseNumber(1), timeout }
}

#[tokio::test]
async fn a_call_has_progress_and_a_reply() {
    let gateway = testing::gateway().await;
    let hub = &gateway.state().hub;
    assert_eq!(hub.call(&node(), drain(), |_| {}).await, Err(CallError::NotConnected));
    let mut events = hub.subscribe();
    let mut agent = Agent::connect(&gateway, &enrol(&gateway, &node()).await).await;
    assert_eq!(events.recv().await.unwrap(), HubEvent::Connected(node()));
    assert_eq!(hub.connected(), [node()]);
    assert_eq!(hub.report(&node()).unwrap().hostname, "one");

    let node = node();
    let mut lines = Vec::new();
    let call = hub.call(&node, drain(), |progress| lines.push(progress));
    let answer = async {
        let (id, action) = agent.next_call().await;
        assert_eq!(action, drain().into());
        let progress = Progress::Log { line: "waiting".into(), number: None };
        agent.send(AgentFrame::Progress { id, progress }).await;
        agent.reply(id, &Drained { cut: 3 }).await;
    };
    let (reply, ()) = tokio::join!(call, answer);
    assert_eq!(reply, Ok(Drained { cut: 3 }));
    assert_eq!(lines, [Progress::Log { line: "waiting".into(), number: None }]);

    let error = ActionError {
        kind: ActionErrorKind::TimedOut,
        message: "slow".into(),
        hint: None,
        log_tail: vec!["last".into()],
    };
    let refuse = async {
        let (id, _) = agent.next_call().await;
        agent.send(AgentFrame::Result { id, result: Err(error.clone()) }).await;
    };
    let (reply, ()) = tokio::join!(hub.call(&node, drain(), |_| {}), refuse);
    assert_eq!(reply, Err(CallError::Action(error)));

    drop(agent);
    assert_eq!(events.recv().await.unwrap(), HubEvent::Lost(node.clone()));
    assert!(!hub.is_connected(&node));
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_on_the_node() {
    let gateway = testing::gateway().await;
    let mut agent = Agent::connect(&gateway, &enrol(&gateway, &node()).await).await;
    let node = node();
    let call = gateway.state().hub.call(&node, drain(), |_| {});
    let (timeout, (id, _)) = tokio::join!(tokio::time::timeout(Duration::from_millis(300), call), agent.next_call());
    assert!(timeout.is_err());
    assert_eq!(agent.next().await, Some(GatewayFrame::Cancel { id }));
}

#[tokio::test]
async fn a_call_is_repeated_when_the_node_comes_back() {
    let gateway = testing::gateway().await;
    let enrolled = enrol(&gateway, &node()).await;
    let mut first = Agent::connect(&gateway, &enrolled).await;
    let node = node();
    let mut lines = Vec::new();
    let call = gateway.state().hub.call(&node, drain(), |progress| match progress {
        Progress::Log { line, .. } => lines.push(line),
        Progress::Warning { .. } => {}
    });
    let log = |id, number: Option<u64>| {
        let line = number.map_or("of a build".to_owned(), |number| format!("line {number}"));
        AgentFrame::Progress { id, progress: Progress::Log { line, number } }
    };
    let come_back = async {
        let (id, _) = first.next_call().await;
        for number in [Some(1), Some(2), None] {
            first.send(log(id, number)).await;
        }
        drop(first);
        let mut second = Agent::connect(&gateway, &enrolled).await;
        let (id, action) = second.next_call().await;
        assert_eq!(action, drain().into());
        for number in [Some(1), Some(2), Some(3), None] {
            second.send(log(id, number)).await;
        }
        second.reply(id, &Drained { cut: 0 }).await;
        second
    };
    let (reply, _second) = tokio::join!(call, come_back);
    assert_eq!(reply, Ok(Drained { cut: 0 }));
    assert_eq!(lines, ["line 1", "line 2", "of a build", "line 3", "of a build"]);
}

#[tokio::test]
async fn a_second_connection_replaces_the_first() {
    let gateway = testing::gateway().await;
    let enrolled = enrol(&gateway, &node()).await;
    let mut first = Agent::connect(&gateway, &enrolled).await;
    let _second = Agent::connect(&gateway, &enrolled).await;
    assert_eq!(first.next().await, None);
    assert!(gateway.state().hub.is_connected(&node()));
}

#[tokio::test]
async fn strangers_stay_outside() {
    let gateway = testing::gateway().await;
    // Without a certificate TLS itself ends the connection, at the latest with the first read.
    if let Ok(mut stream) = dial(&gateway, None).await {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.write_all(b"GET /agent/v1/connect HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(stream.read(&mut [0; 64]).await.is_err());
    }
    let status = async |enrolled: &Enrolled| match Agent::open(&gateway, enrolled).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{:?}", other.map(|_| "connected")),
    };
    let revoked = enrol(&gateway, &node()).await;
    let valid = enrol(&gateway, &node()).await;
    assert_eq!(status(&revoked).await, 403, "a new enrolment revokes the old certificate");
    let unlisted = NodeRef { node: "node9".parse().unwrap(), ..node() };
    assert_eq!(status(&enrol(&gateway, &unlisted).await).await, 403, "not in clusters.yml");
    let mut agent = Agent::open(&gateway, &valid).await.unwrap();
    agent.hello(PROTOCOL + 1).await;
    assert_eq!(agent.next().await, None, "another protocol");
}

#[tokio::test]
async fn an_observation_is_acknowledged_and_stored_once() {
    let gateway = testing::gateway().await;
    let state = gateway.state();
    let conn = state.db.conn().await.unwrap();
    let app = apps::insert_app(&conn, gateway.inner.admin.organisation, &"blog".parse().unwrap()).await.unwrap();
    let (label, cluster) = ("default".parse().unwrap(), node().cluster);
    let instance = instances::ensure_instance(&conn, app.id, &label, &cluster).await.unwrap();
    let mut agent = Agent::connect(&gateway, &enrol(&gateway, &node()).await).await;
    for _ in 0..2 {
        let observation = Observation::ReplicaDied {
            slug: instance.id.slug(),
            service: "web".into(),
            exit_code: Some(139),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        agent.send(AgentFrame::Observation { sequence: 1, observation }).await;
        assert!(matches!(agent.next().await, Some(GatewayFrame::Acknowledge { sequence: 1, .. })));
    }
    let of = timeline::Of { app: Some(&app.name), ..timeline::Of::default() };
    let lines = timeline::list(&conn, &gateway.inner.admin.access, of, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        lines[0].message,
        "a replica of web ended by itself with status 139 on local/node1 at 1970-01-01T00:00:00Z"
    );
}

#[tokio::test]
async fn blobs_are_fetched_by_enrolled_nodes_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = testing::gateway().await;
    let enrolled = enrol(&gateway, &node()).await;
    let name = "ab".repeat(32);
    std::fs::create_dir_all(gateway.data().join("blobs")).unwrap();
    std::fs::write(gateway.data().join("blobs").join(&name), "source").unwrap();
    std::fs::write(gateway.data().join("secret"), "no").unwrap();
    for (path, status, body) in [
        (name.as_str(), "200", "source"),
        ("..%2fsecret", "404", ""),
        (&name.to_uppercase(), "404", ""),
        (&"0".repeat(64), "404", ""),
    ] {
        let mut stream = dial(&gateway, Some(&enrolled)).await.unwrap();
        let request = format!("GET /agent/v1/blobs/{path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.ends_with(body), "{path}: {answer}");
    }
}

/// Asks for a certificate with one that the node has. What comes back: the status and the body.
async fn renew(gateway: &Gateway, enrolled: &Enrolled, csr: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = dial(gateway, Some(enrolled)).await.unwrap();
    let request = format!(
        "POST /agent/v1/certificate HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{csr}",
        csr.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn a_node_renews_its_certificate_until_it_is_removed_or_enrolled_anew() {
    let gateway = testing::gateway().await;
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 1800);
    let old = enrol_at(&gateway, &node(), long_ago).await;
    let mut agent = Agent::connect(&gateway, &old).await;
    assert_eq!(renew(&gateway, &old, "no request").await.0, 422);
    let (key, csr) = new_key();
    let (status, pem) = renew(&gateway, &old, &csr).await;
    assert_eq!(status, 200, "{pem}");
    let chain = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let new = Enrolled { chain, key: key.serialize_der() };
    // The connection goes on, and an agent that did not keep the answer asks again.
    let at = long_ago;
    let observation = Observation::ReplicaDied { slug: "i0".into(), service: "web".into(), exit_code: None, at };
    agent.send(AgentFrame::Observation { sequence: 1, observation }).await;
    assert!(matches!(agent.next().await, Some(GatewayFrame::Acknowledge { sequence: 1, .. })));
    assert_eq!(renew(&gateway, &old, &csr).await.0, 200);
    assert_eq!(renew(&gateway, &new, &csr).await.0, 200);
    drop(agent);
    for certificate in [&old, &new] {
        Agent::connect(&gateway, certificate).await;
    }
    let lines = timeline::list(
        &gateway.state().db.conn().await.unwrap(),
        &gateway.inner.admin.access,
        timeline::Of::default(),
        10,
    )
    .await
    .unwrap();
    assert_eq!(lines[0].action, "node.renewed");

    let clusters = gateway.inner.clusters.borrow().clone();
    let without = testing::CLUSTERS.replace("node1", "node2");
    let without = magrathea_core::clusters::parse_clusters("clusters.yml", &without).unwrap();
    gateway.inner.clusters.send_replace(Arc::new(without));
    assert_eq!(renew(&gateway, &new, &csr).await.0, 403, "removed from clusters.yml");
    gateway.inner.clusters.send_replace(clusters);
    let anew = enrol(&gateway, &node()).await;
    for revoked in [&old, &new] {
        assert_eq!(renew(&gateway, revoked, &csr).await.0, 403, "enrolled anew");
    }
    assert_eq!(renew(&gateway, &anew, &csr).await.0, 200);
}

#[tokio::test]
async fn a_nodes_trouble_is_told_once() {
    let gateway = testing::gateway().await;
    let state = gateway.state();
    let mut agent = Agent::connect(&gateway, &enrol(&gateway, &node()).await).await;
    let full = || Some("the disk is full".to_owned());
    for trouble in [None, full(), full(), None, full(), None] {
        agent.send(AgentFrame::Trouble { trouble }).await;
    }
    let told = async || {
        let conn = state.db.conn().await.unwrap();
        let rows = conn.query("SELECT action, message FROM timeline WHERE action LIKE 'node.%' ORDER BY id", &[]).await;
        let told = |row: &crate::db::Row| (row.get::<_, String>(0), row.get::<_, String>(1));
        rows.unwrap().iter().map(told).collect::<Vec<_>>()
    };
    let wanted = ["trouble", "recovered", "trouble", "recovered"].map(|what| format!("node.{what}"));
    let began = std::time::Instant::now();
    while told().await.len() < wanted.len() && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = told().await;
    assert_eq!(told.iter().map(|(action, _)| action.clone()).collect::<Vec<_>>(), wanted);
    assert_eq!(told[0].1, "local/node1: the disk is full");
    assert_eq!(state.hub.report(&node()).unwrap().trouble, None);
}
