//! Teams: people who have their roles together.

use magrathea_core::api::{Ended, TeamInfo};
use magrathea_core::names::TeamName;
use magrathea_core::people::{Place, Verb};

use super::access::require_at;
use super::grants::{Administrators, no_team};
use super::members::{append, find_person};
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::organisations::Organisation;
use crate::db::{Client, grants, teams};
use crate::state::State;

async fn administered(client: &impl Client, actor: &Actor, organisation: &str) -> Result<Organisation, ApiError> {
    let organisation = find_organisation(client, actor, organisation).await?;
    require_at(actor, Verb::Administer, Place::Organisation(organisation.id), "the teams of this organisation")?;
    Ok(organisation)
}

/// An organisation's teams.
pub async fn list_teams(state: &State, actor: &Actor, organisation: &str) -> Result<Vec<TeamInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let organisation = find_organisation(&conn, actor, organisation).await?;
    require_at(actor, Verb::Look, Place::Organisation(organisation.id), "the teams of this organisation")?;
    Ok(teams::list_teams(&conn, organisation.id).await?)
}

/// Makes a team.
pub async fn create_team(state: &State, actor: &Actor, organisation: &str, name: &str) -> Result<TeamInfo, ApiError> {
    let name: TeamName = name.parse()?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = administered(&tx, actor, organisation).await?;
    teams::insert_team(&tx, organisation.id, &name).await.map_err(|error| {
        if error.violates(teams::NAME_TAKEN) {
            return ApiError::new(Code::NameTaken, format!("there is a team {name} already"));
        }
        error.into()
    })?;
    append(&tx, actor, "team.created", Some(organisation.id), &format!("the team {name} was made")).await?;
    tx.commit().await?;
    Ok(TeamInfo { organisation: organisation.name, name: name.into(), members: Vec::new() })
}

/// Takes a team with its roles away.
pub async fn remove_team(state: &State, actor: &Actor, organisation: &str, name: &str) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = administered(&tx, actor, organisation).await?;
    let team = teams::find_team(&tx, organisation.id, name).await?.ok_or_else(|| no_team(name))?;
    let administrators = Administrators::count(&tx, Some(organisation.id)).await?;
    teams::delete_team(&tx, team).await?;
    administrators.check(&tx).await?;
    append(&tx, actor, "team.removed", Some(organisation.id), &format!("the team {name} was removed")).await?;
    tx.commit().await?;
    drop(conn);
    Ok(Ended { doors: state.doors.look(state).await?, ..Ended::default() })
}

/// Makes a person a member. The roles of a team that reach beyond its organisation are given by those who have them to
/// give.
pub async fn add_member(
    state: &State,
    actor: &Actor,
    organisation: &str,
    name: &str,
    person: &str,
) -> Result<(), ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = administered(&tx, actor, organisation).await?;
    let team = teams::find_team(&tx, organisation.id, name).await?.ok_or_else(|| no_team(name))?;
    let person = find_person(&tx, actor, person).await?;
    if person.organisation != organisation.id {
        return Err(ApiError::new(Code::Forbidden, format!("{} is of another organisation", person.name)));
    }
    if grants::team_reaches_beyond(&tx, team, organisation.id).await? {
        require_at(actor, Verb::Administer, Place::Platform, "a team that has roles beyond its organisation")?;
    }
    teams::insert_member(&tx, team, person.id).await?;
    let message = format!("{} joined the team {name}", person.name);
    append(&tx, actor, "team.joined", Some(organisation.id), &message).await?;
    Ok(tx.commit().await?)
}

/// Takes a person out of a team; what they held open through it ends.
pub async fn remove_member(
    state: &State,
    actor: &Actor,
    organisation: &str,
    name: &str,
    person: &str,
) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = administered(&tx, actor, organisation).await?;
    let team = teams::find_team(&tx, organisation.id, name).await?.ok_or_else(|| no_team(name))?;
    let person = find_person(&tx, actor, person).await?;
    let administrators = Administrators::count(&tx, Some(organisation.id)).await?;
    if !teams::delete_member(&tx, team, person.id).await? {
        let message = format!("{} is not in the team {name}", person.name);
        return Err(ApiError::new(Code::PersonNotFound, message));
    }
    administrators.check(&tx).await?;
    let message = format!("{} left the team {name}", person.name);
    append(&tx, actor, "team.left", Some(organisation.id), &message).await?;
    tx.commit().await?;
    drop(conn);
    Ok(Ended { doors: state.doors.look(state).await?, ..Ended::default() })
}
