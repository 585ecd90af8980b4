//! Certificates for apps' domains.

use magrathea_core::api::CertificateInfo;

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
    let info = certificates::upsert_certificate(&tx, seal, actor, &new).await?;
    let message = format!("certificate {name} for {} was stored", info.subjects.join(", "));
    append(&tx, actor, "certificate.set", &message).await?;
    tx.commit().await?;
    Ok(info)
}

/// Forgets a certificate.
pub async fn remove_certificate(db: &Db, actor: &Actor, name: &str) -> Result<(), ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    if !certificates::delete_certificate(&tx, name).await? {
        return Err(missing(name));
    }
    append(&tx, actor, "certificate.removed", &format!("certificate {name} was removed")).await?;
    Ok(tx.commit().await?)
}

/// The error that there is none of this name.
pub fn missing(name: &str) -> ApiError {
    ApiError::new(Code::CertificateNotFound, format!("there is no certificate {name}"))
}

async fn append(client: &impl Client, actor: &Actor, action: &str, message: &str) -> Result<(), ApiError> {
    let entry = NewEntry { actor: Some(actor), action, message, ..NewEntry::default() };
    Ok(timeline::append(client, entry).await?)
}
