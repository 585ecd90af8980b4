//! What a source is deployed as: its manifest, the label, the clusters.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::SourceInfo;
use magrathea_core::manifest::{self, LabelError, Manifest, Resolved};
use magrathea_core::names::{AppName, ClusterName, LabelName};

use super::intake::{self, IntakeError, Packing, Source};
use crate::api::error::{ApiError, Code};
use crate::disk;
use crate::services::access::several_clusters;
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
    disk::find_room(state, "deployed")?;
    let source = intake::receive(body, packing, state.blobs()).await.map_err(refused)?;
    let (manifest, mut warnings) = read_manifest(source.manifest.as_deref())?;
    if let Some(named) = manifest.app.as_ref().filter(|named| *named != app) {
        warnings.push(format!("magrathea.yml names the app {named}, but it is deployed as {app}"));
    }
    Ok(Received { source, manifest, warnings })
}

impl Received {
    /// The configuration of the label that is meant, and the one cluster.
    pub fn choose(&self, state: &State, app: &AppName, info: &SourceInfo) -> Result<(Resolved, ClusterName), ApiError> {
        let (resolved, clusters) = self.choose_all(state, info)?;
        let cluster = only_cluster(app, &resolved.label, clusters)?;
        check_cluster(state, &cluster)?;
        Ok((resolved, cluster))
    }

    /// The configuration of the label that is meant, and the clusters; one of them may be unknown.
    pub fn choose_all(&self, state: &State, info: &SourceInfo) -> Result<(Resolved, Vec<ClusterName>), ApiError> {
        let resolved = choose_label(&self.manifest, info)?;
        let wanted = info.cluster.as_ref().map(|name| name.parse()).transpose()?;
        let clusters = choose_clusters(state, &resolved, wanted.as_ref())?;
        Ok((resolved, clusters))
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

/// The clusters that a label lives on, or the one of them that is wanted; of a label that names none the only one.
pub fn choose_clusters(
    state: &State,
    resolved: &Resolved,
    wanted: Option<&ClusterName>,
) -> Result<Vec<ClusterName>, ApiError> {
    let unknown = |message: String, hint: String| ApiError::new(Code::ClusterUnknown, message).with_hint(hint);
    let label = &resolved.label;
    let mut lives_on = resolved.clusters.clone();
    if lives_on.is_empty() {
        let clusters = state.clusters();
        let mut all = clusters.clusters.keys();
        let (Some(only), None) = (all.next(), all.next()) else {
            let message = format!("the label {label} names no cluster, and there is not just one");
            return Err(unknown(message, format!("add `cluster:` to the label; clusters.yml has {}", known(state))));
        };
        lives_on.push(only.clone());
    }
    match wanted {
        None => Ok(lives_on),
        Some(wanted) if lives_on.contains(wanted) => Ok(vec![wanted.clone()]),
        Some(wanted) => {
            let lives_on = lives_on.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("magrathea.yml does not put the label {label} on {wanted}");
            Err(unknown(message, format!("it lives on {lives_on}")))
        }
    }
}

/// The one cluster, where only one can be meant.
pub fn only_cluster(app: &AppName, label: &LabelName, clusters: Vec<ClusterName>) -> Result<ClusterName, ApiError> {
    match clusters.as_slice() {
        [only] => Ok(only.clone()),
        several => Err(several_clusters(app, label, several.iter())),
    }
}

/// Refuses a cluster that clusters.yml does not have.
pub fn check_cluster(state: &State, cluster: &ClusterName) -> Result<(), ApiError> {
    if state.clusters().clusters.contains_key(cluster) {
        return Ok(());
    }
    let error = ApiError::new(Code::ClusterUnknown, format!("clusters.yml has no cluster {cluster}"));
    Err(error.with_hint(format!("it has {}", known(state))))
}

fn known(state: &State) -> String {
    state.clusters().clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
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
