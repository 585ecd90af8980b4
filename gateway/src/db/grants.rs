//! Who has which role where.

use magrathea_core::api::{GrantInfo, GrantSpec, Holder};
use magrathea_core::names::{AppId, OrganisationId, PersonId, TeamId};
use magrathea_core::people::{Grant, Role, Scope};
use uuid::Uuid;

use super::{Client, DbError, Row};

/// Who gets a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Person(PersonId),
    Team(TeamId),
    /// An app is shared with it.
    Organisation(OrganisationId),
}

/// A grant as the store has it.
#[derive(Debug)]
pub struct Given {
    pub scope: Scope,
    /// The app's organisation, where the scope is one.
    pub organisation: Option<OrganisationId>,
    pub info: GrantInfo,
}

const SELECT: &str = "SELECT g.id, g.role, g.organisation, g.app, g.label, g.created, p.name, ot.name || '/' || t.name,
         s.name, o.name, a.name, a.organisation
     FROM grants g LEFT JOIN people p ON p.id = g.person LEFT JOIN teams t ON t.id = g.team
     LEFT JOIN organisations ot ON ot.id = t.organisation LEFT JOIN organisations s ON s.id = g.shared_with
     LEFT JOIN organisations o ON o.id = g.organisation LEFT JOIN apps a ON a.id = g.app
     WHERE (g.app IS NULL OR a.destroyed IS NULL)";

/// Where a role holds, from its columns.
pub(super) fn scope(
    (organisation, app): (Option<OrganisationId>, Option<AppId>),
    label: Option<&str>,
) -> Result<Scope, DbError> {
    Ok(match (organisation, app, label) {
        (Some(organisation), _, _) => Scope::Organisation(organisation),
        (None, Some(app), None) => Scope::App(app),
        (None, Some(app), Some(label)) => {
            Scope::of_labels(app, label).map_err(|e| DbError::value("grants.label", e))?
        }
        (None, None, _) => Scope::Platform,
    })
}

fn given(row: &Row) -> Result<Given, DbError> {
    let role: String = row.try_get(1)?;
    let role: Role = role.parse().map_err(|e| DbError::value("grants.role", e))?;
    let (organisation, app): (Option<Uuid>, Option<Uuid>) = (row.try_get(2)?, row.try_get(3)?);
    let label: Option<String> = row.try_get(4)?;
    let scope = scope((organisation.map(OrganisationId), app.map(AppId)), label.as_deref())?;
    let of_app: Option<Uuid> = row.try_get(11)?;
    Ok(Given {
        scope,
        organisation: of_app.map(OrganisationId),
        info: GrantInfo {
            id: row.try_get(0)?,
            to: Holder { person: row.try_get(6)?, team: row.try_get(7)?, organisation: row.try_get(8)? },
            grant: GrantSpec { role, organisation: row.try_get(9)?, app: row.try_get(10)?, label },
            created: row.try_get(5)?,
        },
    })
}

/// Gives a role; one that was given already is kept. Tells its id.
pub async fn insert_grant(client: &impl Client, to: Subject, grant: &Grant) -> Result<Uuid, DbError> {
    let (person, team, shared) = match to {
        Subject::Person(id) => (Some(id.0), None, None),
        Subject::Team(id) => (None, Some(id.0), None),
        Subject::Organisation(id) => (None, None, Some(id.0)),
    };
    let (organisation, app, label) = match &grant.scope {
        Scope::Platform => (None, None, None),
        Scope::Organisation(id) => (Some(id.0), None, None),
        Scope::App(id) => (None, Some(id.0), None),
        Scope::Label(id, label) => (None, Some(id.0), Some(label.to_string())),
        Scope::Labels(id, pattern) => (None, Some(id.0), Some(pattern.to_string())),
    };
    let row = client
        .query_one(
            "INSERT INTO grants (id, person, team, shared_with, role, organisation, app, label)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT ON CONSTRAINT grants_key DO UPDATE SET role = excluded.role RETURNING id",
            &[&Uuid::now_v7(), &person, &team, &shared, &grant.role.as_str(), &organisation, &app, &label],
        )
        .await?;
    Ok(row.try_get(0)?)
}

pub async fn load_grant(client: &impl Client, id: Uuid) -> Result<Option<Given>, DbError> {
    client.query_opt(&format!("{SELECT} AND g.id = $1"), &[&id]).await?.as_ref().map(given).transpose()
}

/// All, the widest first.
pub async fn list_grants(client: &impl Client) -> Result<Vec<Given>, DbError> {
    let sql = format!(
        "{SELECT} ORDER BY (g.organisation IS NULL AND g.app IS NULL) DESC, o.name NULLS LAST, a.name,
         g.label NULLS FIRST, p.name, t.name, s.name, g.role"
    );
    client.query(&sql, &[]).await?.iter().map(given).collect()
}

pub async fn delete_grant(client: &impl Client, id: Uuid) -> Result<(), DbError> {
    client.execute("DELETE FROM grants WHERE id = $1", &[&id]).await?;
    Ok(())
}

/// How many people administer the platform, or an organisation, who can also log in.
pub async fn count_administrators(client: &impl Client, of: Option<OrganisationId>) -> Result<i64, DbError> {
    let row = client
        .query_one(
            "SELECT count(DISTINCT p.id) FROM people p JOIN organisations o ON o.id = p.organisation JOIN grants g
                 ON g.person = p.id OR g.team IN (SELECT m.team FROM team_members m WHERE m.person = p.id)
             WHERE p.removed IS NULL AND o.removed IS NULL AND g.role = 'administrator'
                 AND g.organisation IS NOT DISTINCT FROM $1 AND g.app IS NULL",
            &[&of.map(|id| id.0)],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Whether a person has roles outside of their organisation.
pub async fn person_reaches_beyond(
    client: &impl Client,
    person: PersonId,
    own: OrganisationId,
) -> Result<bool, DbError> {
    let sql = "SELECT FROM grants g LEFT JOIN apps a ON a.id = g.app
               WHERE (g.person = $1 OR g.team IN (SELECT m.team FROM team_members m WHERE m.person = $1))
                   AND COALESCE(g.organisation, a.organisation) IS DISTINCT FROM $2 LIMIT 1";
    Ok(client.query_opt(sql, &[&person.0, &own.0]).await?.is_some())
}

/// Whether a team has roles outside of its organisation.
pub async fn team_reaches_beyond(client: &impl Client, team: TeamId, own: OrganisationId) -> Result<bool, DbError> {
    let sql = "SELECT FROM grants g LEFT JOIN apps a ON a.id = g.app
               WHERE g.team = $1 AND COALESCE(g.organisation, a.organisation) IS DISTINCT FROM $2 LIMIT 1";
    Ok(client.query_opt(sql, &[&team.0, &own.0]).await?.is_some())
}

/// Changes of who administers what go one after another, to the end of the caller's transaction: two administrators
/// cannot remove each other at once.
pub async fn lock_administrators(client: &impl Client) -> Result<(), DbError> {
    client.execute("SELECT pg_advisory_xact_lock(1835102066)", &[]).await?;
    Ok(())
}
