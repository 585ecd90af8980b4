//! Deploys of what there is already, through the phases of every deploy but the build: what serves once more as a new
//! release, or an earlier release itself.

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::api::{Counts, DeployInfo, Phase, ReleaseInfo, SourceInfo};
use magrathea_core::names::{ProcessName, ReleaseNumber, WEB};
use magrathea_core::wire::Blob;

use super::events::Recorder;
use super::failure::into_api;
use super::layout::Site;
use super::pipeline::{self, Job, Origin, Reused, tell_counts};
use super::turn::{Reason, carry_out, record};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::releases::{self, Configured};
use crate::db::scales::Rescale;
use crate::state::State;

/// Which of the app's values go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Those that are set now.
    AsTheyAre,
    /// Those that the serving release has; what was stored for the next deploy goes on waiting for it.
    AsServed,
}

/// Begins it; it goes on whether or not the caller stays. A deploy that is under way is waited for.
pub async fn redeploy(
    state: &Arc<State>,
    actor: &Actor,
    instance: Instance,
    why: &str,
    values: Values,
    wait: u32,
) -> Result<DeployInfo, ApiError> {
    let serving = releases::load_serving(&state.db.conn().await?, instance.id).await?;
    let number = serving.ok_or_else(|| nothing(&instance))?.release;
    let earlier = Earlier::load(state, &instance, number).await?;
    let origin = Origin::Again(Reused {
        release: number,
        image: earlier.release.image.clone(),
        size: earlier.release.size,
        elsewhere: None,
        config_version: match values {
            Values::AsTheyAre => None,
            Values::AsServed => Some(earlier.configured.config_version),
        },
    });
    let told = format!("{number} once more: {why}");
    let why = Why { message: Some(why.to_owned()), reason: Reason::Told(told), warning: None };
    earlier.begin(state, Some(actor), instance, origin, why, wait).await
}

/// Brings back an earlier release, or the one before that which serves.
pub async fn rollback(
    state: &Arc<State>,
    actor: &Actor,
    instance: Instance,
    to: Option<ReleaseNumber>,
    wait: u32,
) -> Result<DeployInfo, ApiError> {
    let conn = state.db.conn().await?;
    let serving = releases::load_serving(&conn, instance.id).await?.ok_or_else(|| nothing(&instance))?.release;
    let kept = releases::list_kept(&conn, instance.id).await?;
    drop(conn);
    let name = format!("{} ({})", instance.app_name, instance.label);
    let told = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let hint = format!("it can go back to {told}; see td release list");
    let number = match to {
        Some(number) if number == serving => {
            return Err(ApiError::new(Code::ReleaseNotFound, format!("{number} serves {name} already")));
        }
        Some(number) if kept.contains(&number) => number,
        Some(number) => {
            let message = format!("{name} has no release {number} that served and is kept");
            return Err(ApiError::new(Code::ReleaseNotFound, message).with_hint(hint));
        }
        None => kept.iter().copied().find(|number| *number < serving).ok_or_else(|| {
            let error = ApiError::new(Code::ReleaseNotFound, format!("{name} has no release before {serving}"));
            if kept.is_empty() { error } else { error.with_hint(hint) }
        })?,
    };
    let earlier = Earlier::load(state, &instance, number).await?;
    let told = format!("back from {serving} to {number}");
    let why = Why { message: Some(told.clone()), reason: Reason::Told(told), warning: None };
    earlier.begin(state, Some(actor), instance, Origin::Back(number), why, wait).await
}

/// Gives what serves other numbers of replicas, which later deploys keep.
pub async fn scale(
    state: &Arc<State>,
    actor: &Actor,
    instance: Instance,
    counts: Counts,
    wait: u32,
) -> Result<DeployInfo, ApiError> {
    let serving = releases::load_serving(&state.db.conn().await?, instance.id).await?;
    let earlier = Earlier::load(state, &instance, serving.ok_or_else(|| nothing(&instance))?.release).await?;
    let app = &earlier.configured.resolved.sections.app_layer;
    if let Some(unknown) = counts.keys().find(|process| app.replicas_of(process).is_none()) {
        let known: Vec<_> = std::iter::once(WEB).chain(app.workers.keys().map(ProcessName::as_str)).collect();
        let message = format!("{} ({}) has no process type {unknown}", instance.app_name, instance.label);
        return Err(ApiError::new(Code::ServiceMissing, message).with_hint(format!("it has {}", known.join(", "))));
    }
    let told = tell_counts(&counts);
    let why = Why { message: Some(format!("scale {told}")), reason: Reason::Told(told), warning: None };
    earlier.begin(state, Some(actor), instance, Origin::Scale(Rescale { counts, reason: None }), why, wait).await
}

/// Gives what serves another number of web's replicas in the gateway's own name. Refused as locked while anything else is done
/// to the instance.
pub async fn scale_by_itself(
    state: &Arc<State>,
    instance: Instance,
    to: u16,
    reason: String,
) -> Result<DeployInfo, ApiError> {
    let serving = releases::load_serving(&state.db.conn().await?, instance.id).await?;
    let earlier = Earlier::load(state, &instance, serving.ok_or_else(|| nothing(&instance))?.release).await?;
    let counts = Counts::from([(ProcessName::web(), Some(to))]);
    let message = Some(format!("scale web={to}"));
    let why = Why { message, reason: Reason::Scaling(reason.clone()), warning: None };
    let rescale = Rescale { counts, reason: Some(reason) };
    earlier.begin(state, None, instance, Origin::Scale(rescale), why, 0).await
}

/// What such a deploy is told to be.
pub struct Why {
    /// The message of the release that it makes.
    pub message: Option<String>,
    pub reason: Reason,
    pub warning: Option<String>,
}

pub fn nothing(instance: &Instance) -> ApiError {
    let message = format!("{} ({}) serves nothing yet", instance.app_name, instance.label);
    ApiError::new(Code::ReleaseNotFound, message).with_hint("deploy it first: td app deploy")
}

/// A release that is deployed once more.
pub struct Earlier {
    pub release: ReleaseInfo,
    pub configured: Configured,
    pub source: String,
}

impl Earlier {
    pub async fn load(state: &State, instance: &Instance, number: ReleaseNumber) -> Result<Self, ApiError> {
        let conn = state.db.conn().await?;
        let none = || nothing(instance);
        Ok(Earlier {
            release: releases::load_release(&conn, instance.id, number).await?.ok_or_else(none)?,
            configured: releases::load_configured(&conn, instance.id, number).await?.ok_or_else(none)?,
            source: releases::load_source(&conn, instance.id, number).await?.ok_or_else(none)?,
        })
    }

    pub async fn begin(
        self,
        state: &Arc<State>,
        actor: Option<&Actor>,
        instance: Instance,
        origin: Origin,
        why: Why,
        wait: u32,
    ) -> Result<DeployInfo, ApiError> {
        if state.shutdown.is_cancelled() {
            return Err(ApiError::new(Code::ShuttingDown, "the gateway is about to end; try again soon"));
        }
        let info = SourceInfo {
            label: Some(instance.label.to_string()),
            commit: self.release.commit,
            message: why.message,
            author: self.release.author,
            wait: Some(wait),
            ..SourceInfo::default()
        };
        let site = Site::new(state, instance).map_err(into_api)?;
        let (deploy, _) = record(state, actor, &site, &info, &self.source, &why.reason).await?;
        let recorder = Recorder::open(state, deploy.id(), Phase::Receive).await?;
        pipeline::tell_again(&recorder, why.reason.as_str());
        if let Some(warning) = &why.warning {
            recorder.warn(warning);
        }
        let job = Job {
            deploy: deploy.id(),
            actor: actor.cloned(),
            site,
            resolved: self.configured.resolved,
            blob: Blob { sha256: self.source, size: 0 },
            info,
            origin,
        };
        let turn = Duration::from_secs(wait.into());
        state.tasks.spawn(carry_out(job, recorder, deploy.info.status, turn));
        Ok(deploy.info)
    }
}
