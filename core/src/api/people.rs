//! Organisations, people, what they prove themselves with, what they may do, and from where.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::people::Role;

/// The namespace of login signatures (`ssh-keygen -Y sign -n`), so that no other signature of the key passes for one.
pub const LOGIN_NAMESPACE: &str = "magrathea-login";

/// What is signed to log in: it names the gateway, so that no other can hand the signature on.
pub fn login_message(gateway_fingerprint: &str, challenge: &str) -> String {
    format!("{LOGIN_NAMESPACE}\n{gateway_fingerprint}\n{challenge}\n")
}

/// The fingerprint of a PEM certificate: `SHA256:` and the hash of its DER form in hex, as `openssl x509 -fingerprint
/// -sha256` computes it. None when it is no PEM.
pub fn fingerprint_of(pem: &str) -> Option<String> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = BASE64_STANDARD.decode(body).ok().filter(|der| !der.is_empty())?;
    Some(format!("SHA256:{}", hex::encode(Sha256::digest(der))))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrganisation {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrganisationInfo {
    pub id: Uuid,
    pub name: String,
    pub apps: u32,
    pub people: u32,
    pub teams: u32,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PersonInfo {
    pub id: Uuid,
    pub name: String,
    pub full_name: String,
    pub organisation: String,
    pub teams: Vec<String>,
    /// SSH keys, tokens and sessions that are good now.
    pub keys: u32,
    pub tokens: u32,
    pub sessions: u32,
    /// When one of them was last used, to the minute.
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<jiff::Timestamp>,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
}

/// A role and where it holds; on the whole platform when neither organisation nor app is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantSpec {
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl std::fmt::Display for GrantSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GrantSpec { app: Some(app), label: Some(label), .. } => write!(f, "{} of {app} ({label})", self.role),
            GrantSpec { app: Some(app), .. } => write!(f, "{} of {app}", self.role),
            GrantSpec { organisation: Some(organisation), .. } => {
                write!(f, "{} of the organisation {organisation}", self.role)
            }
            _ => write!(f, "{} of the platform", self.role),
        }
    }
}

/// Who has a role: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// As `ORGANISATION/TEAM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// An app is shared with it: its people have the role there as far as they have it at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder { person: Some(name), .. } => f.write_str(name),
            Holder { team: Some(name), .. } => write!(f, "the team {name}"),
            Holder { organisation: Some(name), .. } => write!(f, "the organisation {name}"),
            _ => f.write_str("nobody"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddGrant {
    pub to: Holder,
    pub grant: GrantSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantInfo {
    pub id: Uuid,
    pub to: Holder,
    pub grant: GrantSpec,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
}

/// What ended because somebody or something was taken away.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// As in `shell of blog (staging) by ana`.
    pub doors: Vec<String>,
    pub keys: u32,
    pub tokens: u32,
    pub sessions: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTeam {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeamInfo {
    pub organisation: String,
    pub name: String,
    pub members: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// The OpenSSH public key, as in `ssh-ed25519 AAAA… ana@laptop`.
    pub key: String,
    /// What it is called; the key's comment when absent.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    pub id: Uuid,
    pub name: String,
    pub algorithm: String,
    /// As `ssh-keygen -l` prints it.
    pub fingerprint: String,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    #[schema(value_type = Option<String>)]
    pub last_used: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    pub name: String,
    /// What it is limited to; whatever its person may when empty.
    #[serde(default)]
    pub limits: Vec<GrantSpec>,
    /// Days until it expires, 1 to 730.
    pub days: u16,
}

/// A token that was made, told once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    pub token: String,
    pub info: TokenInfo,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub id: Uuid,
    pub name: String,
    /// `token` or `session`.
    pub kind: String,
    /// None: whatever its person may.
    pub limits: Option<Vec<String>>,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    #[schema(value_type = Option<String>)]
    pub last_used: Option<jiff::Timestamp>,
    #[schema(value_type = Option<String>)]
    pub expires: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    pub name: String,
    #[serde(default)]
    pub full_name: String,
    /// What the person will be allowed to do.
    #[serde(default)]
    pub grants: Vec<GrantSpec>,
    /// Days for which the invitation is good, 1 to 30.
    #[serde(default = "default_days")]
    pub days: u16,
}

fn default_days() -> u16 {
    7
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InvitationInfo {
    pub id: Uuid,
    pub name: String,
    pub organisation: String,
    pub invited_by: String,
    #[schema(value_type = String)]
    pub expires: jiff::Timestamp,
}

/// An invitation that was made; its text is told once, and carries all that `td join` needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeInvitation {
    pub invitation: String,
    pub info: InvitationInfo,
}

/// Asks for something to sign.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskChallenge {
    /// The public keys that could sign, at most 64.
    #[serde(default)]
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// Good for two minutes, once.
    pub challenge: String,
    /// The first of the keys that somebody has, counted from 0.
    pub key: Option<usize>,
}

/// `signature` is what `ssh-keygen -Y sign -n magrathea-login` makes of the challenge's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub challenge: String,
    pub signature: String,
    /// What the session is called, as in `ana@laptop`.
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The invitation's secret.
    pub invitation: String,
    pub login: Login,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    pub token: String,
    pub person: String,
    pub organisation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetList {
    /// Addresses, CIDR blocks and ranges.
    pub entries: Vec<String>,
    /// Whose; the operator's, which all may use, when absent.
    #[serde(default)]
    pub organisation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListInfo {
    pub name: String,
    /// None: the operator's.
    pub organisation: Option<String>,
    pub entries: Vec<String>,
    /// Where it is kept: `gateway`, or `clusters.yml`, which no command changes.
    pub kept: String,
    /// As in `api of acme` or `blog (production)`.
    pub used_by: Vec<String>,
}

/// From where a door may be used: names of lists, addresses, blocks, ranges. An empty list opens it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDoor {
    pub entries: Vec<String>,
    /// For this organisation's people; for everybody when absent.
    #[serde(default)]
    pub organisation: Option<String>,
    /// Also when it shuts out the address that asks.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoorInfo {
    /// `api` or `ssh`.
    pub door: String,
    pub organisation: Option<String>,
    pub entries: Vec<String>,
}

/// What the gateway says of itself to everybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Authority {
    /// PEM.
    pub ca: String,
    /// `SHA256:…` of the certificate.
    pub fingerprint: String,
}
