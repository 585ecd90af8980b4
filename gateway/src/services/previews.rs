//! How long previews live, as people say it.

use magrathea_core::people::Verb;
use magrathea_core::previews::LONGEST_EXPIRE;
use magrathea_core::units::Span;

use super::access::{InstanceName, Reach, find_app, instances_of};
use super::apps::tell;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::previews;
use crate::state::State;

/// Lets a preview live for this long from now on, on every cluster where none is named; gives the first.
pub async fn extend(
    state: &State,
    actor: &Actor,
    named: &InstanceName,
    expire: &str,
) -> Result<InstanceName, ApiError> {
    let span: Span = expire.parse().map_err(|error| ApiError::new(Code::BodyInvalid, format!("expire: {error}")))?;
    if span.0.is_zero() || span > LONGEST_EXPIRE {
        return Err(ApiError::new(Code::BodyInvalid, format!("a preview lives up to {LONGEST_EXPIRE}, not {span}")));
    }
    let InstanceName { app: name, label, .. } = named;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name, Verb::Deploy, Reach::Label(label)).await?;
    let (mut until, mut extended) = (None, None);
    for instance in instances_of(&tx, &app, named).await? {
        until = previews::extend_preview(&tx, instance.id, span.0.as_secs_f64()).await?;
        if until.is_some() {
            extended.get_or_insert(instance.cluster);
            continue;
        }
        return Err(match previews::load_preview(&tx, instance.id).await? {
            None => ApiError::new(Code::NotPreview, format!("{name} ({label}) is no preview: it does not expire")),
            Some(_) => ApiError::new(Code::Locked, format!("{name} ({label}) is being taken away")),
        });
    }
    let until = until.map(|until| format!("{until:.0}")).unwrap_or_default();
    let message = format!("the preview {name} ({label}) expires at {until}");
    tell(&tx, actor, (name, Some(label)), "preview.extended", &message).await?;
    tx.commit().await?;
    Ok(InstanceName { cluster: extended, ..named.clone() })
}
