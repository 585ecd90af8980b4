//! Streams over the agent listener, with an agent that is a client of HTTP/2.

use bytes::Bytes;
use magrathea_core::wire::stream::Decoder;
use rustls::RootCertStore;
use tokio::sync::mpsc;

use super::*;
use crate::hub::streams::StreamHandle;

/// The agent's side of a stream.
struct Remote {
    to: Option<mpsc::Sender<Frame>>,
    answer: reqwest::Response,
    decoder: Decoder,
}

fn spec() -> StreamSpec {
    let exec =
        ExecSpec { service: "web".into(), container: None, command: vec!["sh".into()], tty: None, env: [].into() };
    StreamSpec::Exec(exec)
}

fn client(gateway: &Gateway, enrolled: &Enrolled) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(gateway.state().pki.ca_pem().as_bytes()).unwrap()).unwrap();
    let key = PrivateKeyDer::try_from(enrolled.key.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![enrolled.chain.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    reqwest::Client::builder().tls_backend_preconfigured(config).http2_prior_knowledge().build().unwrap()
}

impl Remote {
    async fn ask(gateway: &Gateway, client: &reqwest::Client, id: uuid::Uuid) -> (u16, Self) {
        let (to, frames) = mpsc::channel::<Frame>(1);
        let body = futures_util::stream::unfold(frames, async |mut frames| {
            let frame = frames.recv().await?;
            Some((Ok::<_, std::io::Error>(frame.to_bytes()), frames))
        });
        let url = format!("https://127.0.0.1:{}/agent/v1/streams/{id}", gateway.agents);
        let answer = client.post(url).body(reqwest::Body::wrap_stream(body)).send().await.unwrap();
        (answer.status().as_u16(), Remote { to: Some(to), answer, decoder: Decoder::default() })
    }

    async fn send(&self, frame: Frame) {
        self.to.as_ref().unwrap().send(frame).await.unwrap();
    }

    /// The next frame; none when the gateway has ended the stream.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let portion = tokio::time::timeout(Duration::from_secs(10), self.answer.chunk()).await.unwrap();
            self.decoder.push(&portion.ok()??);
        }
    }
}

struct Open {
    gateway: Gateway,
    agent: Agent,
    client: reqwest::Client,
    handle: StreamHandle,
    remote: Remote,
}

async fn open() -> Open {
    let gateway = testing::gateway().await;
    let enrolled = enrol(&gateway, &node()).await;
    let mut agent = Agent::connect(&gateway, &enrolled).await;
    let client = client(&gateway, &enrolled);
    let (handle, remote) = {
        let node = node();
        let coming = async {
            let (call, action) = agent.next_call().await;
            let Action::OpenStream(OpenStream { id, stream }) = action else { panic!("{action:?}") };
            assert_eq!(stream, spec());
            agent.reply(call, &Opened {}).await;
            let (status, remote) = Remote::ask(&gateway, &client, id).await;
            assert_eq!(status, 200);
            assert_eq!(Remote::ask(&gateway, &client, id).await.0, 404, "a stream is met once");
            remote
        };
        let (handle, remote) = tokio::join!(gateway.state().hub.open_stream(&node, spec()), coming);
        (handle.unwrap(), remote)
    };
    Open { gateway, agent, client, handle, remote }
}

fn data(text: &'static str) -> Frame {
    Frame::Data(Bytes::from_static(text.as_bytes()))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), work).await.expect("in time")
}

#[tokio::test]
async fn frames_go_both_ways_until_the_status() {
    let mut open = open().await;
    for _ in 0..3 {
        open.handle.to.send(data("ls\n")).await.unwrap();
        assert_eq!(open.remote.next().await, Some(data("ls\n")));
        open.remote.send(data("index.php\n")).await;
        assert_eq!(soon(open.handle.from.recv()).await, Some(data("index.php\n")));
    }
    open.remote.send(Frame::Exit { code: 3 }).await;
    assert_eq!(soon(open.handle.from.recv()).await, Some(Frame::Exit { code: 3 }));
    assert_eq!(soon(open.handle.from.recv()).await, None);
    assert_eq!(open.remote.next().await, None);
}

#[tokio::test]
async fn what_is_dropped_here_ends_there() {
    let Open { handle: StreamHandle { to, from }, mut remote, .. } = open().await;
    drop(to);
    assert_eq!(remote.next().await, None);
    drop(from);

    let Open { handle: StreamHandle { to, from }, mut remote, gateway: _gateway, .. } = open().await;
    drop(from);
    assert_eq!(remote.next().await, None);
    soon(to.closed()).await;
    soon(remote.to.take().unwrap().closed()).await;
}

#[tokio::test]
async fn a_lost_node_ends_its_streams() {
    let Open { mut handle, remote, client, .. } = open().await;
    drop((remote, client));
    assert_eq!(soon(handle.from.recv()).await, None);
    soon(handle.to.closed()).await;

    let mut open = open().await;
    drop(open.agent);
    assert_eq!(soon(open.handle.from.recv()).await, None);
    assert_eq!(open.remote.next().await, None);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_its_sender_up_and_nobody_else() {
    let Open { gateway, mut agent, client, mut handle, remote } = open().await;
    let piece = Bytes::from(vec![7; magrathea_core::wire::stream::CHUNK]);
    let mut sent = 0;
    while let Ok(()) = tokio::time::timeout(Duration::from_millis(300), remote.send(Frame::Data(piece.clone()))).await {
        sent += 1;
        assert!(sent < 100, "nothing bounds it");
    }
    let node = node();
    let second = async {
        let (call, action) = agent.next_call().await;
        let Action::OpenStream(OpenStream { id, .. }) = action else { panic!("{action:?}") };
        agent.reply(call, &Opened {}).await;
        let (_, remote) = Remote::ask(&gateway, &client, id).await;
        remote.send(Frame::Exit { code: 0 }).await;
        remote
    };
    let (opened, _remote) = tokio::join!(gateway.state().hub.open_stream(&node, spec()), second);
    assert_eq!(soon(opened.unwrap().from.recv()).await, Some(Frame::Exit { code: 0 }));
    for _ in 0..sent {
        assert_eq!(soon(handle.from.recv()).await, Some(Frame::Data(piece.clone())));
    }
}

#[tokio::test]
async fn a_stream_is_its_nodes_alone() {
    let gateway = testing::gateway().await;
    let enrolled = enrol(&gateway, &node()).await;
    let mut agent = Agent::connect(&gateway, &enrolled).await;
    let second =
        testing::CLUSTERS.replace("local:", "other:").replace("127.0.0.1", "127.0.0.2").replace("clusters:\n", "");
    let clusters = format!("{}{second}", testing::CLUSTERS);
    let clusters = magrathea_core::clusters::parse_clusters("clusters.yml", &clusters).unwrap();
    gateway.inner.clusters.send_replace(Arc::new(clusters));
    let other = NodeRef { cluster: "other".parse().unwrap(), node: "node1".parse().unwrap() };
    let stranger = client(&gateway, &enrol(&gateway, &other).await);
    let node = node();
    let steal = async {
        let (call, action) = agent.next_call().await;
        let Action::OpenStream(OpenStream { id, .. }) = action else { panic!("{action:?}") };
        assert_eq!(Remote::ask(&gateway, &stranger, id).await.0, 404);
        let error = ActionError {
            kind: ActionErrorKind::Node,
            message: "no such replica".into(),
            hint: None,
            log_tail: Vec::new(),
        };
        agent.send(AgentFrame::Result { id: call, result: Err(error.clone()) }).await;
        assert_eq!(Remote::ask(&gateway, &client(&gateway, &enrolled), id).await.0, 404, "given up");
        error
    };
    let (opened, error) = tokio::join!(gateway.state().hub.open_stream(&node, spec()), steal);
    assert_eq!(opened.unwrap_err(), CallError::Action(error));
}
