//! The gateway itself: who asks it, what it is, what happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::apps::InstanceInfo;
use super::clusters::ClusterInfo;
use super::deploys::DeployInfo;
use super::quotas::QuotaInfo;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub gateway_version: String,
    pub person: String,
    pub clusters: Vec<ClusterInfo>,
    pub instances: Vec<InstanceInfo>,
    /// Deploys that are not over.
    pub deploys: Vec<DeployInfo>,
    /// Those that people are told of: most of the month's traffic is used, or all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic_quotas: Vec<QuotaInfo>,
}

/// One line of the timeline: who did what, when, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    pub id: i64,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
    /// A person's name, or `gateway`.
    pub actor: String,
    /// From where they did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// As in `deploy.succeeded` or `app.created`.
    pub action: String,
    pub app: Option<String>,
    pub label: Option<String>,
    pub cluster: Option<String>,
    pub message: String,
}

/// The person whose token it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    pub id: Uuid,
    pub name: String,
    pub organisation: String,
    /// What was shown: `token` (also that of a session), `key` or `local`.
    pub credential: String,
    /// As in `developer of blog (staging)`.
    pub roles: Vec<String>,
    /// What the token is limited to; none: not limited.
    pub limits: Option<Vec<String>>,
}

/// The gateway and its doors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewayInfo {
    pub version: String,
    pub ssh: SshInfo,
}

/// Where SSH clients connect, and by what they know that it is the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SshInfo {
    /// A host name or address.
    pub host: String,
    pub port: u16,
    /// As in `ssh-ed25519 AAAA…`.
    pub host_key: String,
}

impl SshInfo {
    /// The host as OpenSSH writes it in known_hosts.
    pub fn known_host(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }

    /// The line for known_hosts.
    pub fn known_hosts_line(&self) -> String {
        format!("{} {}", self.known_host(), self.host_key)
    }

    /// The start of an SSH URL, as in `ssh://git@gateway.example:7422`.
    pub fn url(&self, user: &str) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 22 { format!("ssh://{user}@{host}") } else { format!("ssh://{user}@{host}:{}", self.port) }
    }
}

/// Whether the gateway can work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub version: String,
    /// Whether the database answers.
    pub database: bool,
}

/// td's stored credentials for one gateway (`credentials.json` in its configuration directory, mode 0600).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    /// As in `https://127.0.0.1:7443`.
    pub gateway: String,
    pub token: String,
    /// PEM of the gateway's CA: the only one trusted.
    pub ca: String,
}
