//! Access lists as HAProxy reads them: one CIDR block a line.

use magrathea_core::access::AccessList;

use crate::{InstanceInput, LayerError};

/// The fewest blocks that cover a list of addresses, blocks, ranges and names of lists, sorted, one a line.
pub fn render_list(input: &InstanceInput<'_>, key: &str, entries: &[String]) -> Result<String, LayerError> {
    let blocks = AccessList::resolve(entries, input.access_lists).map_err(|error| LayerError {
        path: key.to_owned(),
        message: error.to_string(),
        hint: error.hint(),
    })?;
    Ok(blocks.iter().map(|block| format!("{block}\n")).collect())
}
