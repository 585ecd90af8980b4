//! Nodes enrol with a one-time token.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{Enrol, Enrolled, GatewayInfo, NodeToken, SshInfo};
use magrathea_core::names::{ClusterName, NodeName};
use magrathea_core::people::{Place, Verb};

use super::error::{ApiError, Code};
use super::extract::{Json, Path};
use super::throttle::Throttle;
use super::{auth, clusters};
use crate::actor::Actor;
use crate::db::nodes;
use crate::hub::NodeRef;
use crate::listen::Peer;
use crate::services::access::require_at;
use crate::services::nodes::{enrol_node, make_node_token};
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
    require_at(&actor, Verb::Administer, Place::Platform, "the clusters")?;
    if !clusters::find(&state.clusters(), &cluster)?.nodes.contains_key(&node) {
        return Err(ApiError::new(Code::NodeNotFound, format!("the cluster {cluster} has no node {node}")));
    }
    let node = NodeRef { cluster, node };
    let token = make_node_token(&state.db, Some(&actor), &node).await?;
    let (cluster, node) = (node.cluster.into(), node.node.into());
    let made = NodeToken { cluster, node, token, lifetime: nodes::TOKEN_SECONDS };
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
    let address = peer.address.ip();
    let enrolled = enrol_node(&state, address, &body.token, &body.csr).await;
    let (node, signed) = enrolled.map_err(|error| match error.code {
        Code::EnrolTokenInvalid => auth::slow(&throttle, &peer, error),
        _ => error,
    })?;
    let enrolled = Enrolled {
        cluster: node.cluster.into(),
        node: node.node.into(),
        certificate: signed.certificate,
        ca: state.pki.ca_pem().to_owned(),
        connect: state.connect.clone(),
    };
    Ok((StatusCode::CREATED, axum::Json(enrolled)))
}

/// The gateway and its doors.
#[utoipa::path(get, path = "/v1/gateway", tag = "gateway", responses((status = 200, body = GatewayInfo)))]
pub async fn gateway(Shared(state): Shared<Arc<State>>) -> axum::Json<GatewayInfo> {
    let door = &state.ssh;
    let ssh = SshInfo { host: door.host.clone(), port: door.port, host_key: door.host_key.public.clone() };
    axum::Json(GatewayInfo { version: env!("CARGO_PKG_VERSION").to_owned(), ssh })
}
