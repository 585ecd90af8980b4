//! Tokens: 256 random bits, of which only the SHA-256 is stored.

use sha2::{Digest, Sha256};

/// What a person's token begins with, so that one that leaked is recognised.
const PERSON: &str = "mag_";

/// What a session's token begins with, and an invitation's secret.
const SESSION: &str = "magsession_";
const INVITATION: &str = "maginvite_";

/// What a node's one-time token begins with.
const NODE: &str = "magnode_";

/// A token that was just made.
pub struct NewToken {
    /// Told once, to whom it belongs.
    pub text: String,
    /// Stored.
    pub hash: [u8; 32],
}

/// A token for a person.
pub fn for_person() -> anyhow::Result<NewToken> {
    make(PERSON)
}

/// A session's token.
pub fn for_session() -> anyhow::Result<NewToken> {
    make(SESSION)
}

/// An invitation's secret.
pub fn for_invitation() -> anyhow::Result<NewToken> {
    make(INVITATION)
}

/// A one-time token for a node.
pub fn for_node() -> anyhow::Result<NewToken> {
    make(NODE)
}

fn make(prefix: &str) -> anyhow::Result<NewToken> {
    let mut bits = [0; 32];
    aws_lc_rs::rand::fill(&mut bits).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let text = format!("{prefix}{}", hex::encode(bits));
    let hash = hash(&text);
    Ok(NewToken { text, hash })
}

/// What a token is looked up by. An attacker who measures the lookup's time learns about the hash, of which he cannot
/// choose a single bit; so the comparison leaks nothing about the token.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
