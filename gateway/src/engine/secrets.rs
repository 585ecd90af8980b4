//! The secret values of an instance: what people set, what the platform made, certificates and password hashes. They
//! travel beside a plan and are never part of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use magrathea_core::manifest::{Sections, Tls};
use magrathea_core::names::InstanceId;
use magrathea_core::plan::hash_of;
use magrathea_layers::{OLD_PASSWORD, PASSWORD};

use super::failure::Failure;
use crate::db::Client;
use crate::db::instances::Instance;
use crate::db::{certificates, config_values, instances};
use crate::seal::Seal;
use crate::state::State;

/// The secret that holds the certificate chain and key of the instance's hosts. Not a name that people can set.
const CERTIFICATE: &str = "certificate";

/// The values of one instance, by the names that its plan uses.
#[derive(Debug, Default)]
pub struct Secrets {
    pub values: BTreeMap<String, String>,
    /// Which of them hold certificates.
    pub certificates: Vec<String>,
}

/// Loads them, people's values as they were at this version; makes those that the platform makes, once.
pub async fn load_secrets(
    state: &Arc<State>,
    instance: &Instance,
    sections: &Sections,
    hosts: &[String],
    version: i64,
) -> Result<Secrets, Failure> {
    let conn = state.db.conn().await?;
    let set = config_values::load_values(&conn, &state.seal, instance.app, &instance.label, Some(version)).await?;
    let mut values = set;
    if sections.db.mysql.is_some() {
        let password = instances::ensure_secret(&conn, &state.seal, instance.id, PASSWORD, make_password).await?;
        let old = instances::load_secret(&conn, &state.seal, instance.id, OLD_PASSWORD).await?;
        values.insert(OLD_PASSWORD.to_owned(), old.unwrap_or_else(|| password.clone()));
        values.insert(PASSWORD.to_owned(), password);
    }
    // A missing one is told by the layer, which knows the manifest's key.
    if let Some(name) = &sections.access.basic_auth
        && let Some(people) = values.get(name)
    {
        let hashes = hash_people(&instance.id.slug(), name, people)?;
        values.insert(magrathea_layers::BASIC_AUTH_SECRET.to_owned(), hashes);
    }
    let pem = match &sections.routing.tls {
        Tls::Off => None,
        Tls::Auto => {
            // Made for these hosts, and again when it is time: whoever asks first renews it.
            let (key, now) = (format!("certificate/{}", hash_of(&hosts)), jiff::Timestamp::now());
            let issue = |old: Option<&str>| {
                let due = old.is_none_or(|old| state.pki.is_due(old, now));
                due.then(|| state.pki.issue_hosts(hosts, now)).transpose()
            };
            Some(instances::update_secret(&conn, &state.seal, instance.id, &key, issue).await?)
        }
        Tls::Certificate(name) if certificates::may_use(&conn, name, instance.organisation).await? => {
            certificates::load_certificate_pem(&conn, &state.seal, name).await?
        }
        Tls::Certificate(_) => None,
    };
    let mut certificates = Vec::new();
    if let Some(pem) = pem {
        values.insert(CERTIFICATE.to_owned(), pem);
        certificates.push(CERTIFICATE.to_owned());
    }
    Ok(Secrets { values, certificates })
}

/// The names alone, for a preview: nothing is made, and no value is read out.
pub async fn name_secrets(state: &Arc<State>, instance: &Instance, sections: &Sections) -> Result<Secrets, Failure> {
    let conn = state.db.conn().await?;
    let mut names: Vec<String> = config_values::load_values(&conn, &state.seal, instance.app, &instance.label, None)
        .await?
        .into_keys()
        .collect();
    if sections.db.mysql.is_some() {
        names.extend([PASSWORD, OLD_PASSWORD].map(str::to_owned));
    }
    let mut secrets = Secrets::default();
    let has_certificate = match &sections.routing.tls {
        Tls::Off => false,
        Tls::Auto => true,
        Tls::Certificate(name) => certificates::may_use(&conn, name, instance.organisation).await?,
    };
    if has_certificate {
        secrets.certificates.push(CERTIFICATE.to_owned());
    }
    secrets.values = names.into_iter().map(|name| (name, String::new())).collect();
    Ok(secrets)
}

/// Gives the database's account another password, and keeps the former one until no release needs it.
pub async fn rotate_password(client: &impl Client, seal: &Seal, id: InstanceId) -> anyhow::Result<()> {
    instances::rotate_secret(client, seal, id, (PASSWORD, OLD_PASSWORD), &make_password()).await
}

/// 32 letters and digits. Bytes that would favour some of them are thrown away.
fn make_password() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::with_capacity(32);
    let mut bytes = [0; 64];
    while password.len() < 32 {
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            continue;
        }
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < ALPHABET.len() * 4);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        password.extend(letters.take(32 - password.len()).map(|letter| char::from(*letter)));
    }
    password
}

/// `user:password` lines as the lines that the router compares requests with.
fn hash_people(slug: &str, name: &str, people: &str) -> Result<String, Failure> {
    let mut lines = String::new();
    for line in people.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !line.contains(':') {
            return Err(Failure::new("manifest_invalid", format!("access.basic_auth: a line of {name} has no colon"))
                .hint("the secret holds one `user:password` per line"));
        }
        let header = format!("Basic {}", BASE64_STANDARD.encode(line));
        lines.push_str(&magrathea_layers::basic_auth_hash(slug, &header));
        lines.push('\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let (a, b) = (make_password(), make_password());
        assert_eq!((a.len(), a == b), (32, false));
        assert!(a.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
