//! What a manifest's keys mean together: mistakes that no single value shows.

mod processes;
mod replicas;

use std::collections::BTreeMap;

use super::clusters::Named;
use super::parse::Key;
use super::schema::LabelHead;
use super::{Sections, Stack, WritableKind};
use crate::diagnostics::Severity;
use crate::schema::check::{Checker, join};
use crate::units::ByteSize;
use crate::yaml::{Mark, Node};

/// A label's merged tree with its typed value.
pub(super) struct Subject {
    pub key: Key,
    pub head: LabelHead,
    pub named: Option<Named>,
    pub sections: Sections,
    pub tree: Node,
    /// Where the label's block stands.
    pub mark: Mark,
    pub path: String,
}

/// Environment that the platform sets itself.
const PLATFORM_ENV: &[&str] = &["DATABASE_URL", "HOME", "MEMCACHED_HOST", "MEMCACHED_PORT", "PORT"];
const PLATFORM_PREFIXES: &[&str] = &["DB_", "MAGRATHEA_"];

/// The least memory that a replica starts in.
const LEAST_MEMORY: ByteSize = ByteSize::mib(32);

/// A finding about the value at a path of the merged tree.
struct Finding {
    severity: Severity,
    keys: Vec<String>,
    message: String,
    hint: String,
}

fn error(keys: &[&str], message: String, hint: impl Into<String>) -> Finding {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Finding { severity: Severity::Error, keys, message, hint: hint.into() }
}

fn warning(keys: &[&str], message: String, hint: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, ..error(keys, message, hint) }
}

/// Checks one label's merged sections.
pub(super) fn check_sections(checker: &mut Checker<'_>, subject: &Subject) {
    let sections = &subject.sections;
    let mut findings = Vec::new();
    check_app_layer(sections, &mut findings);
    replicas::check_replicas(sections, &mut findings);
    processes::check_health(subject, &mut findings);
    processes::check_workers(sections, &mut findings);
    check_writable(sections, &mut findings);
    check_environment(sections, &mut findings);
    check_edge(sections, &mut findings);
    check_support(sections, &mut findings);
    for finding in findings {
        let (mark, from_label) = subject.tree.place(&finding.keys);
        let path = finding.keys.iter().fold(String::new(), |path, key| join(&path, key));
        let path = if from_label { join(&subject.path, &path) } else { path };
        checker.report(mark, &path, finding.message, Some(finding.hint));
        if let Some(last) = checker.findings.last_mut() {
            last.severity = finding.severity;
        }
    }
}

fn check_app_layer(sections: &Sections, findings: &mut Vec<Finding>) {
    let app = &sections.app_layer;
    if app.memory < LEAST_MEMORY {
        findings.push(error(
            &["app_layer", "memory"],
            format!("a replica does not start in {}", app.memory),
            format!("give it at least {LEAST_MEMORY}"),
        ));
    }
    if app.stack == Some(Stack::Php) && app.request_memory > app.memory {
        findings.push(error(
            &["app_layer", "request_memory"],
            format!("one request's {} do not fit into the replica's {}", app.request_memory, app.memory),
            "raise `app_layer.memory`",
        ));
    }
    for (value, path) in [
        (sections.db.memcache, &["db", "memcache"][..]),
        (sections.storage.quota, &["storage", "quota"]),
        (sections.db.mysql.as_ref().and_then(|m| m.quota), &["db", "mysql", "quota"]),
        (Some(sections.proxy.max_body), &["proxy", "max_body"]),
    ] {
        if value.is_some_and(|size| size < ByteSize::mib(1)) {
            findings.push(error(path, "is less than 1MiB".into(), "write a size with its unit, as in 64MiB"));
        }
    }
}

fn check_writable(sections: &Sections, findings: &mut Vec<Finding>) {
    let writable = &sections.storage.writable;
    for path in writable.keys() {
        let outer = writable.keys().find(|other| path.starts_with(&format!("{other}/")));
        if let Some(outer) = outer {
            findings.push(error(
                &["storage", "writable", path],
                format!("the writable path `{path}` lies inside the writable path `{outer}`"),
                format!("keep only `{outer}`, which holds it already"),
            ));
        }
        let root = &sections.app_layer.root;
        if root == path || root.starts_with(&format!("{path}/")) {
            findings.push(warning(
                &["storage", "writable", path],
                format!("the writable path `{path}` hides the served folder `{root}` of every later release"),
                "make only the folders writable that the app writes to",
            ));
        }
    }
    let shared = writable.values().any(|w| w.kind == WritableKind::Shared);
    if sections.storage.quota.is_some() && !shared {
        findings.push(warning(
            &["storage", "quota"],
            "the quota has nothing to limit: no writable path is `shared`".into(),
            "add a shared path to `storage.writable`, or leave the quota out",
        ));
    }
}

fn check_environment(sections: &Sections, findings: &mut Vec<Finding>) {
    let platform =
        |key: &str| PLATFORM_ENV.contains(&key) || PLATFORM_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let hint = "the platform sets it; choose another name";
    for key in sections.env.keys() {
        if platform(key) {
            findings.push(error(&["env", key], format!("`{key}` is reserved"), hint));
        }
        if sections.secrets.contains(key) {
            findings.push(error(
                &["env", key],
                format!("`{key}` stands in `env` and in `secrets`"),
                "keep it in `secrets` when its value is secret, else in `env`",
            ));
        }
    }
    for (n, key) in sections.secrets.iter().enumerate() {
        if platform(key) {
            findings.push(error(&["secrets", &n.to_string()], format!("`{key}` is reserved"), hint));
        }
        if sections.secrets.iter().take(n).any(|earlier| earlier == key) {
            findings.push(warning(&["secrets", &n.to_string()], format!("`{key}` is named twice"), "keep one"));
        }
    }
}

fn check_edge(sections: &Sections, findings: &mut Vec<Finding>) {
    let routing = &sections.routing;
    for (n, host) in routing.domains.iter().enumerate() {
        if routing.domains.iter().take(n).any(|earlier| earlier == host) {
            findings.push(error(
                &["routing", "domains", &n.to_string()],
                format!("the host `{host}` is named twice"),
                "keep one",
            ));
        }
    }
    for (n, host) in routing.redirects.iter().enumerate() {
        let (message, hint) = if routing.domains.contains(host) {
            (format!("`{host}` is both served and redirected"), "keep it in `domains` or in `redirects`")
        } else if routing.domains.is_empty() {
            let message = "there is nothing to redirect to: `routing.domains` is empty".into();
            (message, "name the host to redirect to in `routing.domains`")
        } else {
            continue;
        };
        findings.push(error(&["routing", "redirects", &n.to_string()], message, hint));
    }
    if let Some(secret) = sections.access.basic_auth.as_ref().filter(|name| !sections.secrets.contains(name)) {
        findings.push(error(
            &["access", "basic_auth"],
            format!("`{secret}` is not among the app's secrets"),
            format!("add it: `secrets: [{secret}]`"),
        ));
    }
}

fn check_support(sections: &Sections, findings: &mut Vec<Finding>) {
    let cron = &sections.support.cron;
    for (n, job) in cron.iter().enumerate() {
        if cron.iter().take(n).any(|earlier| earlier.name == job.name) {
            findings.push(error(
                &["support", "cron", &n.to_string(), "name"],
                format!("there are two cron jobs named `{}`", job.name),
                "give each its own name",
            ));
        }
    }
}

/// Checks the labels against each other: a host can belong to one instance of a cluster only. The same host on several
/// clusters is what one label on all of them has.
pub(super) fn check_labels(checker: &mut Checker<'_>, subjects: &[Subject]) {
    let mut owners: BTreeMap<_, &Subject> = BTreeMap::new();
    for subject in subjects.iter().filter(|subject| matches!(subject.key, Key::Label(_))) {
        let routing = &subject.sections.routing;
        let named = subject.named.iter().flat_map(|named| named.clusters.iter().map(|cluster| cluster.as_str()));
        let clusters = named.chain(subject.named.is_none().then_some(""));
        let hosts = routing.domains.iter().chain(&routing.redirects);
        for place in clusters.flat_map(|cluster| hosts.clone().map(move |host| (cluster, host))) {
            let Some(owner) = owners.get(&place) else {
                owners.insert(place, subject);
                continue;
            };
            let (_, host) = place;
            if owner.key != subject.key {
                let (mark, from_label) = subject.tree.place(&["routing", "domains"]);
                let mark = if from_label { mark } else { subject.mark };
                let hint = format!("give `{}` its own: `routing: {{domains: […]}}`", subject.key);
                let (one, other) = (&owner.key, &subject.key);
                let message = format!("the labels `{one}` and `{other}` both serve `{host}` on the same cluster");
                checker.report(mark, &join(&subject.path, "routing.domains"), message, Some(hint));
            }
        }
    }
}
