//! `node-token`: a one-time token with which a node's agent enrols. Works beside a running gateway.

use anyhow::bail;

use super::{Store, hand_out, prepare};
use crate::api::token;
use crate::config::NodeToken;
use crate::db::timeline::{self, NewEntry};
use crate::db::{Db, nodes};
use crate::hub::NodeRef;

/// Makes the token and hands it out.
pub async fn node_token(options: NodeToken) -> anyhow::Result<()> {
    let clusters = prepare(&options.place)?;
    let node = NodeRef { cluster: options.cluster, node: options.node };
    if !clusters.clusters.get(&node.cluster).is_some_and(|cluster| cluster.nodes.contains_key(&node.node)) {
        bail!("{} has no node {node}", options.place.clusters.display());
    }
    let store = Store::open(&options.place).await?;
    let token = make(&store.db, &node).await;
    store.close().await;
    hand_out(&token?, options.output.as_deref())
}

async fn make(db: &Db, node: &NodeRef) -> anyhow::Result<String> {
    let token = token::for_node()?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    nodes::insert_node_token(&tx, node, &token.hash).await?;
    let message = format!("a token to enrol the node {node} was made on the gateway's machine");
    let cluster = Some(node.cluster.as_str());
    let entry = NewEntry { action: "node.token", cluster, message: &message, ..NewEntry::default() };
    timeline::append(&tx, entry).await?;
    tx.commit().await?;
    Ok(token.text)
}
