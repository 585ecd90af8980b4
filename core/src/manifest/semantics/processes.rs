//! Process types and their health checks.

use super::{Finding, LEAST_MEMORY, Sections, Subject, error, warning};
use crate::names::WEB;
use crate::units::Span;

/// Most process types beside the one that visitors reach.
const MOST_WORKERS: usize = 16;

/// A health check is of one kind. What the file does not say has no say in that.
pub(super) fn check_health(subject: &Subject, findings: &mut Vec<Finding>) {
    let health = &subject.sections.app_layer.health;
    let says = |key: &str| subject.tree.says(&["app_layer", "health", key]);
    let of_http: Vec<&str> = ["path", "expect", "contains"].into_iter().filter(|key| says(key)).collect();
    let kind = match (health.tcp, &health.command) {
        (true, Some(_)) => {
            let message = "the health check cannot be a connection and a command".into();
            findings.push(error(&["app_layer", "health", "tcp"], message, "keep `tcp` or `command`"));
            return;
        }
        (true, None) => "tcp",
        (false, Some(_)) => "command",
        (false, None) => "path",
    };
    if let (false, Some(key)) = (kind == "path", of_http.first()) {
        findings.push(error(
            &["app_layer", "health", key],
            format!("`{key}` belongs to a request, but the health check is `{kind}`"),
            format!("keep `{kind}` or `{key}`; in a label, `{key}: null` takes away what the file says"),
        ));
    }
    if kind == "tcp" && health.attempts.is_some() {
        findings.push(error(
            &["app_layer", "health", "attempts"],
            "a connection is made or not: there is no wrong answer to count".into(),
            "leave it out; `timeout` says how long to wait",
        ));
    }
    check_times(&["app_layer", "health"], (health.interval, health.attempt_timeout, health.timeout), findings);
}

pub(super) fn check_workers(sections: &Sections, findings: &mut Vec<Finding>) {
    if sections.app_layer.workers.len() > MOST_WORKERS {
        let message = format!("there are more than {MOST_WORKERS} kinds of workers");
        findings.push(error(&["app_layer", "workers"], message, "let one worker do several kinds of work"));
    }
    for (name, worker) in &sections.app_layer.workers {
        let name = name.as_str();
        let at = |key| ["app_layer", "workers", name, key];
        if name == WEB {
            findings.push(error(
                &["app_layer", "workers", name],
                "`web` is the process type that visitors reach".into(),
                "its settings stand in `app_layer` itself; choose another name",
            ));
        }
        if worker.run.is_none() {
            findings.push(error(
                &["app_layer", "workers", name],
                format!("the worker `{name}` has nothing to run"),
                "add its command, as in `run: php worker.php`",
            ));
        }
        if worker.memory < LEAST_MEMORY {
            findings.push(error(
                &at("memory"),
                format!("a replica does not start in {}", worker.memory),
                format!("give it at least {LEAST_MEMORY}"),
            ));
        }
        let health = &worker.health;
        if let (None, Some(_)) = (&health.command, health.attempts.map(drop).or(health.interval.map(drop))) {
            findings.push(warning(
                &at("health"),
                "there is nothing to ask: the health check has no command".into(),
                "add `command`, or leave the others out",
            ));
        }
        check_times(&at("health"), (health.interval, health.attempt_timeout, health.timeout), findings);
    }
}

fn check_times(at: &[&str], (interval, attempt, all): (Option<Span>, Span, Span), findings: &mut Vec<Finding>) {
    for (key, span) in [("interval", interval), ("attempt_timeout", Some(attempt)), ("timeout", Some(all))] {
        let Some(span) = span else { continue };
        let path: Vec<&str> = at.iter().copied().chain([key]).collect();
        if span.0.is_zero() && key != "interval" {
            findings.push(error(&path, "is no time at all".into(), "write a duration, as in 10s"));
        } else if key == "interval" && span > all {
            let message = format!("{span} is longer than the {all} that there are for all of it");
            findings.push(error(&path, message, "shorten it, or raise `timeout`"));
        }
    }
}
