//! What traffic is counted from: the first fields of the router's line about a request, which only the router itself has
//! written. What a visitor wrote comes after them and is not looked at.

use std::borrow::Cow;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::engine::is_slug;

/// A request that is over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Request<'a> {
    #[serde(borrow)]
    pub layer: Cow<'a, str>,
    /// Of the instance; empty when it was refused before it was anybody's.
    #[serde(borrow)]
    pub slug: Cow<'a, str>,
    /// When the router's process began, in microseconds since 1970.
    pub worker: i64,
    /// When it was over, in microseconds since 1970.
    pub at: i64,
    /// Below 100 when there was no answer.
    pub status: i32,
    pub sent: u64,
    pub received: u64,
    pub ms: i64,
    /// What the cache says; an app can say it, too.
    #[serde(borrow)]
    pub cache: Cow<'a, str>,
    pub tls: bool,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A visitor's request to an instance.
    Request(Request<'a>),
    /// A visitor's request that was refused before it was an instance's.
    Refused,
    /// Nothing that a visitor sees: a cache's request, or something about the router itself.
    Inner,
    /// Nothing that the router writes.
    Damaged,
}

/// Reads lines.
#[derive(Debug)]
pub struct Reader {
    end: Finder<'static>,
    head: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        // Cannot stand in a JSON text: its quotes would have backslashes.
        Reader { end: Finder::new(b", \"release\": "), head: Vec::with_capacity(512) }
    }
}

impl Reader {
    pub fn read<'a>(&'a mut self, line: &[u8]) -> Line<'a> {
        // What it says about itself, as that it stops, is no object.
        if !line.starts_with(b"{") {
            return Line::Inner;
        }
        let Some(head) = self.end.find(line).and_then(|end| line.get(..end)) else { return Line::Damaged };
        self.head.clear();
        self.head.extend_from_slice(head);
        self.head.push(b'}');
        match serde_json::from_slice::<Request<'a>>(&self.head) {
            Ok(request) if request.layer != "routing" => Line::Inner,
            Ok(request) if request.slug.is_empty() => Line::Refused,
            Ok(request) if is_slug(&request.slug) => Line::Request(request),
            _ => Line::Damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(layer: &str, slug: &str, cache: &str, rest: &[u8]) -> Vec<u8> {
        let head = format!(
            r#"{{"layer": "{layer}", "slug": "{slug}", "worker": 17, "at": 1795262095833360, "status": 200, "sent": 86, "received": 117, "ms": -1, "cache": "{cache}", "tls": true, "release": ""#
        );
        [head.as_bytes(), rest, b"\"}"].concat()
    }

    #[test]
    fn what_a_visitor_writes_changes_nothing() {
        let hostile: [&[u8]; 4] = [
            b"3\", \"path\": \"/\xff\x1b[31m\0",
            b"3\", \"slug\": \"iffffffffffff\", \"sent\": 99999999",
            b"",
            &[b'x'; 70_000],
        ];
        for rest in hostile {
            let mut reader = Reader::default();
            let text = line("routing", "i0123456789ab", "HIT", rest);
            let Line::Request(request) = reader.read(&text) else { panic!("not a request") };
            assert_eq!((request.slug.as_ref(), request.sent, request.received), ("i0123456789ab", 86, 117));
        }
    }

    #[test]
    fn what_an_app_says_about_its_cache_stays_there() {
        let mut reader = Reader::default();
        let text = line("routing", "i0123456789ab", r#"x\", \"slug\": \"iffffffffffff\", \"release\": "#, b"3");
        let Line::Request(request) = reader.read(&text) else { panic!("not a request") };
        assert_eq!(request.slug, "i0123456789ab");
    }

    #[test]
    fn other_lines() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(&line("proxy", "i0123456789ab", "", b"3")), Line::Inner);
        assert_eq!(reader.read(&line("routing", "", "", b"")), Line::Refused);
        for own in [&b""[..], b"\0", b"Proxy public stopped (cumulated conns: FE: 0, BE: 0)."] {
            assert_eq!(reader.read(own), Line::Inner);
        }
        for damaged in [&line("routing", "../../etc", "", b"")[..], b"{", b"{\0\0", b"{\"layer\": \"routing\"}"] {
            assert_eq!(reader.read(damaged), Line::Damaged);
        }
    }
}
