//! Hides known secret values in what leaves the node. They come with the request and are never stored.

use aho_corasick::{AhoCorasick, MatchKind};
use magrathea_core::logs::LogRecord;

/// What stands in a value's place.
const MASK: &str = "[secret]";
/// Shorter values are words that stand in many lines; hiding them would hide the lines.
const SHORTEST: usize = 6;
/// Of a value of several lines, such as a key, lines from this length on are hidden each.
const SHORTEST_LINE: usize = 16;

/// Finds all values at once.
#[derive(Debug)]
pub struct Masker {
    values: Option<AhoCorasick>,
    /// The same, as they read in JSON.
    encoded: Option<AhoCorasick>,
}

impl Masker {
    pub fn new(values: &[String]) -> Self {
        let mut patterns: Vec<String> = Vec::new();
        for value in values {
            let value = value.trim();
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
            patterns.extend(lines.map(str::to_owned));
            if value.len() >= SHORTEST {
                patterns.push(value.to_owned());
                patterns.push(in_url(value));
            }
        }
        patterns.sort();
        patterns.dedup();
        let encoded: Vec<_> = patterns.iter().filter_map(|pattern| serde_json::to_string(pattern).ok()).collect();
        let encoded: Vec<_> = encoded.iter().map(|pattern| pattern.trim_matches('"').trim_end_matches('\\')).collect();
        let build = |patterns: &[&str]| {
            let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
            built.ok().filter(|_| !patterns.is_empty())
        };
        Masker { values: build(&patterns.iter().map(String::as_str).collect::<Vec<_>>()), encoded: build(&encoded) }
    }

    /// Whether a record may hold a value, judged by its JSON: most do not, and need not be taken apart.
    pub fn may_match(&self, json: &[u8]) -> bool {
        self.encoded.as_ref().is_some_and(|encoded| encoded.is_match(json))
    }

    /// Hides the values in everything that was said. Says whether there were any.
    pub fn mask(&self, record: &mut LogRecord) -> bool {
        let Some(values) = &self.values else { return false };
        let access = record.access.iter_mut().flat_map(|access| {
            [&mut access.host, &mut access.path, &mut access.agent, &mut access.referrer, &mut access.method]
        });
        let mut masked = false;
        for text in record.text.iter_mut().chain(access) {
            if values.is_match(text.as_str()) {
                *text = values.replace_all(text, &vec![MASK; values.patterns_len()]);
                masked = true;
            }
        }
        masked
    }
}

/// As a value reads in a URL.
fn in_url(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use magrathea_core::logs::LogLayer;

    use super::*;

    #[test]
    fn values_are_hidden() {
        let masker =
            Masker::new(&["hunter2-\"quoted\"".into(), "abc".into(), "-----BEGIN\nMIIEvQIBADANBgkqhkiG\nabc\n".into()]);
        for (text, expect) in [
            ("the password is hunter2-\"quoted\"!", "the password is [secret]!"),
            ("/?p=hunter2-%22quoted%22&x", "/?p=[secret]&x"),
            ("abc stays", "abc stays"),
            ("key MIIEvQIBADANBgkqhkiG", "key [secret]"),
        ] {
            let mut record = LogRecord::notice(jiff::Timestamp::UNIX_EPOCH, LogLayer::App, text);
            assert_eq!(masker.may_match(&serde_json::to_vec(&record).unwrap()), text != expect);
            assert_eq!(masker.mask(&mut record), text != expect);
            assert_eq!(record.line(), expect);
        }
        assert!(!Masker::new(&["a".into(), String::new()]).may_match(b"a"));
    }
}
