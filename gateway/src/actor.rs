//! Who acts. Having an [`Actor`] means that somebody was authenticated.

use magrathea_core::names::PersonId;

/// A person whose token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub person: PersonId,
    /// As shown in the timeline.
    pub name: String,
}

/// The name under which the gateway's own acts stand in the timeline.
pub const GATEWAY: &str = "gateway";
