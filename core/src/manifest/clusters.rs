//! The clusters that a label lives on: one, or a list.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::semantics::Subject;
use crate::names::ClusterName;
use crate::schema::check::{Checker, join};
use crate::yaml::{Kind, Mark, Node};

/// What stands behind `cluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clusters(pub Vec<ClusterName>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(ClusterName),
    Several(Vec<ClusterName>),
}

impl<'de> Deserialize<'de> for Clusters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_or_several(deserializer).map(Clusters)
    }
}

/// Reads one name, a list of some, or nothing. Releases of former versions are stored with one.
pub(super) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ClusterName>, D::Error> {
    Ok(match Option::<OneOrSeveral>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(OneOrSeveral::One(name)) => vec![name],
        Some(OneOrSeveral::Several(names)) => names,
    })
}

impl JsonSchema for Clusters {
    fn schema_name() -> Cow<'static, str> {
        "Clusters".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ClusterName::json_schema(generator);
        schema.insert("items".into(), ClusterName::json_schema(generator).to_value());
        schema.insert("minItems".into(), 1.into());
        schema.insert("uniqueItems".into(), true.into());
        schema.insert("type".into(), json!(["string", "array"]));
        schema
    }
}

/// Where a label's clusters are named: in its own block, or for all of the file.
pub(super) struct Named {
    pub clusters: Vec<ClusterName>,
    pub mark: Mark,
    pub path: String,
}

/// The clusters of a label; `null` in its block stands for the gateway's only one, whatever the file says.
pub(super) fn named(root: &Node, label: Option<(&Node, &str)>) -> Option<Named> {
    let own = label.and_then(|(block, path)| Some((block.get("cluster")?, join(path, "cluster"))));
    let (entry, path) = own.or_else(|| Some((root.get("cluster")?, "cluster".to_owned())))?;
    if matches!(entry.node.kind, Kind::Null) {
        return None;
    }
    // The schema has reported what cannot be read.
    let Clusters(clusters) = serde_json::from_value(entry.node.to_json()).ok()?;
    Some(Named { clusters, mark: entry.key_mark, path })
}

/// A list that names none, or one twice.
pub(super) fn check_clusters(checker: &mut Checker<'_>, subject: &Subject) {
    let Some(Named { clusters, mark, path }) = &subject.named else { return };
    if clusters.is_empty() {
        let hint = "name at least one, or leave the key out for the gateway's only one";
        checker.report(*mark, path, "no cluster is named".into(), Some(hint.into()));
    }
    let mut seen = BTreeSet::new();
    for cluster in clusters.iter().filter(|cluster| !seen.insert(*cluster)) {
        checker.report(*mark, path, format!("the cluster `{cluster}` is named twice"), Some("keep one".into()));
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Resolved, parse_manifest};

    #[test]
    fn a_label_names_its_clusters_or_takes_the_files() {
        let of = |text: &str| {
            let (manifest, _) = parse_manifest("magrathea.yml", text).unwrap();
            let of = |resolved: &Resolved| resolved.clusters.iter().map(|c| c.as_str().to_owned()).collect::<Vec<_>>();
            manifest.labels.values().map(of).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(of(""), [none]);
        assert_eq!(of("cluster: milan"), [["milan"]]);
        assert_eq!(of("labels: {a: {cluster: [milan, rome]}}"), [["milan", "rome"]]);
        let text = "cluster: [milan, rome]\nlabels: {a: {}, b: {cluster: oslo}, c: {cluster: null}}";
        assert_eq!(of(text), [vec!["milan", "rome"], vec!["oslo"], vec![]]);
        // One label on both and another on one of them: a host belongs to one instance of each cluster.
        let taken = "routing: {domains: [a.example]}\nlabels: {a: {cluster: [milan, rome]}, b: {cluster: rome}}";
        let apart = taken.replace("b: {cluster: rome}", "b: {cluster: oslo}");
        assert!(parse_manifest("f", taken).unwrap_err().to_string().contains("both serve `a.example`"));
        parse_manifest("f", &apart).unwrap();
    }

    #[test]
    fn a_list_names_some_clusters_once_each() {
        for (text, told) in [
            ("cluster: []", "no cluster is named"),
            ("labels: {a: {cluster: [rome, rome]}}", "the cluster `rome` is named twice"),
            ("cluster: [Rome]", "must start with a lower-case letter"),
            ("cluster: {rome: true}", "is a map of keys"),
        ] {
            let findings = parse_manifest("f", text).unwrap_err().to_string();
            assert!(findings.contains(told), "{text}: {findings}");
        }
    }

    #[test]
    fn what_was_stored_with_one_cluster_is_read() {
        let (manifest, _) = parse_manifest("f", "labels: {a: {cluster: milan}}").unwrap();
        let resolved = manifest.labels.into_values().next().unwrap();
        let mut stored = serde_json::to_value(&resolved).unwrap();
        assert_eq!(serde_json::from_value::<Resolved>(stored.clone()).unwrap(), resolved);
        let former = stored.as_object_mut().unwrap();
        former.remove("clusters");
        assert!(serde_json::from_value::<Resolved>(former.clone().into()).unwrap().clusters.is_empty());
        former.insert("cluster".into(), "milan".into());
        assert_eq!(serde_json::from_value::<Resolved>(former.clone().into()).unwrap(), resolved);
        former.insert("cluster".into(), serde_json::Value::Null);
        assert!(serde_json::from_value::<Resolved>(former.clone().into()).unwrap().clusters.is_empty());
    }
}
