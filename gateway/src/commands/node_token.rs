//! `node-token`: a one-time token with which a node's agent enrols. Works beside a running gateway.

use anyhow::bail;

use super::{Store, hand_out, prepare};
use crate::config::NodeToken;
use crate::hub::NodeRef;
use crate::services::nodes::make_node_token;

/// Makes the token and hands it out.
pub async fn node_token(options: NodeToken) -> anyhow::Result<()> {
    let clusters = prepare(&options.place)?;
    let node = NodeRef { cluster: options.cluster, node: options.node };
    if !clusters.clusters.get(&node.cluster).is_some_and(|cluster| cluster.nodes.contains_key(&node.node)) {
        bail!("{} has no node {node}", options.place.clusters.display());
    }
    let store = Store::open(&options.place).await?;
    let token = make_node_token(&store.db, None, &node).await;
    store.close().await;
    hand_out(&token?, options.output.as_deref())
}
