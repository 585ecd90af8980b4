//! From what engine and router write to our own records. Both are ours or the engine's, what stands in them is not.

use std::borrow::Cow;

use jiff::Timestamp;
use magrathea_core::logs::{Access, Cache, LogLayer, LogRecord, LogStream};
use magrathea_core::names::ReleaseNumber;
use serde::Deserialize;

use crate::engine::is_slug;

/// Whose a container's lines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    pub slug: String,
    pub layer: LogLayer,
    pub replica: String,
    pub release: Option<ReleaseNumber>,
}

#[derive(Deserialize)]
struct EngineLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    time: Timestamp,
}

/// A line of the engine's file. One that has no line end is a piece of a longer one: the engine cuts at 16 KiB.
pub fn parse_engine_line(line: &[u8], speaker: &Speaker) -> Option<LogRecord> {
    let parsed: EngineLine<'_> = serde_json::from_slice(line).ok()?;
    let whole = parsed.log.strip_suffix('\n');
    Some(LogRecord {
        time: parsed.time,
        layer: speaker.layer,
        replica: Some(speaker.replica.clone()),
        release: speaker.release,
        stream: Some(if parsed.stream == "stderr" { LogStream::Stderr } else { LogStream::Stdout }),
        more: whole.is_none(),
        text: Some(whole.unwrap_or(&parsed.log).to_owned()),
        access: None,
    })
}

/// What the router's log format writes.
#[derive(Deserialize)]
struct RouterLine {
    layer: LogLayer,
    slug: String,
    release: String,
    /// Microseconds since 1970.
    at: i64,
    address: String,
    method: String,
    host: String,
    path: String,
    protocol: String,
    status: i32,
    sent: u64,
    received: u64,
    ms: i64,
    cache: String,
    tls: bool,
    agent: String,
    referrer: String,
}

/// A line of the router's; none when it is no instance's.
pub fn parse_router_line(line: &[u8]) -> Option<(String, LogRecord)> {
    let text = String::from_utf8_lossy(line);
    // The router leaves control characters as they are, which JSON does not know.
    let parsed: RouterLine = match text.chars().any(|c| c < ' ') {
        false => serde_json::from_str(&text).ok()?,
        true => serde_json::from_str(&escaped(&text)).ok()?,
    };
    if !is_slug(&parsed.slug) {
        return None;
    }
    let public = parsed.layer == LogLayer::Routing;
    let cache = match parsed.cache.to_ascii_lowercase() {
        state if state.starts_with("hit") => Some(Cache::Hit),
        state if state.starts_with("miss") => Some(Cache::Miss),
        state if state.starts_with("bypass") => Some(Cache::Bypass),
        _ => None,
    };
    let record = LogRecord {
        time: Timestamp::from_microsecond(parsed.at).ok()?,
        layer: parsed.layer,
        replica: None,
        release: parsed.release.parse().ok().map(ReleaseNumber),
        stream: None,
        more: false,
        text: None,
        access: Some(Access {
            address: public.then_some(parsed.address),
            method: parsed.method,
            host: parsed.host,
            path: parsed.path,
            protocol: parsed.protocol,
            status: u16::try_from(parsed.status).unwrap_or(0),
            sent: parsed.sent,
            received: parsed.received,
            ms: u64::try_from(parsed.ms).unwrap_or(0),
            cache: cache.filter(|_| public),
            tls: parsed.tls,
            agent: parsed.agent,
            referrer: parsed.referrer,
        }),
    };
    Some((parsed.slug, record))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    for c in text.chars() {
        if c < ' ' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_lines() {
        let speaker = Speaker {
            slug: "i0123456789ab".into(),
            layer: LogLayer::App,
            replica: "web.1".into(),
            release: Some(ReleaseNumber(7)),
        };
        let parse = |line: &str| parse_engine_line(line.as_bytes(), &speaker);
        let line = r#"{"log":"a \"b\"\u001b[0m\ufffd\n","stream":"stderr","time":"2026-11-21T10:00:00.123456789Z"}"#;
        let record = parse(line).unwrap();
        assert_eq!(record.text.as_deref(), Some("a \"b\"\u{1b}[0m\u{fffd}"));
        assert_eq!((record.stream, record.more), (Some(LogStream::Stderr), false));
        assert!(parse(r#"{"log":"piece","stream":"stdout","time":"2026-11-21T10:00:00Z"}"#).unwrap().more);
        for bad in ["", "{", "\0\0\0", r#"{"log":1}"#] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_routers_lines() {
        let line = |slug: &str, agent: &[u8]| {
            let mut line = format!(
                r#"{{"layer": "routing", "slug": "{slug}", "release": "3", "at": 1795262095833360, "address": "203.0.113.9", "method": "GET", "host": "blog.example", "path": "/a?b", "protocol": "HTTP/2.0", "status": 200, "sent": 86, "received": 117, "ms": -1, "cache": "HIT", "tls": true, "referrer": "", "agent": ""#
            )
            .into_bytes();
            line.extend_from_slice(agent);
            line.extend_from_slice(b"\"}");
            line
        };
        let (slug, record) = parse_router_line(&line("i0123456789ab", b"evil\x1b[31m\xff")).unwrap();
        assert_eq!((slug.as_str(), record.release), ("i0123456789ab", Some(ReleaseNumber(3))));
        let access = record.access.unwrap();
        assert_eq!((access.agent.as_str(), access.cache, access.ms), ("evil\u{1b}[31m\u{fffd}", Some(Cache::Hit), 0));
        assert!(parse_router_line(&line("", b"")).is_none());
        assert!(parse_router_line(&line("../../etc", b"")).is_none());
    }
}
