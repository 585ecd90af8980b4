//! The people of organisations, and the invitations to become one of them.

use magrathea_core::api::{InvitationInfo, PersonInfo};
use magrathea_core::names::{OrganisationId, PersonId, PersonName};
use magrathea_core::people::Grant;
use uuid::Uuid;

use super::{Client, DbError, Row};

/// The constraints that a taken name violates.
pub const NAME_TAKEN: &str = "people_name_key";
pub const INVITED: &str = "invitations_open_key";

/// A person as the store has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
    pub organisation: OrganisationId,
}

/// Violates [`NAME_TAKEN`] when there is one of this name.
pub async fn insert_person(
    client: &impl Client,
    organisation: OrganisationId,
    name: &PersonName,
    full_name: &str,
) -> Result<PersonId, DbError> {
    let id = Uuid::now_v7();
    let sql = "INSERT INTO people (id, organisation, name, full_name) VALUES ($1, $2, $3, $4)";
    client.execute(sql, &[&id, &organisation.0, &name.as_str(), &full_name]).await?;
    Ok(PersonId(id))
}

pub async fn load_person(client: &impl Client, name: &str) -> Result<Option<Person>, DbError> {
    let sql = "SELECT id, name, organisation FROM people WHERE name = $1 AND removed IS NULL";
    let row = client.query_opt(sql, &[&name]).await?;
    row.map(|row| {
        let (id, organisation) = (PersonId(row.try_get(0)?), OrganisationId(row.try_get(2)?));
        Ok(Person { id, name: row.try_get(1)?, organisation })
    })
    .transpose()
}

fn info(row: &Row) -> Result<PersonInfo, DbError> {
    let count = |i: usize| Ok::<u32, DbError>(row.try_get::<_, i64>(i)?.try_into().unwrap_or(u32::MAX));
    Ok(PersonInfo {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        full_name: row.try_get(2)?,
        organisation: row.try_get(3)?,
        teams: row.try_get(4)?,
        keys: count(5)?,
        tokens: count(6)?,
        sessions: count(7)?,
        last_seen: row.try_get(8)?,
        created: row.try_get(9)?,
    })
}

/// The people of some organisations, by organisation and name; of all when none are given.
pub async fn list_people(
    client: &impl Client,
    of: Option<&[OrganisationId]>,
    name: Option<&str>,
) -> Result<Vec<PersonInfo>, DbError> {
    let of: Option<Vec<Uuid>> = of.map(|of| of.iter().map(|id| id.0).collect());
    let rows = client
        .query(
            "SELECT p.id, p.name, p.full_name, o.name,
                 ARRAY(SELECT t.name FROM team_members m JOIN teams t ON t.id = m.team WHERE m.person = p.id ORDER BY 1),
                 (SELECT count(*) FROM ssh_keys k WHERE k.person = p.id),
                 (SELECT count(*) FROM tokens t WHERE t.person = p.id AND t.kind = 'token'
                     AND (t.expires IS NULL OR t.expires > now())),
                 (SELECT count(*) FROM tokens t WHERE t.person = p.id AND t.kind = 'session' AND t.expires > now()),
                 greatest((SELECT max(last_used) FROM ssh_keys k WHERE k.person = p.id),
                     (SELECT max(last_used) FROM tokens t WHERE t.person = p.id)),
                 p.created
             FROM people p JOIN organisations o ON o.id = p.organisation
             WHERE p.removed IS NULL AND ($1::uuid[] IS NULL OR o.id = ANY($1)) AND ($2::text IS NULL OR p.name = $2)
             ORDER BY o.name, p.name",
            &[&of, &name],
        )
        .await?;
    rows.iter().map(info).collect()
}

/// What a person had when they were removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Had {
    pub keys: u64,
    pub tokens: u64,
    pub sessions: u64,
}

/// Takes everything from a person, and their name for somebody else to have. What they did stays on the timeline.
pub async fn remove_person(client: &impl Client, id: PersonId) -> Result<Had, DbError> {
    let keys = client.execute("DELETE FROM ssh_keys WHERE person = $1", &[&id.0]).await?;
    let tokens = client.execute("DELETE FROM tokens WHERE person = $1 AND kind = 'token'", &[&id.0]).await?;
    let sessions = client.execute("DELETE FROM tokens WHERE person = $1", &[&id.0]).await?;
    client.execute("DELETE FROM invitations WHERE invited_by = $1 AND used IS NULL", &[&id.0]).await?;
    client.execute("DELETE FROM grants WHERE person = $1", &[&id.0]).await?;
    client.execute("DELETE FROM team_members WHERE person = $1", &[&id.0]).await?;
    client.execute("UPDATE people SET removed = now() WHERE id = $1 AND removed IS NULL", &[&id.0]).await?;
    Ok(Had { keys, tokens, sessions })
}

/// An invitation to store.
#[derive(Debug)]
pub struct NewInvitation<'a> {
    pub hash: &'a [u8; 32],
    pub organisation: OrganisationId,
    pub name: &'a PersonName,
    pub grants: &'a [Grant],
    pub invited_by: PersonId,
    pub days: i32,
}

/// Violates [`INVITED`] when somebody of this name is invited already; expired ones are in nobody's way.
pub async fn insert_invitation(client: &impl Client, new: &NewInvitation<'_>) -> Result<Uuid, DbError> {
    client.execute("DELETE FROM invitations WHERE used IS NULL AND expires < now()", &[]).await?;
    let grants = serde_json::to_value(new.grants).map_err(|e| DbError::value("invitations.grants", e))?;
    let id = Uuid::now_v7();
    client
        .execute(
            "INSERT INTO invitations (id, hash, organisation, name, grants, invited_by, expires)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))",
            &[
                &id,
                &new.hash.as_slice(),
                &new.organisation.0,
                &new.name.as_str(),
                &grants,
                &new.invited_by.0,
                &new.days,
            ],
        )
        .await?;
    Ok(id)
}

/// An organisation's open invitations.
pub async fn list_invitations(client: &impl Client, of: OrganisationId) -> Result<Vec<InvitationInfo>, DbError> {
    let rows = client
        .query(
            "SELECT i.id, i.name, o.name, p.name, i.expires FROM invitations i
             JOIN organisations o ON o.id = i.organisation JOIN people p ON p.id = i.invited_by
             WHERE i.organisation = $1 AND i.used IS NULL AND i.expires > now() ORDER BY i.name",
            &[&of.0],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(InvitationInfo {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                organisation: row.try_get(2)?,
                invited_by: row.try_get(3)?,
                expires: row.try_get(4)?,
            })
        })
        .collect()
}

pub async fn delete_invitation(client: &impl Client, of: OrganisationId, id: Uuid) -> Result<bool, DbError> {
    let sql = "DELETE FROM invitations WHERE id = $1 AND organisation = $2 AND used IS NULL";
    Ok(client.execute(sql, &[&id, &of.0]).await? > 0)
}

/// An invitation that was just used up.
#[derive(Debug)]
pub struct Invitation {
    pub organisation: OrganisationId,
    pub name: String,
    pub grants: Vec<Grant>,
    pub invited_by: PersonId,
}

/// Uses up an invitation, in a transaction of the caller's; none when it is unknown, used or expired.
pub async fn use_invitation(client: &impl Client, hash: &[u8; 32]) -> Result<Option<Invitation>, DbError> {
    let row = client
        .query_opt(
            "UPDATE invitations SET used = now() WHERE hash = $1 AND used IS NULL AND expires > now()
             RETURNING organisation, name, grants, invited_by",
            &[&hash.as_slice()],
        )
        .await?;
    row.map(|row| {
        let grants: serde_json::Value = row.try_get(2)?;
        Ok(Invitation {
            organisation: OrganisationId(row.try_get(0)?),
            name: row.try_get(1)?,
            grants: serde_json::from_value(grants).map_err(|e| DbError::value("invitations.grants", e))?,
            invited_by: PersonId(row.try_get(3)?),
        })
    })
    .transpose()
}
