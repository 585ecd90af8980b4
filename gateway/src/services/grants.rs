//! Who gives which role to whom. One gives only what one has to give: administrators of a place give roles there.

use magrathea_core::api::{AddGrant, Ended, GrantInfo, GrantSpec, Holder};
use magrathea_core::names::{AppName, OrganisationId};
use magrathea_core::people::{Grant, Place, Scope, Verb};
use uuid::Uuid;

use super::access::{Reach, find_app, require, require_at};
use super::members::{append, find_person};
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::grants::{self, Given, Subject};
use crate::db::{Client, organisations, teams};
use crate::state::State;

/// A scope by the names in a request, and whose it is. Refused to those who do not administer it.
pub async fn resolve(
    client: &impl Client,
    actor: &Actor,
    spec: &GrantSpec,
) -> Result<(Grant, Option<OrganisationId>), ApiError> {
    let (scope, owner) = resolve_for(client, actor, spec, Verb::Administer).await?;
    Ok((Grant { role: spec.role, scope }, owner))
}

/// A scope by the names in a request, and whose it is; refused to those who may not do this there.
pub async fn resolve_for(
    client: &impl Client,
    actor: &Actor,
    spec: &GrantSpec,
    verb: Verb,
) -> Result<(Scope, Option<OrganisationId>), ApiError> {
    let invalid = |message: &str| ApiError::new(Code::BodyInvalid, message);
    match (&spec.organisation, &spec.app, &spec.label) {
        (None, None, None) => {
            require_at(actor, verb, Place::Platform, "the platform")?;
            Ok((Scope::Platform, None))
        }
        (Some(name), None, None) => {
            let organisation = find_organisation(client, actor, name).await?;
            let place = Place::Organisation(organisation.id);
            require_at(actor, verb, place, &format!("the organisation {name}"))?;
            Ok((Scope::Organisation(organisation.id), Some(organisation.id)))
        }
        (None, Some(name), label) => {
            let name: AppName = name.parse()?;
            let app = find_app(client, actor, &name, verb, Reach::Some).await?;
            let scope = match label {
                Some(label) => Scope::of_labels(app.id, label)?,
                None => Scope::App(app.id),
            };
            let reach = match &scope {
                Scope::Label(_, label) => Reach::Label(label),
                Scope::Labels(_, pattern) => Reach::Labels(pattern),
                _ => Reach::Whole,
            };
            require(actor, &app, verb, reach)?;
            Ok((scope, Some(app.organisation_id)))
        }
        (_, None, Some(_)) => Err(invalid("a label needs its app")),
        (Some(_), Some(_), _) => Err(invalid("a role holds on an organisation or an app, not on both")),
    }
}

/// Gives a role.
pub async fn add_grant(state: &State, actor: &Actor, body: &AddGrant) -> Result<GrantInfo, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let (grant, owner) = resolve(&tx, actor, &body.grant).await?;
    let subject = find_subject(&tx, actor, &body.to, &grant, owner).await?;
    let id = grants::insert_grant(&tx, subject, &grant).await?;
    let message = format!("{} became {}", body.to, body.grant);
    append(&tx, actor, "grant.added", owner, &message).await?;
    tx.commit().await?;
    let given = grants::load_grant(&conn, id).await?;
    given.map(|given| given.info).ok_or_else(|| ApiError::internal(anyhow::anyhow!("the grant vanished")))
}

/// People and teams of the place's own organisation; for others, an app is shared with their organisation, and who of
/// them has it there is their own administrators' matter.
async fn find_subject(
    client: &impl Client,
    actor: &Actor,
    to: &Holder,
    grant: &Grant,
    owner: Option<OrganisationId>,
) -> Result<Subject, ApiError> {
    let everywhere = actor.may(Verb::Administer, Place::Platform);
    match (&to.person, &to.team, &to.organisation) {
        (Some(name), None, None) => {
            let person = find_person(client, actor, name).await?;
            if !everywhere && owner != Some(person.organisation) {
                return Err(ApiError::new(Code::Forbidden, format!("{name} is of another organisation"))
                    .with_hint("share the app with their organisation, whose administrators decide who has it"));
            }
            Ok(Subject::Person(person.id))
        }
        (None, Some(path), None) => {
            let (organisation, name) = path.split_once('/').ok_or_else(|| {
                ApiError::new(Code::BodyInvalid, format!("{path:?} is not a team; write ORGANISATION/TEAM"))
            })?;
            let organisation = find_organisation(client, actor, organisation).await?;
            let team = teams::find_team(client, organisation.id, name).await?.ok_or_else(|| no_team(name))?;
            if !everywhere && owner != Some(organisation.id) {
                return Err(ApiError::new(Code::Forbidden, format!("the team {path} is of another organisation")));
            }
            Ok(Subject::Team(team))
        }
        (None, None, Some(name)) => {
            if !matches!(grant.scope, Scope::App(_) | Scope::Label(..) | Scope::Labels(..)) {
                return Err(ApiError::new(Code::BodyInvalid, "only an app or a label of one is shared"));
            }
            let with = organisations::load_organisation(client, name)
                .await?
                .ok_or_else(|| ApiError::new(Code::OrganisationNotFound, format!("there is no organisation {name}")))?;
            if Some(with.id) == owner {
                return Err(ApiError::new(Code::BodyInvalid, format!("the app is {name}'s own"))
                    .with_hint("give the role to a person or a team"));
            }
            Ok(Subject::Organisation(with.id))
        }
        _ => Err(ApiError::new(Code::BodyInvalid, "name exactly one of person, team and organisation")),
    }
}

/// The error that there is no such team.
pub fn no_team(name: &str) -> ApiError {
    ApiError::new(Code::TeamNotFound, format!("there is no team {name}")).with_hint("td team list lists them")
}

fn place(given: &Given) -> Option<Place<'_>> {
    match (&given.scope, given.organisation) {
        (Scope::Platform, _) => Some(Place::Platform),
        (Scope::Organisation(id), _) => Some(Place::Organisation(*id)),
        (Scope::App(app), Some(organisation)) => Some(Place::App { organisation, app: *app }),
        (Scope::Label(app, label), Some(organisation)) => Some(Place::Label { organisation, app: *app, label }),
        (Scope::Labels(app, pattern), Some(organisation)) => Some(Place::Labels { organisation, app: *app, pattern }),
        _ => None,
    }
}

/// The roles that one may see: one's own, and those on what one administers.
pub async fn list_grants(state: &State, actor: &Actor) -> Result<Vec<GrantInfo>, ApiError> {
    let all = grants::list_grants(&state.db.conn().await?).await?;
    let visible = all.into_iter().filter(|given| {
        given.info.to.person.as_ref() == Some(&actor.name)
            || place(given).is_some_and(|place| actor.may(Verb::Administer, place))
    });
    Ok(visible.map(|given| given.info).collect())
}

/// Takes a role back; what is held open through it ends.
pub async fn remove_grant(state: &State, actor: &Actor, id: Uuid) -> Result<Ended, ApiError> {
    let not_found = || ApiError::new(Code::GrantNotFound, "there is no such grant");
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let given = grants::load_grant(&tx, id).await?.ok_or_else(not_found)?;
    let own = given.info.to.person.as_ref() == Some(&actor.name);
    let at = place(&given).ok_or_else(not_found)?;
    if !actor.may(Verb::Administer, at) {
        let error = require_at(actor, Verb::Administer, at, &format!("who is {}", given.info.grant));
        return if own { error.map(|()| Ended::default()) } else { Err(not_found()) };
    }
    let of = match given.scope {
        Scope::Organisation(id) => Some(id),
        _ => given.organisation,
    };
    let administrators = Administrators::count(&tx, of).await?;
    grants::delete_grant(&tx, id).await?;
    administrators.check(&tx).await?;
    let message = format!("{} is no longer {}", given.info.to, given.info.grant);
    append(&tx, actor, "grant.removed", of, &message).await?;
    tx.commit().await?;
    drop(conn);
    Ok(Ended { doors: state.doors.look(state).await?, ..Ended::default() })
}

/// How many administer the platform and an organisation: none of the two may come to have nobody.
pub struct Administrators {
    organisation: Option<OrganisationId>,
    platform: i64,
    own: i64,
}

impl Administrators {
    /// Counts them, and holds such changes by others to the end of the transaction.
    pub async fn count(client: &impl Client, organisation: Option<OrganisationId>) -> Result<Self, ApiError> {
        grants::lock_administrators(client).await?;
        let own = match organisation {
            Some(_) => grants::count_administrators(client, organisation).await?,
            None => 0,
        };
        Ok(Administrators { organisation, platform: grants::count_administrators(client, None).await?, own })
    }

    /// Refuses a change after which nobody is left.
    pub async fn check(&self, client: &impl Client) -> Result<(), ApiError> {
        let last = |what: &str| {
            ApiError::new(Code::LastAdministrator, format!("{what} would have no administrator left"))
                .with_hint("make somebody else administrator there first: td grant add administrator PERSON with --org or --platform")
        };
        if self.platform > 0 && grants::count_administrators(client, None).await? == 0 {
            return Err(last("the platform"));
        }
        if self.own > 0 && grants::count_administrators(client, self.organisation).await? == 0 {
            return Err(last("the organisation"));
        }
        Ok(())
    }
}

/// A grant in words that its holder understands.
pub async fn describe(client: &impl Client, grant: &Grant) -> Result<String, ApiError> {
    let mut spec = GrantSpec { role: grant.role, organisation: None, app: None, label: None };
    match &grant.scope {
        Scope::Platform => {}
        Scope::Organisation(id) => spec.organisation = organisations::load_name(client, *id).await?,
        Scope::App(id) => spec.app = Some(name_of(client, *id).await?),
        Scope::Label(id, label) => {
            spec.app = Some(name_of(client, *id).await?);
            spec.label = Some(label.to_string());
        }
        Scope::Labels(id, pattern) => {
            spec.app = Some(name_of(client, *id).await?);
            spec.label = Some(pattern.to_string());
        }
    }
    Ok(spec.to_string())
}

async fn name_of(client: &impl Client, id: magrathea_core::names::AppId) -> Result<String, ApiError> {
    Ok(crate::db::apps::load_name(client, id).await?.unwrap_or_else(|| "a destroyed app".to_owned()))
}
