//! How a node comes to its certificate.

use std::net::IpAddr;

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::api::token;
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, Db, nodes};
use crate::hub::NodeRef;
use crate::pki::{Identity, NodeCertificate};
use crate::state::State;

/// Makes a node's one-time token. Without an actor: on the gateway's own machine.
pub async fn make_node_token(db: &Db, actor: Option<&Actor>, node: &NodeRef) -> Result<String, ApiError> {
    let token = token::for_node()?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    nodes::insert_node_token(&tx, node, &token.hash).await?;
    append(&tx, actor, "node.token", node, &format!("a token to enrol the node {node} was made")).await?;
    tx.commit().await?;
    Ok(token.text)
}

/// Uses up a one-time token and signs the node's key; earlier certificates of the node are revoked. A request that
/// fails does not use the token up.
pub async fn enrol_node(
    state: &State,
    from: IpAddr,
    token: &str,
    csr: &str,
) -> Result<(NodeRef, NodeCertificate), ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let Some(node) = nodes::use_node_token(&tx, &token::hash(token.trim())).await? else {
        return Err(ApiError::new(Code::EnrolTokenInvalid, "the token is unknown, used or expired")
            .with_hint("make a new one with magrathea-gateway node-token"));
    };
    let signed = state
        .pki
        .sign_node(csr, &node, jiff::Timestamp::now())?
        .map_err(|error| ApiError::new(Code::CsrInvalid, error.to_string()).with_cause(error))?;
    nodes::enrol_node(&tx, &node, &signed.serial).await?;
    append(&tx, None, "node.enrolled", &node, &format!("the node {node} was enrolled from {from}")).await?;
    tx.commit().await?;
    state.hub.disconnect(&node);
    Ok((node, signed))
}

/// Signs a new key of a node that is enrolled. Nothing is stored but the line on the timeline, so a node that did not
/// hear the answer asks again.
pub async fn renew_node(state: &State, from: IpAddr, identity: &Identity, csr: &str) -> Result<String, ApiError> {
    let signed = state
        .pki
        .renew_node(csr, identity, jiff::Timestamp::now())?
        .map_err(|error| ApiError::new(Code::CsrInvalid, error.to_string()).with_cause(error))?;
    let node = &identity.node;
    let message = format!("the certificate of the node {node} was renewed from {from}");
    append(&state.db.conn().await?, None, "node.renewed", node, &message).await?;
    Ok(signed.certificate)
}

async fn append(
    client: &impl Client,
    actor: Option<&Actor>,
    action: &str,
    node: &NodeRef,
    message: &str,
) -> Result<(), ApiError> {
    let entry = NewEntry { actor, action, cluster: Some(node.cluster.as_str()), message, ..NewEntry::default() };
    Ok(timeline::append(client, entry).await?)
}
