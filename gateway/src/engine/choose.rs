//! What a source is deployed as: its manifest, the label, the cluster.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::SourceInfo;
use magrathea_core::manifest::{self, LabelError, Manifest, Resolved};
use magrathea_core::names::{AppName, ClusterName};

use super::intake::{self, IntakeError, Packing, Source};
use crate::api::error::{ApiError, Code};
use crate::state::State;

/// A source that was taken in, with what its magrathea.yml says.
pub struct Received {
    pub source: Source,
    pub manifest: Manifest,
    pub warnings: Vec<String>,
}

/// Takes a source in and reads its manifest. Records nothing.
pub async fn receive<E: std::fmt::Display>(
    state: &Arc<State>,
    app: &AppName,
    packing: Packing,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Received, ApiError> {
    let source = intake::receive(body, packing, state.blobs()).await.map_err(refused)?;
    let (manifest, mut warnings) = read_manifest(source.manifest.as_deref())?;
    if let Some(named) = manifest.app.as_ref().filter(|named| *named != app) {
        warnings.push(format!("magrathea.yml names the app {named}, but it is deployed as {app}"));
    }
    Ok(Received { source, manifest, warnings })
}

impl Received {
    /// The configuration of the label that is meant, and where it lives.
    pub fn choose(&self, state: &State, info: &SourceInfo) -> Result<(Resolved, ClusterName), ApiError> {
        let resolved = choose_label(&self.manifest, info)?;
        let cluster = choose_cluster(state, &resolved)?;
        Ok((resolved, cluster))
    }
}

/// What a source's magrathea.yml says, if it has one, and what is to be said about that.
pub fn read_manifest(text: Option<&str>) -> Result<(Manifest, Vec<String>), ApiError> {
    let Some(text) = text else { return Ok((manifest::default_manifest(), Vec::new())) };
    let (manifest, warnings) = manifest::parse_manifest(manifest::FILE_NAME, text).map_err(ApiError::diagnostics)?;
    let warnings = warnings.0.iter().map(|d| format!("{}:{}: {}", d.file, d.line, d.message)).collect();
    Ok((manifest, warnings))
}

/// The label that was asked for, the branch's, the only one, or the default.
fn choose_label(manifest: &Manifest, info: &SourceInfo) -> Result<Resolved, ApiError> {
    manifest.label_for(info.label.as_deref(), info.branch.as_deref()).map_err(|error| {
        let hint = matches!(error, LabelError::Ambiguous(_) | LabelError::SameBranch { .. });
        let error = ApiError::new(Code::LabelUnknown, format!("magrathea.yml: {error}"));
        if hint { error.with_hint("choose one with --label") } else { error }
    })
}

/// The label's cluster, or the only one.
pub fn choose_cluster(state: &State, resolved: &Resolved) -> Result<ClusterName, ApiError> {
    let clusters = state.clusters();
    let all = || clusters.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    match &resolved.cluster {
        Some(name) if clusters.clusters.contains_key(name) => Ok(name.clone()),
        Some(name) => Err(ApiError::new(Code::ClusterUnknown, format!("clusters.yml has no cluster {name}"))
            .with_hint(format!("it has {}", all()))),
        None => match (clusters.clusters.keys().next(), clusters.clusters.len()) {
            (Some(only), 1) => Ok(only.clone()),
            _ => Err(ApiError::new(
                Code::ClusterUnknown,
                format!("the label {} names no cluster, and there is not just one", resolved.label),
            )
            .with_hint(format!("add `cluster:` to the label; clusters.yml has {}", all()))),
        },
    }
}

fn refused(error: IntakeError) -> ApiError {
    let code = match &error {
        IntakeError::Limit { .. } => Code::SourceTooLarge,
        IntakeError::Entry { .. } | IntakeError::Unreadable(_) | IntakeError::Empty => Code::SourceInvalid,
        IntakeError::Store(_) => return ApiError::internal(error),
    };
    let mut api = ApiError::new(code, error.to_string());
    api.hint = error.hint();
    api
}
