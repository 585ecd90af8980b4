//! Certificates of apps.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCertificate {
    /// PEM, leaf first.
    pub chain: String,
    /// PEM.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CertificateInfo {
    pub name: String,
    pub subjects: Vec<String>,
    #[schema(value_type = String)]
    pub expires: jiff::Timestamp,
}
