//! Clusters, their nodes, and how everything is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use futures_util::future::{join_all, try_join_all};
use magrathea_core::api::{ClusterInfo, Health, LayerService, NodeInfo, QuotaInfo, Status};
use magrathea_core::clusters::{Cluster, Clusters};
use magrathea_core::names::{ClusterName, Layer};
use magrathea_core::people::{Place, Verb};
use magrathea_core::wire::{Holdings, Inventory};

use super::error::{ApiError, Code};
use super::extract::Path;
use crate::actor::Actor;
use crate::db::{instances, nodes, nodes::EnrolledNode};
use crate::engine::{self, Which};
use crate::hub::NodeRef;
use crate::services::quotas;
use crate::state::State;

/// A node that does not answer in this time is shown without its services.
const ASK: Duration = Duration::from_secs(3);

/// How many deploys the status shows.
const DEPLOYS: u32 = 100;

/// The cluster, or the error that there is none.
pub fn find<'a>(clusters: &'a Clusters, name: &ClusterName) -> Result<&'a Cluster, ApiError> {
    clusters.clusters.get(name).ok_or_else(|| {
        let known: Vec<&str> = clusters.clusters.keys().map(ClusterName::as_str).collect();
        ApiError::new(Code::ClusterNotFound, format!("clusters.yml has no cluster {name}"))
            .with_hint(format!("it has: {}", known.join(", ")))
    })
}

/// What the store knows of all clusters.
struct Known {
    nodes: HashMap<NodeRef, EnrolledNode>,
    instances: BTreeMap<String, u32>,
}

async fn load_known(state: &State) -> Result<Known, ApiError> {
    let conn = state.db.conn().await?;
    let nodes = nodes::list_nodes(&conn).await?.into_iter().map(|node| (node.node.clone(), node)).collect();
    Ok(Known { nodes, instances: instances::count_instances(&conn).await? })
}

/// Nodes are the operator's matter: others see that a cluster is there, and its domain.
async fn describe(
    state: &State,
    actor: &Actor,
    known: &Known,
    name: &ClusterName,
    cluster: &Cluster,
) -> Result<ClusterInfo, ApiError> {
    if !actor.may(Verb::Look, Place::Platform) {
        let (name, domain) = (name.to_string(), cluster.domain.clone());
        return Ok(ClusterInfo { name, domain, nodes: Vec::new(), instances: 0, capacity: None });
    }

    let capacity = engine::capacity(&state.db.conn().await?, state, name, cluster).await?;
    let nodes = cluster.nodes.iter().map(async |(node_name, node)| {
        let node_ref = NodeRef { cluster: name.clone(), node: node_name.clone() };
        let enrolled = known.nodes.get(&node_ref);
        let connected = state.hub.is_connected(&node_ref);
        NodeInfo {
            name: node_name.to_string(),
            address: node.address.to_string(),
            layers: node.layers.iter().copied().collect(),
            zone: node.zone.clone(),
            state: match (enrolled, connected) {
                (_, true) => "connected".to_owned(),
                (Some(_), false) => "lost".to_owned(),
                (None, false) => "new".to_owned(),
            },
            last_seen: if connected { Some(jiff::Timestamp::now()) } else { enrolled.and_then(|n| n.last_seen) },
            report: state.hub.report(&node_ref),
            services: if connected { services(state, &node_ref).await } else { Vec::new() },
        }
    });
    Ok(ClusterInfo {
        name: name.to_string(),
        domain: cluster.domain.clone(),
        nodes: join_all(nodes).await,
        instances: known.instances.get(name.as_str()).copied().unwrap_or(0),
        capacity: Some(capacity),
    })
}

/// The shared services on a node; none when it does not answer soon.
async fn services(state: &State, node: &NodeRef) -> Vec<LayerService> {
    match tokio::time::timeout(ASK, state.hub.call(node, Inventory {}, |_| {})).await {
        Ok(Ok(holdings)) => layer_services(holdings),
        Ok(Err(error)) => {
            tracing::debug!(%node, %error, "cannot list a node's services");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn layer_services(holdings: Holdings) -> Vec<LayerService> {
    let shared = holdings.services.into_iter().filter(|service| service.slug.is_none());
    let services = shared.filter_map(|service| {
        // Agents put their installation's prefix before every name, as in `mag-router`.
        let layer = match service.name.rsplit('-').next()? {
            "mariadb" => Layer::Db,
            "varnish" | "nginx" => Layer::Proxy,
            "router" => Layer::Routing,
            _ => return None,
        };
        Some(LayerService { layer, name: service.name, running: service.running, wanted: service.wanted })
    });
    let mut services: Vec<LayerService> = services.collect();
    services.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
    services
}

async fn describe_all(state: &State, actor: &Actor) -> Result<Vec<ClusterInfo>, ApiError> {
    let (known, clusters) = (load_known(state).await?, state.clusters());
    try_join_all(clusters.clusters.iter().map(|(name, cluster)| describe(state, actor, &known, name, cluster))).await
}

/// All clusters; their nodes are told to the operator's people alone.
#[utoipa::path(get, path = "/v1/clusters", tag = "clusters", responses((status = 200, body = Vec<ClusterInfo>)))]
pub async fn list(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Vec<ClusterInfo>>, ApiError> {
    Ok(axum::Json(describe_all(&state, &actor).await?))
}

/// One cluster.
#[utoipa::path(get, path = "/v1/clusters/{cluster}", tag = "clusters", params(("cluster" = String, Path)),
    responses((status = 200, body = ClusterInfo), (status = 404, description = "`cluster_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<ClusterName>,
) -> Result<axum::Json<ClusterInfo>, ApiError> {
    let clusters = state.clusters();
    let cluster = find(&clusters, &name)?;
    Ok(axum::Json(describe(&state, &actor, &load_known(&state).await?, &name, cluster).await?))
}

/// How everything is.
#[utoipa::path(get, path = "/v1/status", tag = "gateway", responses((status = 200, body = Status)))]
pub async fn status(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Status>, ApiError> {
    let (clusters, instances, deploys, traffic) = tokio::join!(
        describe_all(&state, &actor),
        engine::instance_infos(&state, &actor, None),
        engine::list_deploys(&state, &actor, Which::Unfinished, DEPLOYS),
        quotas::list(&state, &actor),
    );
    let mut traffic_quotas = traffic?;
    traffic_quotas.retain(QuotaInfo::is_near);
    Ok(axum::Json(Status {
        gateway_version: env!("CARGO_PKG_VERSION").to_owned(),
        person: actor.name,
        clusters: clusters?,
        instances: instances?,
        deploys: deploys?,
        traffic_quotas,
    }))
}

/// Whether the gateway can work.
#[utoipa::path(get, path = "/healthz", tag = "gateway", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn health(Shared(state): Shared<Arc<State>>) -> (StatusCode, axum::Json<Health>) {
    let database = state.db.ping().await;
    let status = if database { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Health { version: env!("CARGO_PKG_VERSION").to_owned(), database }))
}
