//! IP access lists: single addresses, CIDR blocks and ranges, for IPv4 and IPv6.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// One entry of an `allow` or `deny` list, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessEntry {
    /// An address, a block, or a range, as the fewest blocks that cover it.
    Networks(Vec<IpNet>),
    /// The name of a list of `clusters.yml`.
    List(String),
}

/// Why an entry, or a list of them, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("{0:?} is not an address, a CIDR block, a range or a list's name")]
    Unknown(String),
    #[error("the block {text} has address bits beyond its prefix length")]
    HostBits { text: String, network: IpNet },
    #[error("the range {0} ends before it starts")]
    Backwards(String),
    #[error("the range {0} mixes IPv4 and IPv6")]
    Mixed(String),
    #[error("there is no access list named `{name}`")]
    NoList { name: String, known: Vec<String> },
}

impl AccessError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            AccessError::Unknown(_) => {
                Some("write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name".into())
            }
            AccessError::HostBits { network, .. } => {
                Some(format!("write {network} for the whole block, or the address without a prefix length"))
            }
            AccessError::Backwards(_) => Some("write the lower address first".into()),
            AccessError::Mixed(_) => None,
            AccessError::NoList { known, .. } if known.is_empty() => {
                Some("lists are defined under `access_lists` in clusters.yml".into())
            }
            AccessError::NoList { known, .. } => Some(format!("known lists: {}", known.join(", "))),
        }
    }
}

/// The addresses that a list of entries stands for.
#[derive(Debug)]
pub struct AccessList;

impl AccessList {
    /// The fewest blocks that cover `entries`, sorted, IPv4 first; names are looked up in `lists`, whose own entries
    /// are addresses only.
    pub fn resolve(entries: &[String], lists: &BTreeMap<String, Vec<String>>) -> Result<Vec<IpNet>, AccessError> {
        let no_list = |name: String| AccessError::NoList { name, known: lists.keys().cloned().collect() };
        let mut networks = Vec::new();
        for entry in entries {
            match entry.parse()? {
                AccessEntry::Networks(found) => networks.extend(found),
                AccessEntry::List(name) => {
                    for inner in lists.get(&name).ok_or_else(|| no_list(name.clone()))? {
                        match inner.parse()? {
                            AccessEntry::Networks(found) => networks.extend(found),
                            AccessEntry::List(nested) => return Err(AccessError::Unknown(nested)),
                        }
                    }
                }
            }
        }
        let mut networks = IpNet::aggregate(&networks);
        networks.sort();
        Ok(networks)
    }
}

impl FromStr for AccessEntry {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AccessEntry::Networks(vec![IpNet::from(address.to_canonical())]));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            if network.trunc() != network {
                return Err(AccessError::HostBits { text: text.into(), network: network.trunc() });
            }
            return Ok(AccessEntry::Networks(without_mapped(canonical(network))));
        }
        if is_list_name(text) {
            return Ok(AccessEntry::List(text.into()));
        }
        let range = text.split_once('-').and_then(|(a, b)| Some((address(a)?, address(b)?)));
        match range {
            Some((low, high)) if low.is_ipv4() == high.is_ipv4() && low > high => {
                Err(AccessError::Backwards(text.into()))
            }
            Some((IpAddr::V4(low), IpAddr::V4(high))) => {
                Ok(AccessEntry::Networks(IpSubnets::from(Ipv4Subnets::new(low, high, 0)).collect()))
            }
            Some((IpAddr::V6(low), IpAddr::V6(high))) => {
                let blocks = IpSubnets::from(Ipv6Subnets::new(low, high, 0));
                Ok(AccessEntry::Networks(blocks.flat_map(|block| without_mapped(canonical(block))).collect()))
            }
            Some(_) => Err(AccessError::Mixed(text.into())),
            None => Err(AccessError::Unknown(text.into())),
        }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// `::ffff:192.0.2.0/120` is `192.0.2.0/24`: a connection's IPv4 address is compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match (network.network().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(length)) if matches!(network, IpNet::V6(_)) => Ipv4Net::new(address, length).ok(),
        _ => None,
    };
    mapped.map_or(network, IpNet::V4)
}

/// A block that reaches over `::ffff:0:0/96` in pieces around it: routers compare an IPv4 visitor with IPv6 blocks under
/// that prefix, and `::/0` is to mean IPv6 alone.
fn without_mapped(network: IpNet) -> Vec<IpNet> {
    const MAPPED: u128 = 0xffff_0000_0000;
    let IpNet::V6(block) = network else { return vec![network] };
    if block.prefix_len() >= 96 || !block.contains(&std::net::Ipv6Addr::from(MAPPED)) {
        return vec![network];
    }
    let beside = |length: u8| {
        let bit = 1 << (128 - u32::from(length));
        Ipv6Net::new(std::net::Ipv6Addr::from((MAPPED ^ bit) & !(bit - 1)), length).ok().map(IpNet::V6)
    };
    (block.prefix_len() + 1..=96).filter_map(beside).collect()
}

/// Whether `text` can be the name of an access list: `[a-z][a-z0-9-]*`.
pub fn is_list_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn resolve(entries: &[&str]) -> Result<String, AccessError> {
        let lists = BTreeMap::from([
            ("office".to_owned(), vec!["198.51.100.0/25".to_owned(), "198.51.100.128/25".to_owned()]),
            ("nested".to_owned(), vec!["office".to_owned()]),
        ]);
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        let nets = AccessList::resolve(&entries, &lists)?;
        Ok(nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ipv6_blocks_mean_ipv6_alone() {
        let mapped: IpNet = "::ffff:0:0/96".parse().unwrap();
        for (text, inside) in [("::/0", 96), ("::/64", 32), ("::-ffff::", 0)] {
            let AccessEntry::Networks(blocks) = text.parse().unwrap() else { panic!("{text}") };
            assert!(inside == 0 || blocks.len() == inside, "{text}: {}", blocks.len());
            for block in &blocks {
                assert!(!block.contains(&mapped) && !mapped.contains(block), "{text}: {block}");
            }
            for address in ["::1", "::fffe:ffff:ffff", "::1:0:0:0"] {
                let address: IpAddr = address.parse().unwrap();
                assert!(blocks.iter().any(|block| block.contains(&address)), "{text}: {address}");
            }
        }
        assert_eq!(resolve(&["2001:db8::/32", "::ffff:0:0/96"]).unwrap(), "0.0.0.0/0 2001:db8::/32");
    }

    #[test]
    fn entries_become_the_fewest_blocks() {
        for (entries, expect) in [
            (&["192.0.2.7"][..], "192.0.2.7/32"),
            (&["10.0.0.0/8", "10.1.2.3"], "10.0.0.0/8"),
            (&["192.0.2.1-192.0.2.6"], "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32"),
            (&["0.0.0.0-255.255.255.255"], "0.0.0.0/0"),
            (&["2001:db8::1-2001:db8::2", "192.0.2.7"], "192.0.2.7/32 2001:db8::1/128 2001:db8::2/128"),
            (&["::ffff:192.0.2.7", "::ffff:10.0.0.0/104"], "10.0.0.0/8 192.0.2.7/32"),
            (&["office"], "198.51.100.0/24"),
            (&[], ""),
        ] {
            assert_eq!(resolve(entries).unwrap(), expect, "{entries:?}");
        }
    }

    #[test]
    fn mistakes_say_how_to_mend_them() {
        let mut out = String::new();
        for entry in
            ["10.0.0.1/8", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "300.1.1.1", "home", "Office", "nested", "10.0.0.0/33"]
        {
            let e = resolve(&[entry]).unwrap_err();
            out += &format!("{e}; {}\n", e.hint().unwrap_or_default());
        }
        insta::assert_snapshot!(out, @r#"
        the block 10.0.0.1/8 has address bits beyond its prefix length; write 10.0.0.0/8 for the whole block, or the address without a prefix length
        the range 10.0.0.9-10.0.0.1 ends before it starts; write the lower address first
        the range 10.0.0.1-::1 mixes IPv4 and IPv6; 
        "300.1.1.1" is not an address, a CIDR block, a range or a list's name; write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name
        there is no access list named `home`; known lists: nested, office
        "Office" is not an address, a CIDR block, a range or a list's name; write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name
        "office" is not an address, a CIDR block, a range or a list's name; write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name
        "10.0.0.0/33" is not an address, a CIDR block, a range or a list's name; write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name
        "#);
    }

    proptest! {
        #[test]
        fn a_range_covers_exactly_itself(low: u32, length in 0u32..5000, probe in -2i64..5002) {
            let high = low.saturating_add(length);
            let text = format!("{}-{}", Ipv4Addr::from(low), Ipv4Addr::from(high));
            let nets = AccessList::resolve(&[text], &BTreeMap::new()).unwrap();
            if let Ok(address) = u32::try_from(i64::from(low) + probe) {
                let inside = nets.iter().any(|net| net.contains(&IpAddr::from(Ipv4Addr::from(address))));
                prop_assert_eq!(inside, (low..=high).contains(&address));
            }
        }
    }
}
