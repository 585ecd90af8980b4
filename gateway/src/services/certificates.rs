//! Certificates for apps' domains.

use magrathea_core::api::CertificateInfo;
use magrathea_core::names::OrganisationId;
use magrathea_core::people::{Place, Verb};

use super::access::require_at;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::certificates::{self, NewCertificate};
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, Db};
use crate::pki::CheckedChain;
use crate::seal::Seal;

/// Stores a certificate; one of the same name is replaced.
pub async fn store_certificate(
    db: &Db,
    seal: &Seal,
    actor: &Actor,
    name: &str,
    checked: &CheckedChain,
) -> Result<CertificateInfo, ApiError> {
    let new = NewCertificate {
        name,
        chain: &checked.chain,
        key: &checked.key,
        subjects: &checked.subjects,
        expires: checked.expires,
    };
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    // Whoever replaces it must be of those whose it is; to all others the name is just taken.
    let owner = match certificates::load_certificate(&tx, name).await? {
        Some((_, owner)) if actor.may(Verb::Administer, Place::Organisation(owner)) => owner,
        Some(_) => return Err(ApiError::new(Code::NameTaken, format!("the name {name} is taken; choose another"))),
        None => actor.organisation,
    };
    require_at(actor, Verb::Administer, Place::Organisation(owner), "this organisation's certificates")?;
    let info = certificates::upsert_certificate(&tx, seal, actor, owner, &new).await?;
    let message = format!("certificate {name} for {} was stored", info.subjects.join(", "));
    append(&tx, actor, "certificate.set", &message).await?;
    tx.commit().await?;
    Ok(info)
}

/// Forgets a certificate.
pub async fn remove_certificate(db: &Db, actor: &Actor, name: &str) -> Result<(), ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let Some((_, owner)) = certificates::load_certificate(&tx, name).await?.filter(|(_, owner)| sees(actor, *owner))
    else {
        return Err(missing(name));
    };
    require_at(actor, Verb::Administer, Place::Organisation(owner), "this organisation's certificates")?;
    certificates::delete_certificate(&tx, name).await?;
    append(&tx, actor, "certificate.removed", &format!("certificate {name} was removed")).await?;
    Ok(tx.commit().await?)
}

/// Whether the actor may know of an organisation's certificates.
pub fn sees(actor: &Actor, owner: OrganisationId) -> bool {
    actor.may(Verb::Look, Place::Organisation(owner))
}

/// The error that there is none of this name.
pub fn missing(name: &str) -> ApiError {
    ApiError::new(Code::CertificateNotFound, format!("there is no certificate {name}"))
}

async fn append(client: &impl Client, actor: &Actor, action: &str, message: &str) -> Result<(), ApiError> {
    let entry = NewEntry { actor: Some(actor), action, message, ..NewEntry::default() };
    Ok(timeline::append(client, entry).await?)
}
