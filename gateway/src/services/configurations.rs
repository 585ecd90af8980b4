//! What the layers were told about an app's instances, as the history has it.

use std::sync::Arc;

use magrathea_core::api::{Configuration, ConfigurationTexts, RestoredLayer, TextDifference};
use magrathea_core::names::{AppName, ClusterName, LabelName, Layer};
use magrathea_core::people::Verb;

use super::access::{InstanceName, find_instance, visible_instances};
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::engine::{diff_texts, history, restore_layer};
use crate::state::State;

/// Of all instances that somebody may see, the newest first.
pub async fn list(
    state: &State,
    actor: &Actor,
    app: &AppName,
    on: (Option<&LabelName>, Option<&ClusterName>),
    limit: u32,
) -> Result<Vec<Configuration>, ApiError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let instances = visible_instances(&state.db.conn().await?, actor, app, on).await?;
    let mut all = Vec::new();
    for instance in instances {
        all.extend(history::list(state, &instance, limit).await?);
    }
    all.sort_by_key(|configuration| std::cmp::Reverse(configuration.at));
    all.truncate(limit);
    Ok(all)
}

pub async fn show(state: &State, actor: &Actor, name: &InstanceName, id: &str) -> Result<ConfigurationTexts, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    history::show(state, &instance, Some(id)).await
}

/// Puts one layer back to how it was in one of them.
pub async fn restore(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    id: &str,
    layer: Layer,
) -> Result<RestoredLayer, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Deploy).await?;
    restore_layer(state, actor, instance, (layer, id)).await
}

/// How one differs from another, or from the one before it.
pub async fn diff(
    state: &State,
    actor: &Actor,
    name: &InstanceName,
    id: &str,
    from: Option<&str>,
) -> Result<Vec<TextDifference>, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    let after = history::show(state, &instance, Some(id)).await?;
    let before = match from {
        Some(from) => history::show(state, &instance, Some(from)).await?,
        None => history::before(state, &instance, id).await?,
    };
    diff_texts(&before.texts, &after.texts)
}
