//! The gateway's own certificate authority.

/// The authority, with the gateway's own certificates.
pub struct Pki {}
