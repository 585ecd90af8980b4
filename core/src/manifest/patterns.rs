//! Labels that stand for many: what such a label may say, and what it comes to for one branch.

use std::time::Duration;

use super::parse::Key;
use super::semantics::Subject;
use super::{Manifest, Pattern, Preview, Resolved};
use crate::names::LabelName;
use crate::previews::{LONGEST_EXPIRE, match_branch};
use crate::schema::check::{Checker, join};

/// A preview that expires sooner is gone before anybody has looked at it.
const SHORTEST_EXPIRE: Duration = Duration::from_secs(60);

/// Checks what is said of patterns, and that no two labels of the file can be taken for each other.
pub(super) fn check_patterns(checker: &mut Checker<'_>, subjects: &[Subject]) {
    for subject in subjects {
        match &subject.key {
            Key::Label(label) => check_label(checker, subject, label, subjects),
            Key::Pattern(_) => check_pattern(checker, subject, subjects),
        }
    }
}

fn check_label(checker: &mut Checker<'_>, subject: &Subject, label: &LabelName, subjects: &[Subject]) {
    let mut report = |key: &str, message: String, hint: &str| {
        checker.report(subject.mark, &join(&subject.path, key), message, Some(hint.into()));
    };
    if subject.head.branch.as_ref().is_some_and(|branch| branch.ends_with('*')) {
        let hint = "name one branch, or make the label a pattern too, as in \"preview/*\"";
        report("branch", format!("`{label}` is one label and cannot follow many branches"), hint);
    }
    if subject.head.expire.is_some() {
        report("expire", format!("`{label}` is no pattern; it does not expire"), "leave it out");
    }
    for pattern in patterns(subjects).filter(|pattern| pattern.covers(label)) {
        let message = format!("`{label}` would be taken for one of `{pattern}`");
        checker.report(subject.mark, &subject.path, message, Some("rename one of them".into()));
    }
}

fn check_pattern(checker: &mut Checker<'_>, subject: &Subject, subjects: &[Subject]) {
    let Key::Pattern(pattern) = &subject.key else { return };
    let mut report = |key: &str, message: String, hint: String| {
        let path = if key.is_empty() { subject.path.clone() } else { join(&subject.path, key) };
        checker.report(subject.mark, &path, message, Some(hint));
    };
    if subject.head.protected == Some(true) {
        report("protected", format!("`{pattern}` expires and cannot be protected"), "leave it out".into());
    }
    if subject.head.branch.as_ref().is_some_and(|branch| !branch.ends_with("/*")) {
        report("branch", format!("`{pattern}` follows many branches"), "write it as in `feature/*`".into());
    }
    if let Some(expire) = subject.head.expire
        && !(SHORTEST_EXPIRE..=LONGEST_EXPIRE.0).contains(&expire.0)
    {
        report(
            "expire",
            format!("a preview lives from 1m to {LONGEST_EXPIRE}, not {expire}"),
            "write as in `7d`".into(),
        );
    }
    let own = format!("{}-", pattern.prefix());
    if let Some(other) =
        patterns(subjects).find(|other| format!("{}-", other.prefix()).starts_with(&own) && *other != pattern)
    {
        report(
            "",
            format!("labels of `{other}` would be taken for labels of `{pattern}`"),
            "rename one of them".into(),
        );
    }
    let routing = &subject.sections.routing;
    for host in routing.domains.iter().chain(&routing.redirects) {
        let taken = || {
            subjects.iter().find(|other| {
                let routing = &other.sections.routing;
                other.key != subject.key
                    && matches!(other.key, Key::Pattern(_))
                    && routing.domains.iter().chain(&routing.redirects).any(|theirs| theirs == host)
            })
        };
        let message = match host.strip_prefix("*.") {
            None => format!("every preview of `{pattern}` would serve `{host}`"),
            Some(_) => match taken() {
                Some(other) => format!("previews of `{pattern}` and of `{}` would serve the same hosts", other.key),
                None => continue,
            },
        };
        let hint = "for hosts below the cluster's domain write `routing: {domains: []}`; else put a `*` where each has \
                    its own name, as in `*.preview.blog.example`";
        report("routing.domains", message, hint.into());
    }
}

fn patterns(subjects: &[Subject]) -> impl Iterator<Item = &crate::previews::LabelPattern> {
    subjects.iter().filter_map(|subject| match &subject.key {
        Key::Pattern(pattern) => Some(pattern),
        Key::Label(_) => None,
    })
}

impl Manifest {
    /// The configuration of the label that is named: one of the file's, a preview as in `preview/login-form`, or a
    /// preview's label. `branch` is where the source is from; it says how the branch is spelled that a label is made of.
    pub fn named(&self, said: &str, branch: Option<&str>) -> Option<Resolved> {
        if let Some(resolved) = said.parse::<LabelName>().ok().and_then(|label| self.labels.get(&label)) {
            return Some(resolved.clone());
        }
        if let Some((prefix, rest)) = said.split_once('/') {
            let pattern = self.patterns.values().find(|pattern| pattern.name.prefix() == prefix)?;
            return pattern.preview(rest, true);
        }
        let label: LabelName = said.parse().ok()?;
        let pattern = self.patterns.values().find(|pattern| pattern.name.covers(&label))?;
        let of_branch = branch.and_then(|branch| pattern.preview(match_branch(&pattern.branches, branch)?, true));
        of_branch.filter(|resolved| resolved.label == label).or_else(|| {
            let rest = label.as_str().get(pattern.name.prefix().len() + 1..)?;
            pattern.preview(rest, false).filter(|resolved| resolved.label == label)
        })
    }

    /// The previews that follow a branch.
    pub fn previews_of(&self, branch: &str) -> Vec<Resolved> {
        let of = |pattern: &Pattern| pattern.preview(match_branch(&pattern.branches, branch)?, true);
        self.patterns.values().filter_map(of).collect()
    }
}

impl Pattern {
    /// What it comes to for what its `*` stands for. The branch is known when it was named, rather than read back from a
    /// label.
    fn preview(&self, rest: &str, is_known: bool) -> Option<Resolved> {
        if rest.is_empty() || rest.contains('*') {
            return None;
        }
        let label = self.name.label_for(rest)?;
        let branch = format!("{}{rest}", self.branches.strip_suffix('*')?);
        let mut sections = self.sections.clone();
        let own = label.as_str().get(self.name.prefix().len() + 1..).unwrap_or_default();
        let routing = &mut sections.routing;
        for host in routing.domains.iter_mut().chain(&mut routing.redirects) {
            if let Some(domain) = host.strip_prefix("*.") {
                *host = format!("{own}.{domain}");
            }
        }
        Some(Resolved {
            label,
            clusters: self.clusters.clone(),
            branch: is_known.then(|| branch.clone()),
            protected: Some(false),
            preview: Some(Preview { pattern: self.name.clone(), branch, expire: self.expire }),
            sections,
            origins: self.origins.clone(),
        })
    }
}
