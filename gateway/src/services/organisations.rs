//! Organisations: the operator's customers, and the operator.

use magrathea_core::people::{Place, Verb};

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::organisations::{self, Organisation};
use crate::db::people::OPERATOR;

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

/// Refuses those who may not run the platform itself.
pub fn require_platform(actor: &Actor, verb: Verb, what: &str) -> Result<(), ApiError> {
    super::access::require_at(actor, verb, Place::Platform, what)
}
