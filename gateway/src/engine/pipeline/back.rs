//! An earlier release once more: its image, its rendered layers and its values as they were. Nothing is built, and its
//! release hook does not run again: what that did to the data has been done, and newer releases have built on it.

use magrathea_core::api::Phase;
use magrathea_core::names::ReleaseNumber;
use magrathea_core::plan::Plan;

use super::build::{Made, check_hosts, wait_for_nodes};
use super::scale::{set_replicas, stand};
use super::{Attempt, Job};
use crate::db::scales::load_scales;
use crate::db::{DbError, deploys, plans, releases};
use crate::engine::capacity::promise;
use crate::engine::carry::ensure_image;
use crate::engine::failure::Failure;
use crate::engine::layout::{hosts_of, load_secrets_of, urls_of};
use crate::engine::lists::follow_lists;

/// Takes the release's plan out again, as a new generation.
pub async fn bring_back(job: &Job, attempt: &mut Attempt, release: ReleaseNumber) -> Result<Made, Failure> {
    let (site, recorder) = (&job.site, attempt.recorder.clone());
    let instance = &site.instance;
    wait_for_nodes(attempt).await?;
    let conn = site.state.db.conn().await?;
    let (stored, configured, info, old, generation, mut scales) = tokio::try_join!(
        plans::load_plan(&conn, instance.id, release),
        releases::load_configured(&conn, instance.id, release),
        releases::load_release(&conn, instance.id, release),
        plans::load_serving_plan(&conn, instance.id),
        plans::next_generation(&conn, instance.id),
        load_scales(&conn, instance.id),
    )?;
    drop(conn);
    let gone = || Failure::new("release_not_found", format!("{release} is not kept any more"));
    let (stored, configured, info) = (stored.ok_or_else(gone)?, configured.ok_or_else(gone)?, info.ok_or_else(gone)?);
    recorder.enter(Phase::Plan, &format!("back to {release}")).await?;

    ensure_image(site, &recorder, (&info.image, &stored.resources), None).await?;
    attempt.applier.secrets = load_secrets_of(site, &configured).await?;
    let mut resources = stored.resources;
    // Who may not come in today does not come in because of an old release.
    follow_lists(site, &configured.resolved, &mut resources).await?;
    stand(&mut scales, &configured.resolved, old.as_ref());
    set_replicas(&mut resources, &configured.resolved, &scales);
    let plan = Plan::new(stored.subject, generation, old.as_ref().map(Plan::hash), resources);
    attempt.old = old;
    attempt.release = release;
    attempt.image = Some(info.image.clone());
    attempt.resolved = configured.resolved;
    promise(site, attempt.deploy, &plan).await?;
    let hosts = hosts_of(site, &attempt.resolved);

    let mut conn = site.state.db.conn().await?;
    check_hosts(&conn, instance, &hosts).await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    plans::insert_plan(&tx, instance.id, release, &plan).await?;
    deploys::set_release(&tx, attempt.deploy, release, &info.image, &urls_of(site, &attempt.resolved)).await?;
    releases::claim_hosts(&tx, &instance.cluster, instance.id, &hosts).await?;
    tx.commit().await.map_err(DbError::from)?;
    attempt.resolved.sections.hooks.release.clear();
    attempt.plan = Some(plan.clone());
    Ok(Made { plan })
}
