//! SSH keys: which are good enough, and what was signed with them.

use magrathea_core::api::{Ended, KeyInfo, LOGIN_NAMESPACE};
use magrathea_core::people::{Place, Verb};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, SshSig};
use uuid::Uuid;

use super::access::require_at;
use super::members::{append, find_person};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::members::Person;
use crate::db::{Client, Db, grants, keys};
use crate::state::State;

/// RSA keys with fewer bits are refused.
const LEAST_RSA: usize = 3072;

/// Keys that one person may have.
const MOST_KEYS: usize = 50;

/// A public key that is good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// The OpenSSH form without a comment: what keys are looked up by.
    pub text: String,
    pub comment: String,
}

/// Why a key or a signature is refused. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("this is not an OpenSSH public key")]
    Malformed,
    #[error("this is a private key: it must never leave its owner's machine")]
    Private,
    #[error("{0} keys are not accepted")]
    Kind(String),
    #[error("an RSA key must have at least {LEAST_RSA} bits; this one has {0}")]
    Short(usize),
    #[error("the signature is not one of this challenge")]
    Signature,
    #[error("the hardware key signed without a touch")]
    Untouched,
}

impl KeyError {
    pub fn hint(&self) -> &'static str {
        match self {
            KeyError::Malformed => "send the content of a .pub file, as in: ssh-ed25519 AAAA… ana@laptop",
            KeyError::Private => "send the .pub file; and if this key was sent to others before, replace it",
            KeyError::Kind(_) | KeyError::Short(_) => "make one with: ssh-keygen -t ed25519",
            KeyError::Signature => "sign with: ssh-keygen -Y sign -n magrathea-login, or use td login",
            KeyError::Untouched => {
                "a key that was made with -O no-touch-required does not prove that somebody is there: make one \
                 without it, and touch it when it blinks"
            }
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        ApiError::new(Code::KeyInvalid, error.to_string()).with_hint(error.hint())
    }
}

/// Reads a public key in its OpenSSH form and checks that it is good enough.
pub fn parse_key(text: &str) -> Result<PublicKey, KeyError> {
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        return Err(KeyError::Private);
    }
    if text.len() > 16 << 10 || text.lines().count() != 1 {
        return Err(KeyError::Malformed);
    }
    let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| KeyError::Malformed)?;
    check(key.key_data())?;
    let text = key.to_openssh().map_err(|_| KeyError::Malformed)?;
    let mut words = text.split(' ');
    let text = [words.next(), words.next()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let comment: String = key.comment().to_string().chars().filter(|c| !c.is_control()).take(100).collect();
    Ok(PublicKey {
        algorithm: key.algorithm().as_str().to_owned(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        text,
        comment,
    })
}

fn check(key: &KeyData) -> Result<(), KeyError> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Rsa { .. } => {
            let bits = key.rsa().map_or(0, |rsa| rsa.key_size() as usize);
            if bits < LEAST_RSA { Err(KeyError::Short(bits)) } else { Ok(()) }
        }
        other => Err(KeyError::Kind(other.as_str().to_owned())),
    }
}

/// Whose signature of a message this is: what `ssh-keygen -Y sign` made, for the namespace of logins alone.
pub fn verify(signature: &str, message: &str) -> Result<PublicKey, KeyError> {
    let signature = SshSig::from_pem(signature.trim()).map_err(|_| KeyError::Signature)?;
    let key = ssh_key::PublicKey::from(signature.public_key().clone());
    let text = key.to_openssh().map_err(|_| KeyError::Signature)?;
    let public = parse_key(&text)?;
    key.verify(LOGIN_NAMESPACE, message.as_bytes(), &signature).map_err(|_| KeyError::Signature)?;
    if is_on_hardware(key.key_data()) && !was_touched(&signature) {
        return Err(KeyError::Untouched);
    }
    Ok(public)
}

fn is_on_hardware(key: &KeyData) -> bool {
    matches!(key, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
}

/// Whether a hardware key's signature says that somebody was there. It ends with flags (one byte) and a counter (four),
/// both of them signed: PROTOCOL.u2f of OpenSSH.
fn was_touched(signature: &SshSig) -> bool {
    const USER_PRESENT: u8 = 0x01;
    signature.signature_bytes().iter().nth_back(4).is_some_and(|flags| flags & USER_PRESENT != 0)
}

/// Gives a person a key: one's own, or one of a person whom one administers.
pub async fn add_key(
    db: &Db,
    actor: &Actor,
    person: &str,
    text: &str,
    name: Option<&str>,
) -> Result<KeyInfo, ApiError> {
    let public = parse_key(text)?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let person = find_person(&tx, actor, person).await?;
    person.require_own(actor, "keys")?;
    // A key given to somebody who may more than oneself would be a way to it.
    if person.id != actor.person && grants::person_reaches_beyond(&tx, person.id, person.organisation).await? {
        let what = format!("the keys of {}, who has roles beyond this organisation", person.name);
        require_at(actor, Verb::Administer, Place::Platform, &what)?;
    }
    if keys::list_keys(&tx, person.id).await?.len() >= MOST_KEYS {
        return Err(ApiError::new(Code::LimitReached, format!("{} has {MOST_KEYS} keys already", person.name)));
    }
    let info = insert(&tx, &person, &public, name).await?;
    let message = format!("{} got the key {} ({})", person.name, info.name, info.fingerprint);
    append(&tx, actor, "key.added", Some(person.organisation), &message).await?;
    tx.commit().await?;
    Ok(info)
}

/// A person's keys.
pub async fn list_keys(db: &Db, actor: &Actor, person: &str) -> Result<Vec<KeyInfo>, ApiError> {
    let conn = db.conn().await?;
    let person = find_person(&conn, actor, person).await?;
    person.require_own(actor, "keys")?;
    Ok(keys::list_keys(&conn, person.id).await?)
}

/// Takes a key from a person; what is held open with it ends.
pub async fn remove_key(state: &State, actor: &Actor, person: &str, key: Uuid) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let person = find_person(&tx, actor, person).await?;
    person.require_own(actor, "keys")?;
    let all = keys::list_keys(&tx, person.id).await?;
    let known = all.into_iter().find(|known| known.id == key);
    let known = known.ok_or_else(|| {
        ApiError::new(Code::KeyNotFound, format!("{} has no such key", person.name)).with_hint("td key list lists them")
    })?;
    let sessions = keys::delete_key(&tx, person.id, known.id).await?;
    let message = format!("the key {} ({}) of {} was removed", known.name, known.fingerprint, person.name);
    append(&tx, actor, "key.removed", Some(person.organisation), &message).await?;
    tx.commit().await?;
    drop(conn);
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    Ok(Ended { doors: state.doors.look(state).await?, keys: 1, sessions, ..Ended::default() })
}

/// Stores a key; says whose fault it is when somebody has it.
pub async fn insert(
    client: &impl Client,
    person: &Person,
    public: &PublicKey,
    name: Option<&str>,
) -> Result<KeyInfo, ApiError> {
    let name = name.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(&public.comment);
    let name = if name.is_empty() { public.algorithm.as_str() } else { name };
    keys::insert_key(client, person.id, public, name).await.map_err(|error| {
        if error.violates(keys::KEY_TAKEN) {
            return ApiError::new(Code::KeyTaken, "somebody has this key already: a key is one person's")
                .with_hint("make another with: ssh-keygen -t ed25519");
        }
        error.into()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::tasks::Tasks;
    use crate::testing::token::{self, Token};

    fn keygen(folder: &Path, kind: &[&str]) -> String {
        let path = folder.join("key");
        let _ = std::fs::remove_file(&path);
        let done = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "ana@laptop", "-f"])
            .arg(&path)
            .arg("-t")
            .args(kind)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::read_to_string(path.with_extension("pub")).unwrap()
    }

    fn sign(folder: &Path, namespace: &str, message: &str) -> String {
        sign_with(&folder.join("key"), None, namespace, message)
    }

    fn sign_with(key: &Path, agent: Option<&Path>, namespace: &str, message: &str) -> String {
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(key)
            .env("SSH_AUTH_SOCK", agent.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn keys_of_openssh_sign_and_are_verified() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [
            &["ed25519"][..],
            &["ecdsa", "-b", "256"],
            &["ecdsa", "-b", "384"],
            &["ecdsa", "-b", "521"],
            &["rsa", "-b", "3072"],
        ] {
            let text = keygen(folder.path(), kind);
            let key = parse_key(&text).unwrap();
            assert_eq!(key.comment, "ana@laptop");
            let signature = sign(folder.path(), LOGIN_NAMESPACE, "hello");
            assert_eq!(verify(&signature, "hello").unwrap().fingerprint, key.fingerprint, "{kind:?}");
            assert_eq!(verify(&signature, "hallo").unwrap_err(), KeyError::Signature);
            assert_eq!(verify(&sign(folder.path(), "git", "hello"), "hello").unwrap_err(), KeyError::Signature);
        }
    }

    #[test]
    fn weak_and_foreign_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let weak = keygen(folder.path(), &["rsa", "-b", "2048"]);
        assert_eq!(parse_key(&weak).unwrap_err(), KeyError::Short(2048));
        assert_eq!(verify(&sign(folder.path(), LOGIN_NAMESPACE, "x"), "x").unwrap_err(), KeyError::Short(2048));
        let private = std::fs::read_to_string(folder.path().join("key")).unwrap();
        assert_eq!(parse_key(&private).unwrap_err(), KeyError::Private);
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello world", "ssh-ed25519 AAAA x\nssh-ed25519 BBBB y"] {
            assert_eq!(parse_key(text).unwrap_err(), KeyError::Malformed, "{text}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn hardware_keys_sign_when_they_are_touched() {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        for (name, flags, good) in [
            ("touched", token::TOUCHED, true),
            ("verified", token::TOUCHED | token::VERIFIED, true),
            ("untouched", token::UNTOUCHED, false),
            ("only-verified", token::VERIFIED, false),
        ] {
            for token in Token::all() {
                let kind = token.kind();
                let (socket, public) = (folder.path().join(format!("{name}-{kind}")), folder.path().join("key.pub"));
                let key = parse_key(&token.serve(&socket, &tasks, flags)).unwrap();
                assert_eq!(key.algorithm, kind);
                std::fs::write(&public, &key.text).unwrap();
                let signature = sign_with(&public, Some(&socket), LOGIN_NAMESPACE, "hello");
                let expect = if good { Ok(key.fingerprint) } else { Err(KeyError::Untouched) };
                let verified = |signature: &str| verify(signature, "hello").map(|key| key.fingerprint);
                assert_eq!(verified(&signature), expect, "{name} {kind}");
                assert_eq!(verify(&signature, "hallo").unwrap_err(), KeyError::Signature);
                // Whatever the signature says that it is: the key is what counts.
                let real = SshSig::from_pem(&signature).unwrap();
                let other = ssh_key::Signature::new("x@example.com".parse().unwrap(), real.signature_bytes()).unwrap();
                let named = SshSig::new(real.public_key().clone(), LOGIN_NAMESPACE, real.hash_alg(), other).unwrap();
                let pem = named.to_pem(ssh_key::LineEnding::LF).unwrap();
                assert!(good || verified(&pem).is_err(), "{name} {kind}");
            }
        }
    }
}
