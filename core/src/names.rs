//! Validated names and ids. A value of one of these types has been checked; nothing downstream checks again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a name of the wanted kind. Displays as a sentence that says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} {reason}")]
pub struct NameError {
    pub kind: &'static str,
    pub value: String,
    pub reason: &'static str,
}

/// Names taken by the platform's own routes, folders and services.
const RESERVED: &[&str] = &["all", "api", "default-app", "gateway", "magrathea", "none", "root", "self", "td"];

fn check_name(kind: &'static str, value: &str, max: usize) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { kind, value: value.chars().take(80).collect(), reason });
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (None, _) | (_, None) => return fail("is empty"),
        (Some(first), Some(last)) => {
            if !first.is_ascii_lowercase() {
                return fail("must start with a lower-case letter");
            }
            if *last == b'-' {
                return fail("must not end with a hyphen");
            }
        }
    }
    if bytes.len() > max {
        return fail(match max {
            0..=20 => "is longer than 20 characters",
            21..=32 => "is longer than 32 characters",
            _ => "is longer than 63 characters",
        });
    }
    if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
        return fail("may hold only lower-case letters, digits and hyphens");
    }
    if value.contains("--") {
        return fail("must not hold two hyphens in a row");
    }
    if RESERVED.contains(&value) {
        return fail("is reserved; choose another");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $format:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("format" = $format))]
        pub struct $type(#[schemars(regex(pattern = r"^[a-z]([a-z0-9]|-[a-z0-9])*$"), length(max = $max))] String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                check_name($kind, value, $max)?;
                Ok(Self(value.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                value.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// An application's name, unique on a gateway.
    AppName, "app name", "app-name", 32
);
name!(
    /// A label of an app's manifest; one app, label and cluster make an instance.
    LabelName, "label", "label-name", 32
);
name!(
    /// A cluster of `clusters.yml`.
    ClusterName, "cluster name", "cluster-name", 32
);
name!(
    /// A node of a cluster.
    NodeName, "node name", "node-name", 63
);
name!(
    /// A client organisation, or the operator's own.
    OrganisationName, "organisation name", "organisation-name", 32
);
name!(
    /// A person's name on a gateway.
    PersonName, "person's name", "person-name", 32
);
name!(
    /// A team, unique in its organisation.
    TeamName, "team name", "team-name", 32
);
name!(
    /// An IP access list, unique in its organisation.
    ListName, "list name", "list-name", 32
);
name!(
    /// A process type of an app, as in `web` or `queue`.
    ProcessName, "process type", "process-name", 20
);

/// The process type that visitors reach.
pub const WEB: &str = "web";

impl ProcessName {
    /// The process type that visitors reach.
    pub fn web() -> Self {
        ProcessName(WEB.to_owned())
    }

    pub fn is_web(&self) -> bool {
        self.0 == WEB
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $type(#[schemars(with = "String")] pub Uuid);

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0.hyphenated())
            }
        }

        impl std::str::FromStr for $type {
            type Err = uuid::Error;
            fn from_str(value: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(value).map(Self)
            }
        }
    };
}

id!(
    /// An app's identity; stays when the app is renamed.
    AppId
);
id!(
    /// An instance's identity: the key of all its data, never re-used.
    InstanceId
);
id!(
    /// A deploy: one attempt to make a release serve.
    DeployId
);
id!(
    /// A person.
    PersonId
);
id!(
    /// An organisation.
    OrganisationId
);
id!(
    /// A person's token, or the session that `td login` makes.
    TokenId
);
id!(
    /// A person's SSH key.
    KeyId
);
id!(
    /// A team of an organisation's people.
    TeamId
);
id!(
    /// A role that was given.
    GrantId
);

impl InstanceId {
    /// The short form that names this instance's resources on a node: `i` and the last 12 hex digits (the random
    /// end of a UUID v7). Always `[a-z0-9]{13}`, so it is safe in a host name, a path, a SQL name and a VCL symbol.
    pub fn slug(&self) -> String {
        let hex = self.0.simple().to_string();
        format!("i{}", hex.get(20..).unwrap_or_default())
    }
}

/// A release's number within its instance, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct ReleaseNumber(pub u32);

impl std::fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// One of the six layers of a cluster, in the order in which they are applied.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    Storage,
    Db,
    App,
    Proxy,
    Routing,
    Support,
}

impl Layer {
    /// All layers, in the order in which a plan is applied; removal goes the other way.
    pub const ALL: [Layer; 6] = [Layer::Storage, Layer::Db, Layer::App, Layer::Proxy, Layer::Routing, Layer::Support];

    /// The layer's name as written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Storage => "storage",
            Layer::Db => "db",
            Layer::App => "app",
            Layer::Proxy => "proxy",
            Layer::Routing => "routing",
            Layer::Support => "support",
        }
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (text, ok) in [
            ("blog", true),
            ("a1-b2", true),
            ("", false),
            ("1blog", false),
            ("Blog", false),
            ("blog-", false),
            ("a--b", false),
            ("../etc", false),
            ("a.b", false),
            ("magrathea", false),
            ("abcdefghijklmnopqrstuvwxyzabcdefg", false),
        ] {
            assert_eq!(text.parse::<AppName>().is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn a_slug_is_short_and_safe() {
        let id = InstanceId(Uuid::from_u128(0x0193_0000_0000_7000_8000_0123_4567_89ab));
        assert_eq!(id.slug(), "i0123456789ab");
    }
}
