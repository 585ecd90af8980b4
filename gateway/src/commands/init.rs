//! `init`: makes what a gateway needs before its first start. What exists is kept, so it may run before every start.

use std::path::Path;

use anyhow::Context;
use magrathea_core::api::Credentials;

use super::{Store, hand_out, prepare};
use crate::api::token;
use crate::config::Init;
use crate::db::Db;
use crate::db::people;
use crate::db::timeline::{self, NewEntry};
use crate::db::tokens::{NewToken, TokenKind, insert_token};
use crate::pki::Pki;
use crate::seal::Seal;

/// Makes keys, authority, database and the first administrator.
pub async fn init(options: Init) -> anyhow::Result<()> {
    prepare(&options.place)?;
    let data = &options.place.data;
    Seal::load_or_create(&data.join("seal.key"))?;
    let pki = Pki::load_or_create(&data.join("pki"))?;
    let store = Store::open(&options.place).await?;
    let result = ensure_credentials(&store.db, &pki, &options).await;
    store.close().await;
    result
}

/// Credentials that still work are kept; others are replaced.
async fn ensure_credentials(db: &Db, pki: &Pki, options: &Init) -> anyhow::Result<()> {
    let file = options.credentials.as_deref();
    let kept = file.map(read).transpose()?.flatten();
    let (token, new) = match kept {
        Some(credentials) if is_valid(db, &credentials.token).await? => (credentials.token, false),
        _ => (make_admin_token(db).await?, true),
    };
    let credentials = Credentials { gateway: options.listen.api_url(), token, ca: pki.ca_pem().to_owned() };
    let text = serde_json::to_string_pretty(&credentials)?;
    if new || file.is_some_and(|file| std::fs::read_to_string(file).is_ok_and(|old| old != text)) {
        hand_out(&text, file)?;
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Option<Credentials>> {
    match std::fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

async fn is_valid(db: &Db, text: &str) -> anyhow::Result<bool> {
    Ok(people::load_actor(&db.conn().await?, &token::hash(text)).await?.is_some())
}

async fn make_admin_token(db: &Db) -> anyhow::Result<String> {
    let new = token::for_person()?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let admin = people::ensure_admin(&tx).await?;
    let row = NewToken {
        person: admin.person,
        hash: &new.hash,
        name: "init",
        kind: TokenKind::Token,
        limits: None,
        key: None,
        days: None,
    };
    insert_token(&tx, &row).await?;
    let entry =
        NewEntry { action: "token.created", message: "a token for admin was made by init", ..NewEntry::default() };
    timeline::append(&tx, entry).await?;
    tx.commit().await?;
    Ok(new.text)
}
