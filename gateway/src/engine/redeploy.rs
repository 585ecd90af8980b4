//! Deploys what an instance serves once more: the same image and the same manifest as a new release, through the phases of
//! every deploy but the build.

use std::sync::Arc;
use std::time::Duration;

use magrathea_buildpacks::Tree;
use magrathea_core::api::{DeployInfo, Phase, SourceInfo};
use magrathea_core::wire::Blob;

use super::events::Recorder;
use super::layout::Site;
use super::pipeline::{self, Job, Reused};
use super::submit::{carry_out, into_api, record};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::releases;
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
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "the gateway is about to end; try again soon"));
    }
    let conn = state.db.conn().await?;
    let nothing = || {
        let message = format!("{} ({}) serves nothing yet", instance.app_name, instance.label);
        ApiError::new(Code::ReleaseNotFound, message).with_hint("deploy it first: td app deploy")
    };
    let serving = releases::load_serving(&conn, instance.id).await?.ok_or_else(nothing)?;
    let release = releases::load_release(&conn, instance.id, serving.release).await?.ok_or_else(nothing)?;
    let configured = releases::load_configured(&conn, instance.id, serving.release).await?.ok_or_else(nothing)?;
    let source = releases::load_source(&conn, instance.id, serving.release).await?.ok_or_else(nothing)?;
    drop(conn);
    let info = SourceInfo {
        label: Some(instance.label.to_string()),
        commit: release.commit.clone(),
        message: Some(why.to_owned()),
        author: release.author.clone(),
        wait: Some(wait),
        ..SourceInfo::default()
    };
    let site = Site::new(state, instance).map_err(into_api)?;
    let (deploy, _) = record(state, actor, &site, &info, &source).await?;
    let recorder = Recorder::open(state, deploy.id(), Phase::Receive).await?;
    pipeline::tell_again(&recorder, &format!("{} once more: {why}", release.number));
    let job = Job {
        deploy: deploy.id(),
        actor: actor.clone(),
        site,
        resolved: configured.resolved,
        blob: Blob { sha256: source, size: 0 },
        tree: Tree::default(),
        info,
        reused: Some(Reused {
            release: release.number,
            image: release.image,
            size: release.size,
            config_version: match values {
                Values::AsTheyAre => None,
                Values::AsServed => Some(configured.config_version),
            },
        }),
    };
    let turn = Duration::from_secs(wait.into());
    state.tasks.spawn(carry_out(job, recorder, deploy.info.status, turn));
    Ok(deploy.info)
}
