//! The connection to the gateway: dialled by the agent, kept for ever, never needed by what is served.

mod certificate;
mod identity;
mod renew;
mod session;

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::wire::MAX_FRAME;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

pub use identity::{Identity, Stored, store_certificate};

use self::session::Ways;
use crate::actions::report;
use crate::build::Blobs;
use crate::node::NodeAgent;
use crate::streams::Streams;

/// From dialling to an upgraded connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A session that lasted this long was a good one: the next try comes soon again.
const GOOD_SESSION: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Serves the gateway until told to stop; dials again whenever the connection is lost.
pub async fn serve_gateway(agent: Arc<NodeAgent>, identity: Identity, stop: CancellationToken) -> anyhow::Result<()> {
    let tls = identity.client_config()?;
    let client = identity.http_client(&tls)?;
    let streams = identity.stream_client(&tls)?;
    tokio::select! {
        () = stop.cancelled() => {}
        () = renew::keep_valid(&identity, &client) => {}
        () = keep_connected(agent, &identity, tls, &client, &streams) => {}
    }
    Ok(())
}

/// Dials, again and again. Never ends.
async fn keep_connected(
    agent: Arc<NodeAgent>,
    identity: &Identity,
    tls: tokio_rustls::rustls::ClientConfig,
    client: &reqwest::Client,
    streams: &reqwest::Client,
) {
    let base = format!("https://{}", identity.connect);
    let ways = Ways {
        blobs: Blobs::Gateway { client: client.clone(), base: base.clone() },
        streams: Streams::Gateway { client: streams.clone(), base },
    };
    let connector = TlsConnector::from(Arc::new(tls));
    let mut pause = BACKOFF_FIRST;
    loop {
        let began = tokio::time::Instant::now();
        let session = async {
            // First: an engine that is slow to answer must not keep a gateway waiting for the greeting.
            let report = report(&agent).await?;
            let socket = dial(&connector, &identity.connect).await?;
            session::serve_session(&agent, identity, ways.clone(), report, socket).await
        };
        let ended: anyhow::Result<()> = session.await;
        match ended {
            Ok(()) => tracing::info!("the gateway closed the connection"),
            Err(error) => tracing::warn!("no connection to the gateway: {error:#}"),
        }
        if began.elapsed() > GOOD_SESSION {
            pause = BACKOFF_FIRST;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(BACKOFF_MOST);
    }
}

/// Between half of it and all of it, so that a thousand agents do not knock at once.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() & 0xffff;
    let part = u32::try_from(random).unwrap_or_default();
    pause / 2 + pause * part / 0x2_0000
}

async fn dial(connector: &TlsConnector, connect: &str) -> anyhow::Result<Socket> {
    let work = async {
        let host = connect.rsplit_once(':').map_or(connect, |(host, _)| host).trim_matches(['[', ']']);
        let name = tokio_rustls::rustls::pki_types::ServerName::try_from(host.to_owned())?;
        let stream = TcpStream::connect(connect).await?;
        stream.set_nodelay(true)?;
        let stream = connector.connect(name, stream).await?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        let url = format!("wss://{connect}/agent/v1/connect");
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
        Ok(socket)
    };
    tokio::time::timeout(CONNECT_LIMIT, work).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_bounded() {
        for _ in 0..100 {
            let pause = jittered(BACKOFF_MOST);
            assert!(pause >= BACKOFF_MOST / 2 && pause <= BACKOFF_MOST, "{pause:?}");
        }
    }
}
