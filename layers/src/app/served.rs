//! What the web server and the program behind it agree on: folders and times.

use magrathea_core::manifest::WritableKind;

use crate::storage::CODE;
use crate::{InstanceInput, LayerError, check};

/// How long a request may stay silent.
pub fn timeout_seconds(input: &InstanceInput<'_>) -> u64 {
    input.sections.routing.timeout.map_or(60, |span| span.0.as_secs().max(1))
}

/// The folders whose scripts do not run: writable ones hold what visitors upload, unless the manifest says otherwise.
pub fn upload_folders(input: &InstanceInput<'_>) -> Result<Vec<String>, LayerError> {
    let mut folders = Vec::new();
    for (given, writable) in &input.sections.storage.writable {
        let path = check::relative_path(&format!("storage.writable.{given}"), given)?;
        if !writable.scripts.unwrap_or(writable.kind != WritableKind::Shared) {
            folders.push(format!("{CODE}/{path}"));
        }
    }
    Ok(folders)
}

/// The folder that is served, in the container.
pub fn document_root(input: &InstanceInput<'_>) -> Result<String, LayerError> {
    let root = check::relative_path("app_layer.root", &input.sections.app_layer.root)?;
    Ok(if root.is_empty() { CODE.to_owned() } else { format!("{CODE}/{root}") })
}
