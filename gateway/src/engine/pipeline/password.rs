//! The end of a rotated database password: once no release that knows the former one runs, the account forgets it.

use magrathea_core::plan::{Plan, Spec};
use magrathea_layers::{OLD_PASSWORD, PASSWORD};

use super::Attempt;
use crate::db::instances;
use crate::engine::apply::{Applier, UNHEARD};
use crate::engine::failure::Failure;

/// May be repeated: the secret goes last.
pub async fn retire(attempt: &Attempt, plan: &Plan) -> Result<(), Failure> {
    let (state, id) = (&attempt.site.state, attempt.site.instance.id);
    let stored = async |key| instances::load_secret(&state.db.conn().await?, &state.seal, id, key).await;
    let Some(old) = stored(OLD_PASSWORD).await? else { return Ok(()) };
    let laid = &attempt.applier.secrets;
    // A deploy that began before the rotation runs on the former password: the next one retires it.
    if laid.get(OLD_PASSWORD) != Some(&old) || laid.get(PASSWORD) != stored(PASSWORD).await?.as_ref() {
        return Ok(());
    }
    let mut secrets = laid.clone();
    if let Some(password) = laid.get(PASSWORD) {
        secrets.insert(OLD_PASSWORD.to_owned(), password.clone());
    }
    let applier = Applier { secrets, ..attempt.applier.clone() };
    for account in plan.resources.iter().filter(|resource| matches!(resource.spec, Spec::Database(_))) {
        applier.ensure(account, UNHEARD).await?;
    }
    Ok(instances::delete_secret(&state.db.conn().await?, id, OLD_PASSWORD).await?)
}
