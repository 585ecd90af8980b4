//! A stream of the gateway's: a websocket whose messages are frames.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use magrathea_core::wire::Frame;
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::exit::{Exit, Failure};

type Socket = WebSocketStream<reqwest::Upgraded>;

/// How long the gateway and a node may take to open it.
pub const OPEN: Duration = Duration::from_secs(60);
/// Keeps the way open through whatever forgets silent connections.
const PING: Duration = Duration::from_secs(25);

/// To the gateway.
pub struct Sender(futures_util::stream::SplitSink<Socket, Message>);

/// From the gateway.
pub struct Receiver(futures_util::stream::SplitStream<Socket>);

/// Asks for a websocket; `accept` takes apart an answer that refuses.
pub async fn open(
    request: RequestBuilder,
    accept: impl AsyncFnOnce(Response) -> Result<Response, Failure>,
    unreachable: impl FnOnce(&reqwest::Error) -> Failure,
) -> Result<(Sender, Receiver), Failure> {
    let key = generate_key();
    let request = request
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let answer = match tokio::time::timeout(OPEN, request.send()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(_) => return Err(Failure::say(Exit::Unreachable, "the gateway did not answer in time")),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        accept(answer).await?;
        return Err(Failure::say(Exit::Failed, "the gateway answered without opening a stream"));
    }
    let expected = derive_accept_key(key.as_bytes());
    if answer.headers().get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept.as_bytes() != expected.as_bytes()) {
        return Err(Failure::say(Exit::Failed, "the gateway's websocket is not one"));
    }
    let upgraded = answer.upgrade().await.context("the gateway did not open a stream")?;
    let (sink, stream) = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await.split();
    Ok((Sender(sink), Receiver(stream)))
}

impl Sender {
    pub async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Binary(frame.to_message())).await?)
    }

    /// Sends pings, for ever.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Ping(Default::default())).await?)
    }

    pub async fn close(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.0.close()).await;
    }
}

/// When the next ping is due.
pub fn pings() -> tokio::time::Interval {
    tokio::time::interval(PING)
}

impl Receiver {
    /// The next frame. It is an error that the connection ends before a last one came.
    pub async fn next(&mut self) -> anyhow::Result<Frame> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Frame::from_message(bytes)?),
                Some(Ok(Message::Close(_))) | None => bail!("the connection to the gateway was lost"),
                Some(Err(error)) => return Err(anyhow!(error).context("the connection to the gateway was lost")),
                Some(Ok(_)) => {}
            }
        }
    }
}
