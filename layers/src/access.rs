//! Access lists as HAProxy reads them: one CIDR block a line.

use std::collections::BTreeMap;

use magrathea_core::access::AccessList;

use crate::LayerError;

/// The fewest blocks that cover a list of addresses, blocks, ranges and names of lists, sorted, one a line.
pub fn render_list(lists: &BTreeMap<String, Vec<String>>, key: &str, entries: &[String]) -> Result<String, LayerError> {
    let blocks = AccessList::resolve(entries, lists).map_err(|error| LayerError {
        path: key.to_owned(),
        message: error.to_string(),
        hint: error.hint(),
    })?;
    Ok(blocks.iter().map(|block| format!("{block}\n")).collect())
}
