//! Labels that stand for many: `preview/*` in a manifest is a label for every branch that matches, and in a grant all of
//! the labels that came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::{LabelName, NameError};
use crate::plan::hash_text;
use crate::units::Span;

/// How long a preview lives after its last deploy, when the manifest does not say.
pub const DEFAULT_EXPIRE: Span = Span(Duration::from_secs(14 * 24 * 3600));

/// The longest that a preview may be given to live from now on.
pub const LONGEST_EXPIRE: Span = Span(Duration::from_secs(365 * 24 * 3600));

/// The longest label of a preview: with the longest app's name before it, it is one part of a host name.
const LONGEST: usize = 30;

/// The longest first part of a pattern: it leaves room for what tells the previews apart.
const LONGEST_PREFIX: usize = 16;

/// Digits of the hash that stands for what a label could not keep of a branch's name.
const DIGITS: usize = 6;

/// A pattern of labels, as in `preview/*`: its labels begin with `preview-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelPattern(LabelName);

impl LabelPattern {
    /// What stands before `/*`.
    pub fn prefix(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a label is one of its.
    pub fn covers(&self, label: &LabelName) -> bool {
        label.as_str().strip_prefix(self.prefix()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The label for what its `*` stands for: in lower case, with hyphens for `/`, `_` and `.`. What else is lost, or cut
    /// because it is too long, is made up for with a hash.
    pub fn label_for(&self, rest: &str) -> Option<LabelName> {
        let room = LONGEST.saturating_sub(self.prefix().len() + 1);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_' | '.');
        let words = |text: &str| {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
        };
        let name = words(rest);
        let tail = if !name.is_empty() && name.len() <= room && rest.chars().all(is_plain) {
            name
        } else {
            let hash = hash_text(rest);
            let hash = hash.get(..DIGITS).unwrap_or_default();
            // Only ASCII is left of the name.
            let kept = name.get(..room.saturating_sub(DIGITS + 1)).unwrap_or(&name).trim_end_matches('-');
            if kept.is_empty() { hash.to_owned() } else { format!("{kept}-{hash}") }
        };
        format!("{}-{tail}", self.prefix()).parse().ok()
    }
}

impl std::str::FromStr for LabelPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |reason| Err(NameError { kind: "label pattern", value: text.chars().take(80).collect(), reason });
        let Some(prefix) = text.strip_suffix("/*") else {
            return fail("must end with `/*`, as in preview/*");
        };
        if prefix.contains(['/', '*']) {
            return fail("may hold one `/` and one `*`, at its end");
        }
        if prefix.len() > LONGEST_PREFIX {
            return fail("has more than 16 characters before `/*`");
        }
        Ok(LabelPattern(prefix.parse()?))
    }
}

impl TryFrom<String> for LabelPattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<LabelPattern> for String {
    fn from(pattern: LabelPattern) -> String {
        pattern.to_string()
    }
}

impl std::fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}/*", self.prefix()))
    }
}

/// The label that somebody means who says `preview/login-form`; any other text as it is.
pub fn spell_label(said: &str) -> String {
    let label = said.split_once('/').filter(|(_, rest)| !rest.is_empty() && *rest != "*").and_then(|(prefix, rest)| {
        let pattern: LabelPattern = format!("{prefix}/*").parse().ok()?;
        pattern.label_for(rest)
    });
    label.map_or_else(|| said.to_owned(), String::from)
}

/// The rest of a branch's name when a pattern, as in `feature/*`, matches it.
pub fn match_branch<'a>(pattern: &str, branch: &'a str) -> Option<&'a str> {
    branch.strip_prefix(pattern.strip_suffix('*')?).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn preview() -> LabelPattern {
        "preview/*".parse().unwrap()
    }

    #[test]
    fn patterns_are_checked() {
        for (text, ok) in [
            ("preview/*", true),
            ("a/*", true),
            ("preview", false),
            ("preview/x", false),
            ("a/b/*", false),
            ("*/*", false),
            ("/*", false),
            ("Preview/*", false),
            ("pre--view/*", false),
            ("preview/**", false),
            ("all/*", false),
            ("seventeen-letters/*", false),
        ] {
            assert_eq!(text.parse::<LabelPattern>().is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn branches_become_labels() {
        for (rest, label) in [
            ("login-form", "preview-login-form"),
            ("JIRA-123", "preview-jira-123"),
            ("anna/Login_Form.v2", "preview-anna-login-form-v2"),
            ("42", "preview-42"),
            ("über", "preview-ber-7d9ca6"),
            ("ü", "preview-9c1185"),
            ("a-rather-long-name-of-a-branch", "preview-a-rather-long-n-4fd19b"),
            ("a-rather-long-name-of-another", "preview-a-rather-long-n-cb8d57"),
        ] {
            let made = preview().label_for(rest).unwrap();
            let hashed = |label: &str| label.rsplit_once('-').map(|(start, _)| start.to_owned());
            // The digits are the hash's own business; that they are there, and differ, is not.
            if rest.len() > 20 || !rest.is_ascii() {
                assert_eq!(hashed(made.as_str()), hashed(label), "{rest}");
                assert!(made.as_str().len() <= LONGEST);
            } else {
                assert_eq!(made.as_str(), label);
            }
        }
    }

    #[test]
    fn a_pattern_covers_its_labels_alone() {
        let label = |text: &str| text.parse::<LabelName>().unwrap();
        assert!(preview().covers(&label("preview-x")));
        assert!(!preview().covers(&label("preview")));
        assert!(!preview().covers(&label("previews-x")));
        assert_eq!(spell_label("preview/Login"), "preview-login");
        assert_eq!(spell_label("preview/*"), "preview/*");
        assert_eq!(spell_label("staging"), "staging");
        assert_eq!(match_branch("feature/*", "feature/x/y"), Some("x/y"));
        assert_eq!(match_branch("feature/*", "feature/"), None);
    }

    proptest! {
        #[test]
        fn every_branch_has_a_label(rest in "\\PC{1,80}") {
            let label = preview().label_for(&rest).unwrap();
            prop_assert!(preview().covers(&label));
            prop_assert!(label.as_str().len() <= LONGEST);
            prop_assert_eq!(preview().label_for(&rest), Some(label));
        }
    }
}
