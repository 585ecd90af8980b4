//! Where a drain may lead to. Its address is a person's of one team: it must not make the gateway speak to what only the
//! gateway reaches.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, bail};
use ipnet::IpNet;
use reqwest::Url;

/// How lines are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Batches of NDJSON.
    Http { url: Url },
    /// RFC 5424, with each message's length before it.
    Syslog { host: String, port: u16, tls: bool },
}

/// Addresses beside the public ones that drains may lead to.
#[derive(Debug, Clone, Default)]
pub struct Allowed(pub Vec<IpNet>);

impl Target {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.len() > 2048 {
            bail!("an address is no longer than 2048 bytes");
        }
        let url = Url::parse(text).map_err(|error| anyhow::anyhow!("it is not an address: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).context("it names no host")?.to_owned();
        match url.scheme() {
            "http" | "https" => Ok(Target::Http { url }),
            "syslog" | "syslog+tls" => {
                let tls = url.scheme() == "syslog+tls";
                if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
                    bail!("a syslog address is a host and a port alone");
                }
                let port = url.port().unwrap_or(if tls { 6514 } else { 601 });
                Ok(Target::Syslog { host: host.trim_matches(['[', ']']).to_owned(), port, tls })
            }
            other => bail!("{other}:// is not known: http://, https://, syslog:// (TCP) and syslog+tls:// are"),
        }
    }

    /// As everybody may see it: without a password and without the query, which as a rule holds a token.
    pub fn shown(&self) -> String {
        match self {
            Target::Http { url } => {
                let mut url = url.clone();
                if url.password().is_some() {
                    let _ = url.set_password(Some("***"));
                }
                if url.query().is_some() {
                    url.set_query(Some("***"));
                }
                url.to_string()
            }
            Target::Syslog { host, port, tls } => {
                let scheme = if *tls { "syslog+tls" } else { "syslog" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("{scheme}://{host}:{port}")
            }
        }
    }
}

impl Allowed {
    /// Whether a drain may speak to an address.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address)) || is_public(address)
    }
}

/// Whether an address is of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let special = a == 0 || a >= 224 || (a == 192 && b == 0 && c == 0) || (a == 198 && (18..20).contains(&b));
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation() || shared || special)
        }
        IpAddr::V6(v6) => {
            let translated = v6.segments().starts_with(&[0x64, 0xff9b]) || v6.segments().starts_with(&[0x2002]);
            is_global_unicast(v6) && !translated
        }
    }
}

/// 2000::/3, without what is set aside in it for documentation.
fn is_global_unicast(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments.first().is_some_and(|first| first & 0xe000 == 0x2000) && !segments.starts_with(&[0x2001, 0xdb8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_how_they_are_shown() {
        for (text, shown) in [
            ("https://logs.example/in?token=abc", "https://logs.example/in?***"),
            ("https://me:secret@logs.example/", "https://me:***@logs.example/"),
            ("syslog://logs.example", "syslog://logs.example:601"),
            ("syslog+tls://[2001:4860::1]:7000", "syslog+tls://[2001:4860::1]:7000"),
        ] {
            assert_eq!(Target::parse(text).unwrap().shown(), shown);
        }
        for bad in ["", "logs.example", "ftp://x/", "file:///etc/passwd", "syslog://x/path", "http://", "syslog://u@x"]
        {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_only_the_gateway_reaches_is_refused() {
        let nobody = Allowed::default();
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "100.64.0.1",
            "64:ff9b::a00:1",
            "224.0.0.1",
        ] {
            assert!(!nobody.admits(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "2606:4700::1111"] {
            assert!(nobody.admits(address.parse().unwrap()), "{address}");
        }
        assert!(Allowed(vec!["10.0.0.0/8".parse().unwrap()]).admits("10.1.2.3".parse().unwrap()));
    }
}
