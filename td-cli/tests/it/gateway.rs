//! A gateway that answers what it was told to, over real TLS with a CA of its own, and remembers what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

pub const TOKEN: &str = "a-token-that-nobody-may-see";

/// One answer. An answer that `breaks` ends its connection in the middle of the body.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub breaks: bool,
    /// The connection stays open after the body.
    pub hangs: bool,
    /// It is given before the request's body is read.
    pub early: bool,
}

/// A request as it arrived.
#[derive(Clone)]
pub struct Asked {
    /// As in `GET /v1/apps?limit=2`.
    pub line: String,
    pub authorization: String,
    pub content_type: String,
    pub body: Bytes,
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

pub struct Gateway {
    pub address: SocketAddr,
    pub ca: String,
    script: Script,
    _runtime: tokio::runtime::Runtime,
}

impl Gateway {
    pub fn start() -> Self {
        let (config, ca) = tls();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script::default();
        let router = axum::Router::new().fallback(answer).with_state(script.clone());
        runtime.spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Gateway { address, ca, script, _runtime: runtime }
    }

    /// Tells what to answer; several answers for one route are given in turn, the last again and again.
    pub fn on(&self, route: &str, status: u16, body: &Value) -> &Self {
        self.answer(route, Answer { status, body: body.to_string(), breaks: false, hangs: false, early: false })
    }

    pub fn answer(&self, route: &str, answer: Answer) -> &Self {
        self.script.answers.lock().unwrap().entry(route.to_owned()).or_default().push(answer);
        self
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap().clone()
    }

    /// The requests' first lines.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let route = format!("{} {}", parts.method, parts.uri.path());
    let early = script.answers.lock().unwrap().get(&route).is_some_and(|turn| turn[0].early);
    let body = if early { Body::empty() } else { body };
    // A broken upload arrives broken.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::builder().status(400).body(Body::empty()).unwrap();
    };
    script.asked.lock().unwrap().push(Asked {
        line: format!("{} {path}", parts.method),
        authorization: header("authorization"),
        content_type: header("content-type"),
        body,
    });
    let mut answers = script.answers.lock().unwrap();
    let Some(turn) = answers.get_mut(&route) else {
        return Response::builder().status(404).body(Body::from(format!("no answer for {route}"))).unwrap();
    };
    let answer = if turn.len() > 1 { turn.remove(0) } else { turn[0].clone() };
    let body = match (answer.breaks, answer.hangs) {
        (false, false) => Body::from(answer.body),
        (breaks, _) => {
            let first = futures_util::stream::iter([Ok(Bytes::from(answer.body))]);
            let end = futures_util::stream::once(async move {
                if !breaks {
                    std::future::pending::<()>().await;
                }
                // What was written so far is on its way.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Err(std::io::Error::other("broken"))
            });
            Body::from_stream(futures_util::StreamExt::chain(first, end))
        }
    };
    Response::builder().status(answer.status).body(body).unwrap()
}

/// A server certificate for this machine and the PEM of the CA behind it.
fn tls() -> (ServerConfig, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "a gateway of paper");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, ca_certificate.pem())
}
