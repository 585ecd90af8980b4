//! Release images where they are needed: on every node that may run the release. One is built on one node, and promoted or
//! brought back wherever people say; what lacks it gets it from a node that has it, through here and under the same id. The
//! node that takes it checks every digest; what broke off is begun anew by the next deploy.

use std::time::Duration;

use magrathea_core::api::DeployEventKind;
use magrathea_core::names::{ClusterName, Layer};
use magrathea_core::plan::Resource;
use magrathea_core::units::size;
use magrathea_core::wire::{CountLayers, DescribeImage, Frame, ImageLayers, SendImage, StreamSpec, TakeImage};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::apply::{go_on_without, nodes_of};
use super::events::Recorder;
use super::failure::Failure;
use super::layout::Site;
use crate::hub::{CallError, NodeRef, StreamHandle};
use crate::state::State;

/// How long a node may be silent while an engine writes an image or takes one in.
const SILENCE: Duration = Duration::from_secs(300);

/// Brings an image to all nodes that these resources may have replicas on, from one of the cluster or of another. One that
/// nobody has is left to be missed by whoever needs it.
pub async fn ensure_image(
    site: &Site,
    recorder: &Recorder,
    (image, resources): (&str, &[Resource]),
    elsewhere: Option<&ClusterName>,
) -> Result<(), Failure> {
    let tell = |line| recorder.emit(DeployEventKind::Log { phase: recorder.phase(), line });
    for (node, failure) in bring_image(site, (image, resources), elsewhere, tell).await? {
        recorder.warn(go_on_without(&site.state, &site.cluster, &node, failure).await?);
    }
    Ok(())
}

/// The same, saying which nodes it did not get to.
pub async fn bring_image(
    site: &Site,
    (image, resources): (&str, &[Resource]),
    elsewhere: Option<&ClusterName>,
    tell: impl Fn(String),
) -> Result<Vec<(NodeRef, Failure)>, Failure> {
    let state = &site.state;
    let (mut lacking, mut holder, mut failed) = (Vec::new(), None, Vec::new());
    for node in site.replica_nodes(resources) {
        match describe(state, &node, image).await {
            Ok(Some(layers)) => drop(holder.get_or_insert((node, layers))),
            Ok(None) => lacking.push(node),
            Err(failure) => failed.push((node, failure)),
        }
    }
    if lacking.is_empty() {
        return Ok(failed);
    }
    if holder.is_none() {
        holder = find_elsewhere(state, image, elsewhere).await?;
    }
    let Some((from, layers)) = holder else { return Ok(failed) };
    for to in lacking {
        match carry(state, image, &layers, (&from, &to)).await {
            Ok(bytes) => tell(format!("the image came from {from} to {to}: {} of {}", size(bytes), size(layers.size))),
            Err(failure) => failed.push((to, failure)),
        }
    }
    Ok(failed)
}

async fn describe(state: &State, node: &NodeRef, image: &str) -> Result<Option<ImageLayers>, Failure> {
    let described = state.hub.call(node, DescribeImage { id: image.to_owned() }, |_| {}).await;
    Ok(described.map_err(|error| Failure::call(node, "node", error))?.image)
}

/// A connected app node of another cluster that has it.
async fn find_elsewhere(
    state: &State,
    image: &str,
    cluster: Option<&ClusterName>,
) -> Result<Option<(NodeRef, ImageLayers)>, Failure> {
    let clusters = state.clusters();
    let Some((name, cluster)) = cluster.and_then(|name| clusters.clusters.get_key_value(name)) else { return Ok(None) };
    let mut away = None;
    for node in nodes_of(name, cluster, Layer::App) {
        if !state.hub.is_connected(&node) {
            away = Some(node);
        } else if let Some(layers) = describe(state, &node, image).await? {
            return Ok(Some((node, layers)));
        }
    }
    match away {
        Some(node) => Err(Failure::new("node", format!("the image is not here, and node {node} is not connected"))
            .hint("see `td cluster info`")),
        None => Ok(None),
    }
}

/// Carries it; how many bytes came. Layers that the node has already stay behind.
async fn carry(
    state: &State,
    image: &str,
    layers: &ImageLayers,
    (from, to): (&NodeRef, &NodeRef),
) -> Result<u64, Failure> {
    let count = CountLayers { layers: layers.layers.clone() };
    let known = state.hub.call(to, count, |_| {}).await.map_err(|error| Failure::call(to, "node", error))?;
    let (id, skip) = (image.to_owned(), known.count.min(layers.layers.len()));
    let open = async |node: &NodeRef, stream| {
        state.hub.open_stream(node, stream).await.map_err(|error| Failure::call(node, "node", error))
    };
    let mut source = open(from, StreamSpec::SendImage(SendImage { id: id.clone(), skip })).await?;
    let taking = TakeImage { id, skip, size: layers.size };
    let StreamHandle { to: taker, from: mut verdict } = open(to, StreamSpec::TakeImage(taking)).await?;
    let bytes = tokio::select! {
        sent = pass(&mut source.from, &taker, (from, to)) => sent?,
        refused = end_of(&mut verdict, to) => {
            return Err(refused.err().unwrap_or_else(|| broken(to, "it ended before all had come")));
        }
    };
    timeout(SILENCE, end_of(&mut verdict, to)).await.map_err(|_| silent(to))??;
    Ok(bytes)
}

/// Hands on what one node sends to the other, up to its end.
async fn pass(
    source: &mut mpsc::Receiver<Frame>,
    taker: &mpsc::Sender<Frame>,
    (from, to): (&NodeRef, &NodeRef),
) -> Result<u64, Failure> {
    let give = async |frame| {
        let given = timeout(SILENCE, taker.send(frame)).await.map_err(|_| silent(to))?;
        // Why it wants no more is told by its own end of the stream.
        if given.is_err() { std::future::pending().await } else { Ok::<_, Failure>(()) }
    };
    let mut bytes = 0;
    loop {
        match timeout(SILENCE, source.recv()).await.map_err(|_| silent(from))? {
            Some(Frame::Data(data)) => {
                bytes += data.len() as u64;
                give(Frame::Data(data)).await?;
            }
            Some(Frame::Exit { code: 0 }) => {
                give(Frame::Eof).await?;
                return Ok(bytes);
            }
            Some(Frame::Failed(error)) => return Err(Failure::call(from, "node", CallError::Action(error))),
            Some(Frame::Exit { .. }) => return Err(broken(from, "it ended with an error")),
            Some(_) => {}
            None => return Err(Failure::call(from, "node", CallError::Lost)),
        }
    }
}

/// What the node that takes it says in the end.
async fn end_of(verdict: &mut mpsc::Receiver<Frame>, node: &NodeRef) -> Result<(), Failure> {
    loop {
        match verdict.recv().await {
            Some(Frame::Exit { code: 0 }) => return Ok(()),
            Some(Frame::Exit { .. }) => return Err(broken(node, "it ended with an error")),
            Some(Frame::Failed(error)) => return Err(Failure::call(node, "node", CallError::Action(error))),
            Some(_) => {}
            None => return Err(Failure::call(node, "node", CallError::Lost)),
        }
    }
}

fn silent(node: &NodeRef) -> Failure {
    broken(node, &format!("it said nothing for {} s", SILENCE.as_secs()))
}

fn broken(node: &NodeRef, why: &str) -> Failure {
    Failure::new("node", format!("the image does not pass node {node}: {why}")).hint("deploy again: it is begun anew")
}
