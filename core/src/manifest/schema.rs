//! The JSON Schema of `magrathea.yml`: the sections once as the app's defaults, once more in every label.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sections;
use super::clusters::Clusters;
use crate::names::AppName;
use crate::schema::format::{Branch, LabelKey, keys};
use crate::schema::json_schema;
use crate::units::Span;

/// The keys beside the sections at the top of the file.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Top {
    /// The app's name; the folder's name when absent.
    app: Option<AppName>,
    /// The cluster that its labels live on, or a list of several, with an instance on each; the gateway's only cluster when absent.
    cluster: Option<Clusters>,
}

/// The keys beside the sections in a label.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct LabelHead {
    /// The cluster that the label lives on, or a list of several, with an instance on each; what the file says for all labels when absent.
    #[allow(dead_code, reason = "read where it stands, because the file's own counts, too")]
    pub cluster: Option<Clusters>,
    /// The git branch that is deployed to it; for a pattern one such as `feature/*`, its own name when absent.
    #[schemars(with = "Option<Branch>")]
    pub branch: Option<String>,
    /// Whether what destroys asks for the label's name, and prompts are red; by default only the label `production` is.
    pub protected: Option<bool>,
    /// Only for a pattern, as in `preview/*`: how long each preview lives after its last deploy; 14 days when absent.
    pub expire: Option<Span>,
}

/// The JSON Schema of `magrathea.yml`, for editors and for [`super::parse_manifest`] itself.
pub fn manifest_json_schema() -> Value {
    let sections = properties(json_schema::<Sections>());
    let mut overrides = Value::Object(sections.clone());
    remove_defaults(&mut overrides);

    let mut label = properties(json_schema::<LabelHead>());
    label.extend(overrides.as_object().cloned().unwrap_or_default());
    let mut top = properties(json_schema::<Top>());
    top.extend(sections);
    top.insert(
        "labels".into(),
        json!({
            "description": "Named variants of the app: what they say goes over the file's defaults, key by key; \
                            maps merge, lists and single values replace, `null` resets to the platform's default. A name \
                            such as `preview/*` stands for one label per branch.",
            "type": ["object", "null"],
            "propertyNames": keys::<LabelKey>(),
            "additionalProperties": {
                "description": "A variant of the app, and the clusters that it lives on.",
                "type": "object", "properties": label, "additionalProperties": false,
            },
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "magrathea.yml",
        "description": "An application, section by section, and its labels. Every key may be left out.",
        "type": ["object", "null"],
        "properties": top,
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    })
}

fn properties(mut schema: Map<String, Value>) -> Map<String, Value> {
    match schema.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    }
}

/// A label inherits from the file, so the defaults stated there are not the label's.
fn remove_defaults(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("type")
                || map.contains_key("anyOf")
                || map.contains_key("oneOf")
                || map.contains_key("enum")
            {
                map.remove("default");
            }
            map.values_mut().for_each(remove_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_defaults),
        _ => {}
    }
}
