//! Teams of organisations.

use magrathea_core::api::TeamInfo;
use magrathea_core::names::{OrganisationId, PersonId, TeamId, TeamName};
use uuid::Uuid;

use super::{Client, DbError};

/// The constraint that a taken name violates.
pub const NAME_TAKEN: &str = "teams_name_key";

/// Violates [`NAME_TAKEN`] when the organisation has one of this name.
pub async fn insert_team(client: &impl Client, of: OrganisationId, name: &TeamName) -> Result<(), DbError> {
    let sql = "INSERT INTO teams (id, organisation, name) VALUES ($1, $2, $3)";
    client.execute(sql, &[&Uuid::now_v7(), &of.0, &name.as_str()]).await?;
    Ok(())
}

pub async fn find_team(client: &impl Client, of: OrganisationId, name: &str) -> Result<Option<TeamId>, DbError> {
    let row = client.query_opt("SELECT id FROM teams WHERE organisation = $1 AND name = $2", &[&of.0, &name]).await?;
    row.map(|row| Ok(TeamId(row.try_get(0)?))).transpose()
}

/// An organisation's teams, by name.
pub async fn list_teams(client: &impl Client, of: OrganisationId) -> Result<Vec<TeamInfo>, DbError> {
    let rows = client
        .query(
            "SELECT o.name, t.name,
                 ARRAY(SELECT p.name FROM team_members m JOIN people p ON p.id = m.person WHERE m.team = t.id ORDER BY 1)
             FROM teams t JOIN organisations o ON o.id = t.organisation WHERE o.id = $1 ORDER BY t.name",
            &[&of.0],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(TeamInfo { organisation: row.try_get(0)?, name: row.try_get(1)?, members: row.try_get(2)? }))
        .collect()
}

/// With its grants.
pub async fn delete_team(client: &impl Client, id: TeamId) -> Result<(), DbError> {
    client.execute("DELETE FROM team_members WHERE team = $1", &[&id.0]).await?;
    client.execute("DELETE FROM grants WHERE team = $1", &[&id.0]).await?;
    client.execute("DELETE FROM teams WHERE id = $1", &[&id.0]).await?;
    Ok(())
}

pub async fn insert_member(client: &impl Client, team: TeamId, person: PersonId) -> Result<(), DbError> {
    let sql = "INSERT INTO team_members (team, person) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&team.0, &person.0]).await?;
    Ok(())
}

pub async fn delete_member(client: &impl Client, team: TeamId, person: PersonId) -> Result<bool, DbError> {
    let sql = "DELETE FROM team_members WHERE team = $1 AND person = $2";
    Ok(client.execute(sql, &[&team.0, &person.0]).await? > 0)
}
