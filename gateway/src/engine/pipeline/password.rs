//! The end of a rotated database password: once no release that knows the former one runs, the account forgets it.

use magrathea_core::plan::{Plan, Spec};
use magrathea_layers::{OLD_PASSWORD, retire_password};

use super::Attempt;
use crate::db::{DbError, instances, plans, releases};
use crate::engine::apply::UNHEARD;
use crate::engine::failure::Failure;

/// May be repeated: the secret goes last.
pub async fn retire(attempt: &Attempt, plan: &Plan) -> Result<(), Failure> {
    let mut resources = plan.resources.clone();
    let mut account = None;
    for resource in &mut resources {
        let Spec::Database(spec) = &mut resource.spec else { continue };
        if let Some(fresh) = retire_password(spec) {
            *spec = fresh;
            account = Some(resource.clone());
        }
    }
    let Some(account) = account else { return Ok(()) };
    attempt.applier.ensure(&account, UNHEARD).await?;
    let (state, id) = (&attempt.site.state, attempt.site.instance.id);
    let mut conn = state.db.conn().await?;
    let generation = plans::next_generation(&conn, id).await?;
    let fresh = Plan::new(plan.subject.clone(), generation, Some(plan.hash()), resources);
    let tx = conn.transaction().await.map_err(DbError::from)?;
    plans::insert_plan(&tx, id, attempt.release, &fresh).await?;
    releases::move_serving(&tx, id, attempt.release, generation).await?;
    instances::delete_secret(&tx, id, OLD_PASSWORD).await?;
    Ok(tx.commit().await.map_err(DbError::from)?)
}
