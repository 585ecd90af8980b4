//! Certificates that operators give for their apps' domains. Keys are sealed.

use magrathea_core::api::CertificateInfo;
use magrathea_core::names::OrganisationId;

use super::people::OPERATOR;
use super::{Client, DbError, Row};
use crate::actor::Actor;
use crate::seal::Seal;

/// A certificate to store.
#[derive(Debug)]
pub struct NewCertificate<'a> {
    pub name: &'a str,
    /// PEM, leaf first.
    pub chain: &'a str,
    /// PEM.
    pub key: &'a str,
    pub subjects: &'a [String],
    pub expires: jiff::Timestamp,
}

fn place(name: &str) -> String {
    format!("certificate/{name}")
}

fn info(row: &Row) -> Result<CertificateInfo, DbError> {
    Ok(CertificateInfo { name: row.try_get(0)?, subjects: row.try_get(1)?, expires: row.try_get(2)? })
}

/// Stores a certificate; one of the same name is replaced.
pub async fn upsert_certificate(
    client: &impl Client,
    seal: &Seal,
    actor: &Actor,
    organisation: OrganisationId,
    new: &NewCertificate<'_>,
) -> anyhow::Result<CertificateInfo> {
    let sealed = seal.seal(&place(new.name), new.key.as_bytes())?;
    let row = client
        .query_one(
            "INSERT INTO certificates (name, chain, sealed_key, subjects, expires, person, organisation)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (name) DO UPDATE SET chain = excluded.chain, sealed_key = excluded.sealed_key,
                 subjects = excluded.subjects, expires = excluded.expires, updated = now(), person = excluded.person
             RETURNING name, subjects, expires",
            &[&new.name, &new.chain, &sealed, &new.subjects, &new.expires, &actor.person.0, &organisation.0],
        )
        .await?;
    Ok(info(&row)?)
}

/// A certificate and whose it is.
pub async fn load_certificate(
    client: &impl Client,
    name: &str,
) -> Result<Option<(CertificateInfo, OrganisationId)>, DbError> {
    let sql = "SELECT name, subjects, expires, organisation FROM certificates WHERE name = $1";
    let row = client.query_opt(sql, &[&name]).await?;
    row.map(|row| Ok((info(&row)?, OrganisationId(row.try_get(3)?)))).transpose()
}

/// All, by name, each with whose it is.
pub async fn list_certificates(client: &impl Client) -> Result<Vec<(CertificateInfo, OrganisationId)>, DbError> {
    let sql = "SELECT name, subjects, expires, organisation FROM certificates ORDER BY name";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((info(row)?, OrganisationId(row.try_get(3)?)))).collect()
}

/// Whether an organisation's apps may use a certificate: its own, or one of the operator's.
pub async fn may_use(client: &impl Client, name: &str, organisation: OrganisationId) -> Result<bool, DbError> {
    let sql = "SELECT FROM certificates c JOIN organisations o ON o.id = c.organisation
               WHERE c.name = $1 AND (o.id = $2 OR o.name = $3)";
    Ok(client.query_opt(sql, &[&name, &organisation.0, &OPERATOR]).await?.is_some())
}

/// The chain followed by the key, as a router wants it in one file.
pub async fn load_certificate_pem(client: &impl Client, seal: &Seal, name: &str) -> anyhow::Result<Option<String>> {
    let sql = "SELECT chain, sealed_key FROM certificates WHERE name = $1";
    let Some(row) = client.query_opt(sql, &[&name]).await? else { return Ok(None) };
    let key = String::from_utf8(seal.open(&place(name), row.try_get(1)?)?)?;
    Ok(Some(format!("{}\n{key}", row.try_get::<_, &str>(0)?.trim_end())))
}

/// Whether there was one to delete.
pub async fn delete_certificate(client: &impl Client, name: &str) -> Result<bool, DbError> {
    Ok(client.execute("DELETE FROM certificates WHERE name = $1", &[&name]).await? > 0)
}
