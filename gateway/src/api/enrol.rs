//! Who is who: nodes enrol with a one-time token, people ask who they are.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{Enrol, Enrolled, NodeToken, Whoami};
use magrathea_core::names::{ClusterName, NodeName};

use super::error::{ApiError, Code};
use super::extract::{Json, Path};
use super::throttle::Throttle;
use super::{auth, clusters, token};
use crate::actor::Actor;
use crate::db::nodes;
use crate::db::timeline::{self, NewEntry};
use crate::hub::NodeRef;
use crate::listen::Peer;
use crate::state::State;

/// Makes a node's one-time token.
#[utoipa::path(post, path = "/v1/clusters/{cluster}/nodes/{node}/token", tag = "clusters",
    params(("cluster" = String, Path), ("node" = String, Path)),
    responses((status = 201, body = NodeToken), (status = 404, description = "`cluster_not_found` or `node_not_found`")))]
pub async fn token(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((cluster, node)): Path<(ClusterName, NodeName)>,
) -> Result<(StatusCode, axum::Json<NodeToken>), ApiError> {
    if !clusters::find(&state.clusters(), &cluster)?.nodes.contains_key(&node) {
        return Err(ApiError::new(Code::NodeNotFound, format!("the cluster {cluster} has no node {node}")));
    }
    let token = token::for_node()?;
    let node = NodeRef { cluster, node };
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    nodes::insert_node_token(&tx, &node, &token.hash).await?;
    let message = format!("a token to enrol the node {node} was made");
    timeline::append(&tx, entry(Some(&actor), "node.token", &node, &message)).await?;
    tx.commit().await?;
    let made = NodeToken {
        cluster: node.cluster.into(),
        node: node.node.into(),
        token: token.text,
        lifetime: nodes::TOKEN_SECONDS,
    };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Enrols a node: its one-time token and a signing request for a certificate. Earlier certificates of the node are
/// revoked.
#[utoipa::path(post, path = "/v1/enrol", tag = "clusters", security(()), request_body = Enrol,
    responses((status = 201, body = Enrolled), (status = 401, description = "`enrol_token_invalid`"),
        (status = 422, description = "`csr_invalid`")))]
pub async fn enrol(
    Shared(state): Shared<Arc<State>>,
    Extension(throttle): Extension<Arc<Throttle>>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<Enrol>,
) -> Result<(StatusCode, axum::Json<Enrolled>), ApiError> {
    let mut conn = state.db.conn().await?;
    // A request that fails below does not use the token up.
    let tx = conn.transaction().await?;
    let Some(node) = nodes::use_node_token(&tx, &token::hash(body.token.trim())).await? else {
        let message = "the token is unknown, used or expired";
        return Err(auth::refuse(&throttle, &peer, Code::EnrolTokenInvalid, message)
            .with_hint("make a new one with magrathea-gateway node-token"));
    };
    let signed = state
        .pki
        .sign_node(&body.csr, &node)?
        .map_err(|error| ApiError::new(Code::CsrInvalid, error.to_string()).with_cause(error))?;
    nodes::enrol_node(&tx, &node, &signed.serial).await?;
    let message = format!("the node {node} was enrolled from {}", peer.address.ip());
    timeline::append(&tx, entry(None, "node.enrolled", &node, &message)).await?;
    tx.commit().await?;
    state.hub.disconnect(&node);
    let enrolled = Enrolled {
        cluster: node.cluster.into(),
        node: node.node.into(),
        certificate: signed.certificate,
        ca: state.pki.ca_pem().to_owned(),
        connect: state.connect.clone(),
    };
    Ok((StatusCode::CREATED, axum::Json(enrolled)))
}

fn entry<'a>(actor: Option<&'a Actor>, action: &'a str, node: &'a NodeRef, message: &'a str) -> NewEntry<'a> {
    NewEntry { actor, action, cluster: Some(node.cluster.as_str()), message, ..NewEntry::default() }
}

/// Whose token it is.
#[utoipa::path(get, path = "/v1/whoami", tag = "gateway", responses((status = 200, body = Whoami)))]
pub async fn whoami(actor: Actor) -> axum::Json<Whoami> {
    axum::Json(Whoami { id: actor.person.0, name: actor.name })
}
