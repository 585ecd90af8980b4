//! Release images on their way from one node to another: written as `config` and `layers/N`, and read by nothing that is not
//! checked against the id that was asked for. The id is the digest of the configuration, which names the digest of each layer.

mod pack;
mod unpack;

use std::path::Path;

use tempfile::NamedTempFile;

use crate::fail::{Doing, Outcome};

pub use pack::pack;
pub use unpack::{check, unpack};

/// Starts the names of files that hold an image on its way.
pub const START: &str = "image-";

/// The largest configuration of an image, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// A file for an image, which goes when it is dropped.
pub fn spool(folder: &Path) -> Outcome<NamedTempFile> {
    tempfile::Builder::new().prefix(START).tempfile_in(folder).doing(|| "making room for an image".into())
}

fn layer_name(number: usize) -> String {
    format!("layers/{number}")
}
