//! Organisations: the operator's customers, and the operator.

use magrathea_core::api::OrganisationInfo;
use magrathea_core::names::OrganisationName;
use magrathea_core::people::{Place, Verb};

use super::access::require_at;
use super::members::append;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::organisations::{self, Organisation};
use crate::db::people::OPERATOR;
use crate::state::State;

/// The organisation of this name; to somebody who may not see it, there is none.
pub async fn find_organisation(client: &impl Client, actor: &Actor, name: &str) -> Result<Organisation, ApiError> {
    let found = organisations::load_organisation(client, name).await?;
    let visible = |organisation: &Organisation| {
        organisation.id == actor.organisation || actor.access.sees(Place::Organisation(organisation.id))
    };
    found.filter(visible).ok_or_else(|| {
        ApiError::new(Code::OrganisationNotFound, format!("there is no organisation {name}"))
            .with_hint("td org list lists yours")
    })
}

/// Whether these are the people who run the platform.
pub fn is_operator(organisation: &Organisation) -> bool {
    organisation.name == OPERATOR
}

/// An organisation with how much it has.
pub async fn describe(client: &impl Client, organisation: Organisation) -> Result<OrganisationInfo, ApiError> {
    let (apps, people, teams) = organisations::count(client, organisation.id).await?;
    let Organisation { id, name, created } = organisation;
    Ok(OrganisationInfo { id: id.0, name, apps, people, teams, created })
}

/// Makes an organisation.
pub async fn create_organisation(
    state: &State,
    actor: &Actor,
    name: &OrganisationName,
) -> Result<OrganisationInfo, ApiError> {
    require_at(actor, Verb::Administer, Place::Platform, "the organisations")?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let made = organisations::insert_organisation(&tx, name).await.map_err(|error| {
        if error.violates(organisations::NAME_TAKEN) {
            return ApiError::new(Code::NameTaken, format!("there is an organisation {name} already"));
        }
        error.into()
    })?;
    append(&tx, actor, "organisation.created", Some(made.id), &format!("the organisation {name} was made")).await?;
    tx.commit().await?;
    describe(&conn, made).await
}
