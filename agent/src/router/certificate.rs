//! The certificate of names that have none: HAProxy wants one before it listens.

use magrathea_core::plan::NodeFolder;

use crate::fail::{Outcome, internal};
use crate::folders::{self, Folders};

/// Sorts before every instance's, which makes it HAProxy's default.
const NAME: &str = "00-default.pem";

/// Makes a self-signed one when there is none.
pub fn ensure_default(folders: &Folders) -> Outcome<()> {
    let file = folders.node(NodeFolder::Router).join("certs").join(NAME);
    if file.exists() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(vec!["invalid".to_owned()]);
    let made = made.map_err(|error| internal(format!("making a certificate: {error}")))?;
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    folders::write_file(&file, pem.as_bytes(), 0o600).map(|_| ())
}
