//! Organisations, people and what they prove themselves with.

use std::sync::Arc;

use magrathea_core::names::{AppId, KeyId, OrganisationId, PersonId, TokenId};
use magrathea_core::people::{Access, Grant, Role, Scope};
use serde::Deserialize;
use uuid::Uuid;

use super::grants::scope;
use super::{Client, DbError, Row};
use crate::actor::{Actor, Credential};

/// The organisation of those who run the platform.
pub const OPERATOR: &str = "operator";

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// Makes the organisation `operator` and its person `admin`, who may do everything, unless they exist.
pub async fn ensure_admin(client: &impl Client) -> Result<Actor, DbError> {
    client
        .execute(
            "INSERT INTO organisations (id, name) VALUES ($1, $2) ON CONFLICT (name) WHERE removed IS NULL DO NOTHING",
            &[&Uuid::now_v7(), &OPERATOR],
        )
        .await?;
    let row = client
        .query_one(
            "INSERT INTO people (id, organisation, name)
                 SELECT $1, id, $3 FROM organisations WHERE name = $2 AND removed IS NULL
             ON CONFLICT (name) WHERE removed IS NULL DO UPDATE SET name = excluded.name RETURNING id, organisation",
            &[&Uuid::now_v7(), &OPERATOR, &ADMIN],
        )
        .await?;
    let person: Uuid = row.try_get(0)?;
    client
        .execute(
            "INSERT INTO grants (id, person, role) VALUES ($1, $2, 'administrator')
             ON CONFLICT ON CONSTRAINT grants_key DO NOTHING",
            &[&Uuid::now_v7(), &person],
        )
        .await?;
    let grants = vec![Grant { role: Role::Administrator, scope: Scope::Platform }];
    Ok(Actor {
        person: PersonId(person),
        name: ADMIN.to_owned(),
        organisation: OrganisationId(row.try_get(1)?),
        credential: Credential::Local,
        address: None,
        access: Arc::new(Access { grants, limits: None }),
    })
}

/// What a person may: their own grants, those of their teams, and what is shared with their organisation.
macro_rules! grants_of {
    ($person:literal) => {
        concat!(
            "COALESCE((SELECT jsonb_agg(jsonb_build_object('role', g.role, 'organisation', g.organisation, 'app', g.app,
                     'label', g.label, 'shared', g.shared_with IS NOT NULL))
                 FROM grants g WHERE g.person = ",
            $person,
            ".id OR g.team IN (SELECT m.team FROM team_members m WHERE m.person = ",
            $person,
            ".id) OR g.shared_with = ",
            $person,
            ".organisation), '[]')"
        )
    };
}

#[derive(Deserialize)]
struct Granted {
    role: Role,
    organisation: Option<Uuid>,
    app: Option<Uuid>,
    label: Option<String>,
    shared: bool,
}

/// What is shared with an organisation is had by its people as far as each of them may the same at home.
fn resolve(home: OrganisationId, granted: Vec<Granted>) -> Result<Vec<Grant>, DbError> {
    let mut own = Vec::new();
    let mut shared = Vec::new();
    for Granted { role, organisation, app, label, shared: is_shared } in granted {
        let scope = scope((organisation.map(OrganisationId), app.map(AppId)), label.as_deref())?;
        if is_shared { &mut shared } else { &mut own }.push(Grant { role, scope });
    }
    let at_home: Vec<Role> =
        own.iter().filter(|grant| grant.scope == Scope::Organisation(home)).map(|grant| grant.role).collect();
    for Grant { role, scope } in shared {
        let met = at_home.iter().filter_map(|at_home| at_home.meet(role));
        own.extend(met.map(|role| Grant { role, scope: scope.clone() }));
    }
    Ok(own)
}

fn actor(row: &Row, credential: Credential, limits: Option<serde_json::Value>) -> Result<Actor, DbError> {
    let organisation = OrganisationId(row.try_get(2)?);
    let granted: serde_json::Value = row.try_get(3)?;
    let granted = serde_json::from_value(granted).map_err(|e| DbError::value("grants", e))?;
    let limits = limits
        .map(|limits| serde_json::from_value(limits).map_err(|e| DbError::value("tokens.limits", e)))
        .transpose()?;
    Ok(Actor {
        person: PersonId(row.try_get(0)?),
        name: row.try_get(1)?,
        organisation,
        credential,
        address: None,
        access: Arc::new(Access { grants: resolve(organisation, granted)?, limits }),
    })
}

/// Days for which a session is good after its last use.
pub const SESSION_DAYS: i32 = 30;

/// Whose token this is; none when it is unknown or expired, or its person is gone. Notes its use, at most once a minute,
/// which keeps a session alive.
pub async fn load_actor(client: &impl Client, hash: &[u8; 32]) -> Result<Option<Actor>, DbError> {
    let statement = client
        .prepare_cached(concat!(
            "WITH used AS (
                 UPDATE tokens SET last_used = now(),
                     expires = CASE kind WHEN 'session' THEN now() + make_interval(days => $2) ELSE expires END
                 WHERE hash = $1 AND (last_used IS NULL OR last_used < now() - interval '1 minute')
                     AND (expires IS NULL OR expires > now()))
             SELECT p.id, p.name, p.organisation, ",
            grants_of!("p"),
            ", t.id, t.limits FROM tokens t JOIN people p ON p.id = t.person JOIN organisations o ON o.id = p.organisation
             WHERE t.hash = $1 AND (t.expires IS NULL OR t.expires > now()) AND p.removed IS NULL AND o.removed IS NULL"
        ))
        .await?;
    let row = client.query_opt(&statement, &[&hash.as_slice(), &SESSION_DAYS]).await?;
    row.map(|row| actor(&row, Credential::Token(TokenId(row.try_get(4)?)), row.try_get(5)?)).transpose()
}

/// Whose SSH key this is, in the OpenSSH form without a comment. Notes its use, at most once a minute.
pub async fn load_actor_of_key(client: &impl Client, public: &str) -> Result<Option<Actor>, DbError> {
    let statement = client
        .prepare_cached(concat!(
            "WITH used AS (
                 UPDATE ssh_keys SET last_used = now()
                 WHERE public = $1 AND (last_used IS NULL OR last_used < now() - interval '1 minute'))
             SELECT p.id, p.name, p.organisation, ",
            grants_of!("p"),
            ", k.id FROM ssh_keys k JOIN people p ON p.id = k.person JOIN organisations o ON o.id = p.organisation
             WHERE k.public = $1 AND p.removed IS NULL AND o.removed IS NULL"
        ))
        .await?;
    let row = client.query_opt(&statement, &[&public]).await?;
    row.map(|row| actor(&row, Credential::Key(KeyId(row.try_get(4)?)), None)).transpose()
}

/// The actor as they are now; none when the credential or the person is gone.
pub async fn reload_actor(client: &impl Client, old: &Actor) -> Result<Option<Actor>, DbError> {
    let (sql, id) = match old.credential {
        Credential::Local => return Ok(Some(old.clone())),
        Credential::Token(id) => (
            concat!(
                "SELECT p.id, p.name, p.organisation, ",
                grants_of!("p"),
                ", t.limits FROM tokens t JOIN people p ON p.id = t.person JOIN organisations o ON o.id = p.organisation
                 WHERE t.id = $1 AND (t.expires IS NULL OR t.expires > now())
                     AND p.removed IS NULL AND o.removed IS NULL"
            ),
            id.0,
        ),
        Credential::Key(id) => (
            concat!(
                "SELECT p.id, p.name, p.organisation, ",
                grants_of!("p"),
                ", NULL::jsonb FROM ssh_keys k JOIN people p ON p.id = k.person
                 JOIN organisations o ON o.id = p.organisation
                 WHERE k.id = $1 AND p.removed IS NULL AND o.removed IS NULL"
            ),
            id.0,
        ),
    };
    let statement = client.prepare_cached(sql).await?;
    let row = client.query_opt(&statement, &[&id]).await?;
    let fresh = row.map(|row| actor(&row, old.credential, row.try_get(4)?)).transpose()?;
    Ok(fresh.map(|actor| Actor { address: old.address, ..actor }))
}

/// What a person may now; none when they are gone.
pub async fn load_access(client: &impl Client, person: PersonId) -> Result<Option<Access>, DbError> {
    let sql = concat!(
        "SELECT p.id, p.name, p.organisation, ",
        grants_of!("p"),
        " FROM people p JOIN organisations o ON o.id = p.organisation
         WHERE p.id = $1 AND p.removed IS NULL AND o.removed IS NULL"
    );
    let row = client.query_opt(sql, &[&person.0]).await?;
    row.map(|row| Ok(actor(&row, Credential::Local, None)?.access.as_ref().clone())).transpose()
}

/// Rises with every change of who may do what.
pub async fn load_access_version(client: &impl Client) -> Result<i64, DbError> {
    Ok(client.query_one("SELECT version FROM access_state", &[]).await?.try_get(0)?)
}
