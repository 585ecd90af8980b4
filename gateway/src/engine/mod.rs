//! Deploys, releases, plans and their application.

mod intake;
mod runtime;

pub use runtime::Engine;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::{DeployEvent, DeployInfo, InstanceInfo, PlanPreview, SourceInfo};
use magrathea_core::names::{AppName, DeployId, LabelName};

use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::state::State;


/// Takes a source in and begins its deploy, which goes on by itself whether or not the caller stays.
pub async fn submit<E: std::fmt::Display>(
    _state: &Arc<State>,
    _actor: &Actor,
    _app: &AppName,
    _info: SourceInfo,
    _body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<DeployInfo, ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// What a deploy of this source would do, without doing it.
pub async fn preview<E: std::fmt::Display>(
    _state: &Arc<State>,
    _app: &AppName,
    _info: SourceInfo,
    _body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<PlanPreview, ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// Stops a deploy before its cut-over.
pub async fn cancel(_state: &Arc<State>, _actor: &Actor, _id: DeployId) -> Result<DeployInfo, ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// Takes an instance away with its data.
pub async fn destroy_instance(
    _state: &Arc<State>,
    _actor: &Actor,
    _app: &AppName,
    _label: &LabelName,
) -> Result<(), ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// Takes an app away with all its instances and their data.
pub async fn destroy_app(_state: &Arc<State>, _actor: &Actor, _app: &AppName) -> Result<(), ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// The events of a deploy after the given sequence number, until it is over.
pub fn follow(_state: Arc<State>, _id: DeployId, _after: u64) -> impl Stream<Item = DeployEvent> + Send + 'static {
    futures_util::stream::empty()
}

/// One deploy.
pub async fn deploy_info(_state: &Arc<State>, _id: DeployId) -> Result<DeployInfo, ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("not there yet")))
}

/// Which deploys are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// An app's, the newest first.
    Of(&'a AppName),
    /// All that are not over.
    Unfinished,
}

/// Deploys, the newest first.
pub async fn list_deploys(_state: &Arc<State>, _which: Which<'_>, _limit: u32) -> Result<Vec<DeployInfo>, ApiError> {
    Ok(Vec::new())
}

/// The instances of an app, or all, with what serves read back from their routers.
pub async fn instance_infos(_state: &Arc<State>, _app: Option<&AppName>) -> Result<Vec<InstanceInfo>, ApiError> {
    Ok(Vec::new())
}

/// Finishes or reverts what a killed gateway left, and keeps the clusters as their plans say.
pub fn start(_state: &Arc<State>) {}
