//! Which node a client certificate speaks for: the URI `magrathea://CLUSTER/NODE` among its alternative names. That of
//! a renewed certificate ends in `?enrolment=SERIAL`, with the serial of the one that the node got when it enrolled.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::hub::NodeRef;

/// Who an agent's certificate says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeRef,
    /// The serial of the certificate that the node enrolled with, in hex, without leading zeros.
    pub enrolment: String,
}

/// The URI that names a node in the certificate it enrols with.
pub(super) fn uri_of(node: &NodeRef) -> String {
    format!("magrathea://{}/{}", node.cluster, node.node)
}

/// The URI that names a node in a renewed certificate.
pub(super) fn uri_of_renewed(identity: &Identity) -> String {
    format!("{}?enrolment={}", uri_of(&identity.node), identity.enrolment)
}

/// Reads the identity out of a certificate whose signature TLS has checked. None when it is not a node's.
pub fn read_identity(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let (node, enrolment) = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => parse_uri(uri),
        _ => None,
    })?;
    let enrolment = enrolment.unwrap_or_else(|| hex::encode(certificate.raw_serial()));
    Some(Identity { node, enrolment })
}

fn parse_uri(uri: &str) -> Option<(NodeRef, Option<String>)> {
    let (uri, enrolment) = match uri.split_once("?enrolment=") {
        Some((uri, enrolment)) => (uri, Some(enrolment.to_owned())),
        None => (uri, None),
    };
    let (cluster, node) = uri.strip_prefix("magrathea://")?.split_once('/')?;
    Some((NodeRef { cluster: cluster.parse().ok()?, node: node.parse().ok()? }, enrolment))
}
