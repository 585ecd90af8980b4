//! Releases: which there are, how two of them differ, and going back to one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ReleaseInfo;
use crate::names::ReleaseNumber;

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Its deploy is under way, or was cut off.
    Made,
    /// It serves or has served, and can be brought back.
    Served,
    /// Its deploy failed; it never served to the end.
    Failed,
    /// It has served; its image is not kept any more.
    Pruned,
}

/// A release of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    pub label: String,
    pub cluster: String,
    #[serde(flatten)]
    pub release: ReleaseInfo,
    pub state: ReleaseState,
    /// Whether it is the one that serves.
    pub serving: bool,
    /// The version of the app's values that it was made with.
    pub config_version: i64,
    /// Who deployed it first.
    pub person: Option<String>,
    /// When it last began to serve.
    #[schema(value_type = Option<String>)]
    pub served: Option<jiff::Timestamp>,
}

/// Body of `POST /v1/apps/{app}/instances/{label}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollback {
    /// The release to go back to; the one before that which serves, when absent.
    pub release: Option<ReleaseNumber>,
    /// Seconds to wait for another deploy of the instance to end; refused at once when absent.
    pub wait: Option<u32>,
}

/// Body of `POST /v1/apps/{app}/instances/{label}/promote`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// The label that gets what this one serves.
    pub to: String,
    /// The cluster that gets it; may be left out when that label lives on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_cluster: Option<String>,
    /// Seconds to wait for another deploy of that label to end; refused at once when absent.
    #[serde(default)]
    pub wait: Option<u32>,
}

/// What came of one label on one cluster, where several were to be deployed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LabelDeploy {
    pub label: String,
    /// Absent when it is not known which clusters the label lives on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The deploy that began.
    pub deploy: Option<super::DeployInfo>,
    /// Why none did.
    pub error: Option<LabelRefusal>,
}

impl LabelDeploy {
    pub fn of(label: &str, cluster: &str, begun: Result<super::DeployInfo, LabelRefusal>) -> Self {
        let (deploy, error) = match begun {
            Ok(deploy) => (Some(deploy), None),
            Err(error) => (None, Some(error)),
        };
        LabelDeploy { label: label.to_owned(), cluster: Some(cluster.to_owned()), deploy, error }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LabelRefusal {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

/// How a part differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    Added,
    Removed,
    Changed,
}

/// Something with a name that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Differing {
    pub name: String,
    pub difference: Difference,
}

/// A setting of magrathea.yml that differs; none where it is not set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingDifference {
    pub path: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// A rendered text that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TextDifference {
    pub name: String,
    /// As `diff -u` prints it.
    pub diff: String,
}

/// What is different in one release than in another. The number of the release itself does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseDiff {
    pub from: ReleaseNumber,
    pub to: ReleaseNumber,
    /// Files of the sources; absent when one of the sources is not kept any more.
    pub files: Option<Vec<Differing>>,
    pub settings: Vec<SettingDifference>,
    /// The app's values; never what they are.
    pub values: Vec<Differing>,
    /// What the layers were told.
    pub rendered: Vec<TextDifference>,
}

/// Which names differ between two sides.
pub fn compare<V: PartialEq>(
    from: &std::collections::BTreeMap<String, V>,
    to: &std::collections::BTreeMap<String, V>,
) -> Vec<Differing> {
    let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let difference = |name: &String| match (from.get(name), to.get(name)) {
        (None, _) => Some(Difference::Added),
        (_, None) => Some(Difference::Removed),
        (Some(before), Some(after)) => (before != after).then_some(Difference::Changed),
    };
    names.into_iter().filter_map(|name| Some(Differing { name: name.clone(), difference: difference(name)? })).collect()
}
