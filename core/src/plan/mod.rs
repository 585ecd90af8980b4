//! A plan: the immutable list of every resource of an instance (or of a cluster's shared services) with every
//! rendered text in it. Apply walks the list in layer order and has no choice left.

mod diff;
mod resource;

pub use diff::{Change, ChangeKind, FieldChange, diff_plans};
pub use resource::*;

use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, InstanceId, Layer, ReleaseNumber};

/// What a plan is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One release of one instance.
    Instance { instance: InstanceId, release: ReleaseNumber },
    /// A cluster's shared layer services.
    Cluster { cluster: ClusterName },
}

/// The complete desired state of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub subject: Subject,
    /// Counts the plans of a subject, from 1.
    pub generation: u64,
    /// The hash of the plan this one follows; none for the first.
    pub parent: Option<String>,
    /// In layer order, and within a layer in the order of application.
    pub resources: Vec<Resource>,
}

impl Plan {
    /// Makes a plan; puts the resources in layer order, keeping the given order within a layer.
    pub fn new(subject: Subject, generation: u64, parent: Option<String>, mut resources: Vec<Resource>) -> Self {
        resources.sort_by_key(|r| r.layer);
        Plan { subject, generation, parent, resources }
    }

    /// The hash over all resources: two plans with the same hash ask for the same state.
    pub fn hash(&self) -> String {
        let hashes: Vec<_> = self.resources.iter().map(|r| (&r.key, r.hash())).collect();
        hash_of(&hashes)
    }

    /// The release that it lays out; none for a cluster's.
    pub fn release(&self) -> Option<ReleaseNumber> {
        match self.subject {
            Subject::Instance { release, .. } => Some(release),
            Subject::Cluster { .. } => None,
        }
    }

    /// The images that its services run.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().filter_map(|resource| match &resource.spec {
            Spec::Service(service) => Some(service.image.as_str()),
            _ => None,
        })
    }

    /// The resource with this key.
    pub fn get(&self, key: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.key == key)
    }
}

/// One thing to bring about, named by its key within the subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub layer: Layer,
    /// Stable over releases, as in `db/mysql` or `app/web`.
    pub key: String,
    pub spec: Spec,
}

impl Resource {
    /// The hash of everything the resource asks for, in hex.
    pub fn hash(&self) -> String {
        hash_of(&self.spec)
    }
}

/// SHA-256 over the JSON form, in hex. JSON of these types is stable: maps are ordered.
pub fn hash_of<T: Serialize>(value: &T) -> String {
    use sha2::{Digest, Sha256};
    let json = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(json))
}

/// SHA-256 of a text, in hex.
pub fn hash_text(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text.as_bytes()))
}
