//! Streams: what the gateway asks this node to keep open for somebody. Each is a request of the agent's that carries
//! frames both ways; here it is carried, what is at its end stands in the modules below.

mod connect;
pub mod exec;
mod files;
mod image;
mod logs;
mod process;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FusedFuture;
use futures_util::{FutureExt, StreamExt, stream};
use magrathea_core::wire::stream::{Decoder, lost};
use magrathea_core::wire::{ConnectSpec, Frame, OpenStream, StreamSpec};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fail::{Outcome, internal, node};
use crate::node::NodeAgent;

/// Frames that wait in each direction.
const QUEUE: usize = 8;
/// How long the gateway may take to answer the request, and to take the last frame.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const LAST_LIMIT: Duration = Duration::from_secs(10);

/// A stream's two directions, as what is at its end sees them.
pub struct StreamIo {
    /// To the gateway. An error means that the stream has ended.
    pub to: mpsc::Sender<Frame>,
    /// From the gateway; none when the stream has ended.
    pub from: mpsc::Receiver<Frame>,
    /// Cancelled when the stream has ended: whatever runs is to end, leaving nothing behind.
    pub ended: CancellationToken,
}

/// Takes away what was at the end of streams that an agent before this one carried.
pub async fn tidy(agent: &NodeAgent) {
    let tidied = async {
        exec::end_abandoned(agent).await?;
        agent.engine.remove_one_offs(files::KIND).await?;
        // Without a swarm there are no jobs.
        if agent.engine.swarm_state().await? == "manager" { agent.engine.remove_held().await } else { Ok(()) }
    };
    if let Err(error) = tidied.await {
        tracing::warn!(%error, "what streams left behind stays");
    }
}

/// Finds what a stream is to lead to, so that a node that does not have it says so before anything is open.
async fn prepare(agent: &NodeAgent, stream: &mut StreamSpec) -> Outcome<()> {
    if let StreamSpec::Exec(spec) = stream {
        spec.container = Some(exec::choose(&agent.engine, spec).await?);
    }
    if let StreamSpec::Connect(ConnectSpec::Service { service, .. }) = stream {
        connect::find(&agent.engine, service).await?;
    }
    Ok(())
}

/// What is at a stream's end: works until it is done, and then gives the status. It must end soon when the stream does.
pub async fn serve(agent: &NodeAgent, stream: StreamSpec, io: StreamIo) -> Outcome<i32> {
    match stream {
        StreamSpec::Exec(spec) => exec::run(agent, &spec, io).await,
        StreamSpec::Run(spec) => run::run(agent, &spec, io).boxed().await,
        StreamSpec::Connect(spec) => connect::run(&agent.engine, &spec, io).await,
        StreamSpec::Files(spec) => files::run(agent, &spec, io).await,
        StreamSpec::Logs(query) => logs::run(&agent.logs, query, io).await,
        StreamSpec::SendImage(spec) => image::send(agent, &spec, io).boxed().await,
        StreamSpec::TakeImage(spec) => image::take(agent, &spec, io).boxed().await,
    }
}

/// Where streams are carried.
#[derive(Debug, Clone)]
pub enum Streams {
    /// `https://HOST:PORT` of the gateway's agent listener, with a client that speaks HTTP/2 and shows the agent's
    /// certificate.
    Gateway { client: reqwest::Client, base: String },
    /// Nowhere: for tests of everything else.
    Nowhere,
}

impl Streams {
    /// Goes about a stream.
    pub async fn open(&self, agent: &Arc<NodeAgent>, mut wanted: OpenStream) -> Outcome<()> {
        prepare(agent, &mut wanted.stream).await?;
        let Streams::Gateway { client, base } = self else { return Err(internal("there is no way to carry streams")) };
        let request = client.post(format!("{base}/agent/v1/streams/{}", wanted.id));
        let carried = carry(agent.clone(), request, wanted.stream);
        agent.tasks.spawn(async move {
            if let Err(error) = carried.await {
                tracing::info!(%error, "a stream broke");
            }
        });
        Ok(())
    }
}

async fn carry(agent: Arc<NodeAgent>, request: reqwest::RequestBuilder, stream: StreamSpec) -> Outcome<()> {
    let broken = |error: reqwest::Error| node(format!("a stream to the gateway: {error}"));
    let (to, outgoing) = mpsc::channel(QUEUE);
    let (incoming, from) = mpsc::channel(QUEUE);
    let answer = timeout(ANSWER_LIMIT, request.body(body(outgoing)).send()).await;
    let answer = answer.map_err(|_| lost("the gateway"))?.and_then(|a| a.error_for_status()).map_err(broken)?;
    let ended = CancellationToken::new();
    let io = StreamIo { to: to.clone(), from, ended: ended.clone() };
    let mut work = std::pin::pin!(serve(&agent, stream, io));
    let mut reading = std::pin::pin!(read(answer, incoming).fuse());
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = &mut reading => {
            ended.cancel();
            work.await
        }
        // The gateway is gone, though nothing that it sent may be read just then.
        () = to.closed() => {
            ended.cancel();
            work.await
        }
    };
    let _ = timeout(LAST_LIMIT, to.send(Frame::end(outcome))).await;
    drop(to);
    // The gateway ends its direction when it has taken the last frame.
    if !reading.is_terminated() {
        let _ = timeout(LAST_LIMIT, reading).await;
    }
    Ok(())
}

fn body(frames: mpsc::Receiver<Frame>) -> reqwest::Body {
    reqwest::Body::wrap_stream(stream::unfold(frames, async |mut frames| {
        let frame = frames.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frame.to_bytes()), frames))
    }))
}

/// Hands on what the gateway sends, until it ends or nobody wants more.
async fn read(answer: reqwest::Response, incoming: mpsc::Sender<Frame>) {
    let (mut bytes, mut decoder) = (answer.bytes_stream(), Decoder::default());
    while let Some(Ok(portion)) = bytes.next().await {
        decoder.push(&portion);
        loop {
            match decoder.next_frame() {
                // An error means that nobody reads any more; the end of the stream still counts.
                Ok(Some(frame)) => drop(incoming.send(frame).await),
                Ok(None) => break,
                Err(error) => return tracing::warn!(%error, "the gateway broke the protocol of a stream"),
            }
        }
    }
}
