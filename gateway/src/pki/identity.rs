//! Which node a client certificate speaks for: the URI `magrathea://CLUSTER/NODE` among its alternative names.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::hub::NodeRef;

/// Who an agent's certificate says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeRef,
    /// In hex, without leading zeros.
    pub serial: String,
}

/// The URI that names a node in its certificate.
pub(super) fn uri_of(node: &NodeRef) -> String {
    format!("magrathea://{}/{}", node.cluster, node.node)
}

/// Reads the identity out of a certificate whose signature TLS has checked. None when it is not a node's.
pub fn read_identity(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let node = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => parse_uri(uri),
        _ => None,
    })?;
    Some(Identity { node, serial: hex::encode(certificate.raw_serial()) })
}

fn parse_uri(uri: &str) -> Option<NodeRef> {
    let (cluster, node) = uri.strip_prefix("magrathea://")?.split_once('/')?;
    Some(NodeRef { cluster: cluster.parse().ok()?, node: node.parse().ok()? })
}
