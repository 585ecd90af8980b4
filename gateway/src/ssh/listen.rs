//! The SSH listener: accepts connections, and gives each so much time to get on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::front::Front;
use super::guarded::Guarded;
use super::host_key::HostKey;
use super::server::{Farewell, Protocol};
use crate::services::lists;
use crate::state::State;

/// From the start until the client has said that it speaks SSH, and until keys are agreed on.
const IDENTIFY: Duration = Duration::from_secs(10);

/// From the start until somebody is logged in: passphrases are typed and hardware keys touched in that time.
const LOG_IN: Duration = Duration::from_secs(90);

/// How long channels may go on once the gateway is to end.
const DRAIN: Duration = Duration::from_secs(6);

/// How long a client may take to go once it was told to.
const GO: Duration = Duration::from_secs(1);

/// A listener that is bound but does not serve yet.
pub struct Listener {
    tcp: TcpListener,
    protocol: Arc<Protocol>,
}

impl Listener {
    pub async fn bind(address: SocketAddr, host_key: &HostKey) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        Ok(Listener { tcp, protocol: Arc::new(Protocol::new(&host_key.private)?) })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until the gateway ends.
    pub async fn serve(self, state: Arc<State>) {
        let front = Arc::new(Front::default());
        loop {
            let accepted = tokio::select! {
                () = state.shutdown.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection::new(Arc::clone(&state), Arc::clone(&front), peer.ip());
                    let serving = serve(Arc::clone(&self.protocol), stream, Arc::new(connection));
                    state.tasks.spawn(serving);
                }
                Err(error) => {
                    // As a rule too many open files, which passes.
                    tracing::warn!(%error, "cannot accept an SSH connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(protocol: Arc<Protocol>, stream: TcpStream, connection: Arc<Connection>) {
    // Whatever comes first, everything that belongs to the connection ends with it.
    let _end = connection.end.clone().drop_guard();
    let address = connection.address;
    if !lists::admit_ssh(&connection.state, address, None).await {
        return tracing::debug!(%address, "an access list keeps them out");
    }
    let _ = stream.set_nodelay(true);
    if let Err(error) = speak(&protocol, stream, &connection).await {
        tracing::debug!(%address, error = format!("{error:#}"), "an SSH connection ended");
    }
}

async fn speak(protocol: &Protocol, stream: TcpStream, connection: &Arc<Connection>) -> anyhow::Result<()> {
    let stream = Guarded::new(stream, connection.end.clone());
    let start = tokio::time::Instant::now();
    let running = tokio::time::timeout_at(start + IDENTIFY, protocol.start(stream, Arc::clone(connection)))
        .await
        .context("the client did not say that it speaks SSH")??;
    connection.identified();
    let farewell = running.farewell();
    let mut ended = std::pin::pin!(running.ended());
    let why = tokio::select! {
        ended = &mut ended => return ended,
        why = must_end(connection, start) => why,
    };
    say_farewell(&farewell, why).await;
    let _ = tokio::time::timeout(GO, &mut ended).await;
    connection.end.cancel();
    ended.await
}

/// Resolves with the reason when a connection must end.
async fn must_end(connection: &Connection, start: tokio::time::Instant) -> &'static str {
    let get_on = async {
        tokio::select! {
            () = tokio::time::sleep_until(start + IDENTIFY) => {}
            () = connection.logged_in.cancelled() => return std::future::pending().await,
        }
        if !connection.has_agreed() {
            return "the handshake took too long";
        }
        tokio::select! {
            () = tokio::time::sleep_until(start + LOG_IN) => "the login took too long",
            () = connection.logged_in.cancelled() => std::future::pending().await,
        }
    };
    tokio::select! {
        why = get_on => why,
        revoked = connection.revoked() => match revoked {
            Ok(()) => "access was taken away",
            Err(_) => "the gateway cannot know whether this key is still good",
        },
        () = connection.end.cancelled() => "the gateway has too many connections",
        () = async {
            connection.state.shutdown.cancelled().await;
            // Shells are told by their doors; a push may finish its transfer.
            let _ = tokio::time::timeout(DRAIN, connection.idle()).await;
        } => "the gateway is ending; try again soon",
    }
}

async fn say_farewell(farewell: &Farewell, why: &str) {
    // Somebody who reads nothing cannot be told.
    let _ = tokio::time::timeout(GO, farewell.say(why)).await;
}
