//! The API's objects, with ages that stay the same however late it is.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

pub const DEPLOY: &str = "01934b7c-0000-7000-8000-000000000001";

/// An hour count ago.
pub fn hours_ago(hours: u64) -> Timestamp {
    Timestamp::now() - Duration::from_secs(hours * 3_600 + 60)
}

pub fn serving(release: u32, replicas: usize) -> Value {
    let replica =
        |n| json!({"container": format!("{n}23456789abcdef0"), "address": format!("172.18.0.{n}:8080"), "state": "up"});
    json!({"release": release, "replicas": (1..=replicas).map(replica).collect::<Vec<_>>()})
}

pub fn instance(label: &str, release: u32) -> Value {
    json!({
        "id": "01934b7c-0000-7000-8000-00000000000a",
        "app": "blog", "label": label, "cluster": "local", "protected": label == "production",
        "urls": [format!("http://blog-{label}.localhost:8080/")],
        "release": {
            "number": release, "image": "sha256:0123456789abcdef", "size": 312_000_000,
            "commit": "0123456789abcdef0123456789abcdef01234567", "message": "Mend the \u{1b}[31mheader", "author": "Ada",
            "created": hours_ago(3),
        },
        "serving": serving(release, 2), "state": "serving", "deploy": null,
    })
}

pub fn app(labels: &[&str]) -> Value {
    let instances: Vec<_> = labels.iter().map(|label| instance(label, 12)).collect();
    json!({
        "id": "01934b7c-0000-7000-8000-00000000000b",
        "name": "blog", "organisation": "operator", "created": hours_ago(72), "instances": instances,
    })
}

/// A deploy of release 12 with some fields of its own.
pub fn deploy(fields: &Value) -> Value {
    let mut deploy = json!({
        "id": DEPLOY, "app": "blog", "label": "default", "cluster": "local",
        "instance": "01934b7c-0000-7000-8000-00000000000a",
        "status": "running", "phase": "receive", "release": null, "urls": [], "serving": null, "failure": null,
        "person": "admin", "created": hours_ago(3), "finished": null,
    });
    for (key, value) in fields.as_object().unwrap() {
        deploy[key] = value.clone();
    }
    deploy
}

/// The answer to a source for a label on one cluster.
pub fn begun(deploy: &Value) -> Value {
    json!([{"label": deploy["label"], "cluster": deploy["cluster"], "deploy": deploy, "error": null}])
}

/// The same app's label on several clusters.
pub fn spread(label: &str, clusters: &[&str]) -> Value {
    let mut spread = app(&vec![label; clusters.len()]);
    for (n, cluster) in clusters.iter().enumerate() {
        spread["instances"][n]["cluster"] = json!(cluster);
    }
    spread
}

pub fn succeeded() -> Value {
    deploy(&json!({
        "status": "succeeded", "phase": "record", "release": 12, "urls": ["http://blog.localhost:8080/"],
        "serving": serving(12, 1), "finished": hours_ago(3) + Duration::from_millis(1_440),
    }))
}

pub fn failed(phase: &str, code: &str) -> Value {
    deploy(&json!({
        "status": "failed", "phase": phase, "serving": serving(11, 1),
        "failure": {
            "phase": phase, "code": code, "message": "the command `make` ended with 2",
            "hint": "run it on your own machine", "log_tail": ["first\u{1b}[2J line", "last line"],
        },
    }))
}

pub fn error(code: &str, message: &str, hint: Option<&str>) -> Value {
    json!({"code": code, "message": message, "hint": hint, "request": "req-1"})
}

pub fn cluster() -> Value {
    json!({
        "name": "local", "domain": "localhost", "instances": 1,
        "capacity": {
            "memory": {"total": 6_u64 << 30, "promised": 1536_u64 << 20},
            "millicpus": {"total": 8000, "promised": 500},
            "disk": {"total": 90_u64 << 30, "promised": 100_u64 << 30},
        },
        "nodes": [{
            "name": "node1", "address": "127.0.0.1", "zone": "rack-1", "state": "connected", "last_seen": hours_ago(3),
            "layers": ["storage", "db", "app", "proxy", "routing", "support"],
            "report": {
                "hostname": "box", "engine_version": "20.10.24", "swarm": "manager", "cpus": 2,
                "memory": 8_u64 << 30, "disk_total": 100_u64 << 30, "disk_free": 42_u64 << 30,
                "instance_gateway": "172.18.0.1", "images": {},
            },
            "services": [{"layer": "routing", "name": "router", "running": 1, "wanted": 1}],
        }, {
            "name": "node2", "address": "127.0.0.2", "state": "new", "last_seen": null, "layers": ["app"],
            "report": null, "services": [],
        }],
    })
}

/// Numbered events, one per line.
pub fn events(first: u64, kinds: &[Value]) -> String {
    let mut out = String::new();
    for (n, kind) in kinds.iter().enumerate() {
        let mut event = json!({"sequence": first + n as u64, "at": "2026-01-02T03:04:05Z"});
        event.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        out.push_str(&format!("{event}\n\n"));
    }
    out
}

pub fn started(phase: &str) -> Value {
    json!({"event": "phase_started", "phase": phase})
}

pub fn finished(phase: &str, milliseconds: u64, detail: &str) -> Value {
    json!({"event": "phase_finished", "phase": phase, "milliseconds": milliseconds, "detail": detail})
}

pub fn log(phase: &str, line: &str) -> Value {
    json!({"event": "log", "phase": phase, "line": line})
}

pub fn warning(message: &str) -> Value {
    json!({"event": "warning", "message": message})
}

pub fn over(deploy: &Value) -> Value {
    json!({"event": "finished", "deploy": deploy})
}
