//! Access lists as HAProxy reads them: one CIDR block a line.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use crate::{InstanceInput, LayerError};

/// The blocks of a list of addresses, CIDR blocks, ranges `a-b` and names of other lists, sorted, one a line.
pub fn render_list(input: &InstanceInput<'_>, key: &str, entries: &[String]) -> Result<String, LayerError> {
    let mut blocks = BTreeSet::new();
    for entry in entries {
        match input.access_lists.get(entry) {
            // A list's entries are never names again, so no list can contain itself.
            Some(list) => {
                for entry in list {
                    blocks.extend(blocks_of(&format!("access_lists.{entry}"), entry)?);
                }
            }
            None => blocks.extend(blocks_of(key, entry)?),
        }
    }
    Ok(blocks.iter().map(|block| format!("{block}\n")).collect())
}

fn blocks_of(key: &str, entry: &str) -> Result<Vec<IpNet>, LayerError> {
    let entry = entry.trim();
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(vec![address.into()]);
    }
    if let Ok(block) = entry.parse::<IpNet>() {
        return Ok(vec![block.trunc()]);
    }
    if let Some((first, last)) = entry.split_once('-') {
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) if first <= last => {
                return Ok(IpSubnets::from(Ipv4Subnets::new(first, last, 0)).collect());
            }
            (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) if first <= last => {
                return Ok(IpSubnets::from(Ipv6Subnets::new(first, last, 0)).collect());
            }
            _ => {}
        }
    }
    Err(LayerError::new(key, format!("{entry:?} is neither an address, a CIDR block, a range nor a known access list"))
        .hint("as in 192.0.2.7, 10.0.0.0/8, 2001:db8::/32, 192.0.2.1-192.0.2.9, or a list of clusters.yml"))
}
