//! Who acts. Having an [`Actor`] means that somebody was authenticated.

use std::net::IpAddr;
use std::sync::Arc;

use magrathea_core::names::{KeyId, OrganisationId, PersonId, TokenId};
use magrathea_core::people::{Access, Place, Verb};

/// A person who proved who they are, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub person: PersonId,
    /// As shown in the timeline.
    pub name: String,
    /// The organisation that the person belongs to.
    pub organisation: OrganisationId,
    pub credential: Credential,
    /// Where they are.
    pub address: Option<IpAddr>,
    pub access: Arc<Access>,
}

/// What somebody proved themselves with: when it goes, all that was opened with it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    Token(TokenId),
    Key(KeyId),
    /// The gateway's own command line.
    Local,
}

impl Actor {
    pub fn may(&self, verb: Verb, place: Place<'_>) -> bool {
        self.access.may(verb, place)
    }

    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical());
        self
    }
}

/// The name under which the gateway's own acts stand in the timeline.
pub const GATEWAY: &str = "gateway";
