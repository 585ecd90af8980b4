//! Version constraints as composer writes them (<https://getcomposer.org/doc/articles/versions.md>),
//! for platform packages, whose versions have no stability.

type Version = [u64; 3];

/// Whether some patch release of `minor` (as in `8.4`) satisfies `constraint`; none when it is not understood.
///
/// The image's patch level follows Debian's security updates, so only composer itself can judge it, at build time.
pub(crate) fn allows(constraint: &str, minor: &str) -> Option<bool> {
    let [major, minor, _] = parse_version(minor)?.0;
    let alternatives = parse(constraint)?;
    Some((0..100).any(|patch| alternatives.iter().any(|all| all.iter().all(|one| one.accepts([major, minor, patch])))))
}

/// From (inclusive) and to (exclusive), or everything but that.
struct Bounds {
    from: Version,
    to: Option<Version>,
    is_negated: bool,
}

impl Bounds {
    fn accepts(&self, version: Version) -> bool {
        let inside = version >= self.from && self.to.is_none_or(|to| version < to);
        inside != self.is_negated
    }
}

fn between(from: Version, to: Version) -> Bounds {
    Bounds { from, to: Some(to), is_negated: false }
}

fn at_least(from: Version) -> Bounds {
    Bounds { from, to: None, is_negated: false }
}

/// Alternatives (`||`), each a list of bounds that hold together (`,` or blank).
fn parse(text: &str) -> Option<Vec<Vec<Bounds>>> {
    text.replace("||", "|").split('|').map(parse_all).collect()
}

fn parse_all(text: &str) -> Option<Vec<Bounds>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (from, _) = parse_version(low.trim())?;
        let (high, parts) = parse_version(high.trim())?;
        return Some(vec![between(from, bump(high, parts.min(3)))]);
    }
    // An operator may stand apart from its version: `>= 8.1`.
    let mut joined = text.replace(',', " ");
    for operator in [">=", "<=", "!=", "==", ">", "<", "=", "^", "~"] {
        while joined.contains(&format!("{operator} ")) {
            joined = joined.replace(&format!("{operator} "), operator);
        }
    }
    let all: Option<Vec<Bounds>> = joined.split_whitespace().map(parse_one).collect();
    all.filter(|bounds| !bounds.is_empty())
}

fn parse_one(text: &str) -> Option<Bounds> {
    let text = text.split('@').next().filter(|t| !t.is_empty())?;
    let operator_end = text.find(|c: char| !"<>=!^~".contains(c))?;
    let (operator, version) = text.split_at_checked(operator_end)?;
    if matches!(version, "*" | "x" | "X") && operator.is_empty() {
        return Some(at_least([0; 3]));
    }
    let is_wildcard = version.ends_with(".*") || version.ends_with(".x");
    let (version, parts) = parse_version(version.trim_end_matches(".*").trim_end_matches(".x"))?;
    Some(match operator {
        "" | "=" | "==" if is_wildcard => between(version, bump(version, parts)),
        "" | "=" | "==" => between(version, bump(version, 3)),
        "!=" => Bounds { is_negated: true, ..between(version, bump(version, if is_wildcard { parts } else { 3 })) },
        ">=" => at_least(version),
        ">" => at_least(bump(version, 3)),
        "<" => between([0; 3], version),
        "<=" => between([0; 3], bump(version, 3)),
        // The last given part may rise, but for the first.
        "~" => between(version, bump(version, parts.saturating_sub(1).max(1))),
        // The first part that is not zero stays.
        "^" => {
            let first = version.iter().take(parts).position(|n| *n != 0).unwrap_or(parts.saturating_sub(1));
            between(version, bump(version, first + 1))
        }
        _ => return None,
    })
}

/// A version and how many parts were given.
fn parse_version(text: &str) -> Option<(Version, usize)> {
    let text = text.trim_start_matches(['v', 'V']);
    let text = text.split('-').next()?;
    let mut version = [0; 3];
    let mut parts = 0;
    for (n, part) in text.split('.').enumerate() {
        // A fourth part says nothing about a platform's version.
        let number = part.parse().ok()?;
        if let Some(slot) = version.get_mut(n) {
            *slot = number;
            parts = n + 1;
        }
    }
    Some((version, parts))
}

/// The next version after all that share the first `parts` parts.
fn bump(version: Version, parts: usize) -> Version {
    let mut next = [0; 3];
    for (n, slot) in next.iter_mut().enumerate().take(parts) {
        let part = version.get(n).copied().unwrap_or_default();
        *slot = if n + 1 == parts { part.saturating_add(1) } else { part };
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constraints_mean_what_composer_means() {
        for (constraint, expect) in [
            ("*", Some(true)),
            ("8.4", Some(true)),
            ("8.4.*", Some(true)),
            ("8.*", Some(true)),
            ("7.*", Some(false)),
            ("^8.1", Some(true)),
            ("^8.5", Some(false)),
            ("^7.4 || ^8.0", Some(true)),
            ("^7.4|^8.0", Some(true)),
            ("^7.2.5", Some(false)),
            ("~8.4.3", Some(true)),
            ("~8.3.3", Some(false)),
            ("~8.1", Some(true)),
            ("~8", Some(true)),
            (">=7.4", Some(true)),
            (">= 7.4", Some(true)),
            (">=7.4,<8.4", Some(false)),
            (">=7.4 <8.5", Some(true)),
            (">8.4", Some(true)),
            ("<8.4.5", Some(true)),
            ("<=8.3", Some(false)),
            ("!=8.4.1", Some(true)),
            ("!=8.4.*", Some(false)),
            ("8.1 - 8.3", Some(false)),
            ("8.1 - 8.4", Some(true)),
            ("7.4 - 8.4.2", Some(true)),
            ("v8.4@stable", Some(true)),
            ("^8.1-dev", Some(true)),
            ("8.4.1.2", Some(true)),
            ("", None),
            ("dev-main", None),
            ("^", None),
            ("self.version", None),
        ] {
            assert_eq!(allows(constraint, "8.4"), expect, "{constraint:?}");
        }
        assert_eq!(allows("^0.3", "0.3"), Some(true));
        assert_eq!(allows("^0.3", "0.4"), Some(false));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[0-9.*^~<>=!|, @vx-]{0,24}") {
            let _ = allows(&text, "8.4");
        }
    }
}
