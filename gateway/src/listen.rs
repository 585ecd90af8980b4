//! TLS listeners: accept, shake hands, serve HTTP, and drain at the end. What is served is the router's matter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::tasks::Tasks;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::pki::{Identity, read_identity};

/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take for the TLS handshake, and for a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);

/// How long requests under way may go on once the gateway is to end.
const DRAIN: Duration = Duration::from_secs(10);

/// A request's head may have this many bytes, and fields.
const MAX_HEAD: usize = 32 << 10;
const MAX_FIELDS: usize = 64;

/// What a connection of HTTP/2 may hold.
#[derive(Debug, Clone, Copy)]
struct Multiplex {
    /// Requests at once.
    requests: u32,
    /// Bytes of one request that nobody has read yet.
    unread: u32,
}

/// For nodes, each of whose open streams is a request.
const STREAMS: Multiplex = Multiplex { requests: 4096, unread: 256 << 10 };

/// Unread bytes on a connection are limited by request alone, so that one that nobody reads does not hold up the others.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Who is at the other end; an extension of every request.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// The node, when the client showed a node's certificate.
    pub node: Option<Identity>,
}

/// A listener that is bound but does not serve yet.
pub struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    /// None: HTTP/1.1 is spoken alone.
    multiplex: Option<Multiplex>,
}

impl Listener {
    pub async fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> std::io::Result<Self> {
        Ok(Listener { tcp: TcpListener::bind(address).await?, tls: TlsAcceptor::from(tls), multiplex: None })
    }

    /// For clients that keep many long requests open.
    pub fn for_streams(self) -> Self {
        Listener { multiplex: Some(STREAMS), ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown`; then accepts no more and returns. Connections drain as tasks of `tasks`.
    pub async fn serve(self, router: Router, tasks: Tasks, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                (permit, self.tcp.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let connection = serve_connection(
                        self.tls.clone(),
                        self.multiplex,
                        stream,
                        address,
                        router.clone(),
                        shutdown.clone(),
                        permit,
                    );
                    tasks.spawn(connection);
                }
                Err(error) => {
                    // As a rule too many open files, which passes.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_connection(
    tls: TlsAcceptor,
    multiplex: Option<Multiplex>,
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
    };
    let peer = Peer { address, node: identity(&stream) };
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(axum::body::Body::new)
    }));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(MAX_FIELDS).max_buf_size(MAX_HEAD);
    match multiplex {
        None => builder = builder.http1_only(),
        Some(multiplex) => {
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEAD as u32)
                .max_concurrent_streams(multiplex.requests)
                .initial_stream_window_size(multiplex.unread)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20));
        }
    }
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(served) => served,
                Err(_) => return tracing::info!(%address, "a request was cut off by the end of the gateway"),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%address, %error, "connection ended");
    }
}

fn identity(stream: &TlsStream<TcpStream>) -> Option<Identity> {
    let (_, connection) = stream.get_ref();
    read_identity(connection.peer_certificates()?.first()?)
}
