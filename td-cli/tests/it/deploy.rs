//! `td app deploy` and what follows it.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fixtures::*;
use crate::gateway::Answer;
use crate::td::{Desk, Ended};

const POST: &str = "POST /v1/apps/blog/deploys/label";

fn events_route() -> String {
    format!("GET /v1/deploys/{DEPLOY}/events")
}

fn stream(body: String) -> Answer {
    Answer { status: 200, body, breaks: false, hangs: false, early: false }
}

/// A desk with a page whose deploy has these events.
fn desk(kinds: &[Value]) -> Desk {
    let desk = Desk::new();
    desk.file("index.php", "<?php echo 1;");
    desk.gateway.on(POST, 202, &begun(&deploy(&json!({})))).answer(&events_route(), stream(events(1, kinds)));
    desk
}

fn good() -> Vec<Value> {
    vec![
        started("receive"),
        finished("receive", 12, "1 file"),
        started("build"),
        log("build", "\u{1b}[32mInstalling\u{1b}[0m dependencies"),
        started("storage"),
        finished("storage", 30, "unchanged"),
        log("build", "done"),
        finished("build", 310, "php: index.php found"),
        warning("web/uploads hides 3 files of the release"),
        over(&succeeded()),
    ]
}

#[test]
fn a_commit_is_deployed() {
    let desk = desk(&good());
    desk.commit().file("new.php", "<?php");
    assert_snapshot!(desk.shown(&["app", "deploy"]));
    let asked = desk.gateway.asked();
    assert_eq!(asked.len(), 2, "one request before the events: {:?}", desk.gateway.lines());
    assert_eq!(asked[0].content_type, "application/zstd");
    let line = &asked[0].line;
    for part in ["branch=main", "message=First+light", "author=Ada+%3Cada%40blog.example%3E", "create=true"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains("dirty") && !line.contains("wait="), "{line}");
    assert_eq!(asked[1].line, format!("{}?after=0", events_route()));
}

#[test]
fn a_first_deploy_tells_that_it_made_the_app() {
    let mut kinds = good();
    kinds.insert(1, log("receive", "made the app blog"));
    assert_snapshot!(desk(&kinds).shown(&["app", "deploy"]));
}

#[test]
fn options_reach_the_gateway() {
    let desk = desk(&good());
    desk.commit();
    desk.td(&["app", "deploy", "--dirty", "--label", "staging", "--wait"]);
    desk.td(&["app:deploy", "--wait", "90s", "-a", "blog"]);
    let lines = desk.gateway.lines();
    for part in ["label=staging", "dirty=true", "wait=300", "commit="] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    assert!(lines[2].contains("wait=90"), "{lines:?}");
}

#[test]
fn quiet_json_and_events_are_for_programs() {
    let desk = desk(&good());
    assert_snapshot!(desk.shown(&["app", "deploy", "--quiet"]));
    let ended = desk.td(&["app", "deploy", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap()["release"], 12);
    desk.gateway.on("POST /v1/apps/blog/deploys", 202, &deploy(&json!({})));
    let ended = desk.td(&["app", "deploy", "--events", "-q"]);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), good().len());
    assert_eq!((&lines[1]["event"], &lines[1]["detail"]), (&json!("phase_finished"), &json!("1 file")));
}

#[test]
fn a_lost_stream_is_taken_up_where_it_broke() {
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    let kinds = good();
    let first = Answer { status: 200, body: events(1, &kinds[..5]), breaks: true, hangs: false, early: false };
    desk.gateway
        .on(POST, 202, &begun(&deploy(&json!({}))))
        .answer(&events_route(), first)
        // Overlaps with what was seen: nothing is shown twice.
        .answer(&events_route(), stream(events(4, &kinds[3..7])))
        .answer(&events_route(), stream(events(8, &kinds[7..])));
    assert_snapshot!(desk.shown(&["app", "deploy"]));
    let after: Vec<_> = desk.gateway.lines().into_iter().skip(1).collect();
    let route = events_route();
    assert_eq!(after, [format!("{route}?after=0"), format!("{route}?after=5"), format!("{route}?after=7")]);
}

#[test]
fn failures_are_told_with_what_serves() {
    for (phase, code, exit) in [
        ("build", "build_failed", 4),
        ("plan", "manifest_invalid", 3),
        ("health", "unhealthy", 1),
        ("routing", "rolled_back", 8),
        ("health", "interrupted", 1),
    ] {
        let desk = desk(&[started(phase), over(&failed(phase, code))]);
        let shown = desk.shown(&["app", "deploy"]);
        assert!(shown.contains(&format!("\nexit {exit}\n")), "{shown}");
        if exit == 4 {
            assert_snapshot!(shown);
        }
    }
}

#[test]
fn a_log_that_was_shown_is_not_shown_again() {
    let kinds = [
        started("build"),
        log("build", "first line"),
        log("build", "last line"),
        over(&failed("build", "build_failed")),
    ];
    assert_snapshot!(desk(&kinds).shown(&["app", "deploy"]));
}

#[test]
fn a_cancelled_deploy_failed() {
    let cancelled = deploy(&json!({"status": "cancelled", "serving": serving(11, 1)}));
    assert_snapshot!(desk(&[over(&cancelled)]).shown(&["app", "deploy"]));
}

#[test]
fn td_waits_no_longer_than_told() {
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    let hangs = Answer { status: 200, body: events(1, &[started("build")]), breaks: false, hangs: true, early: false };
    desk.gateway.on(POST, 202, &begun(&deploy(&json!({})))).answer(&events_route(), hangs);
    let begun = Instant::now();
    assert_snapshot!(desk.shown(&["app", "deploy", "--timeout", "1500ms"]));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn ctrl_c_detaches() {
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    let hangs = Answer { status: 200, body: events(1, &[started("build")]), breaks: false, hangs: true, early: false };
    desk.gateway.on(POST, 202, &begun(&deploy(&json!({})))).answer(&events_route(), hangs);
    let arguments = ["app", "deploy"];
    let td = desk.command(&arguments).spawn().unwrap();
    while desk.gateway.asked().len() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    let killed = std::process::Command::new("kill").args(["-INT", &td.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_snapshot!(desk.show(&arguments, &Ended::of(td.wait_with_output().unwrap())));
}

#[test]
fn nobody_need_wait() {
    let desk = desk(&good());
    assert_snapshot!(desk.shown(&["app", "deploy", "--no-wait"]));
    assert_eq!(desk.gateway.asked().len(), 1);
}

#[test]
fn a_broken_upload_is_repeated_under_the_same_key() {
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    let broken = Answer { status: 202, body: "{".into(), breaks: true, hangs: false, early: false };
    desk.gateway
        .answer(POST, broken)
        .on(POST, 202, &begun(&deploy(&json!({}))))
        .answer(&events_route(), stream(events(1, &good())));
    assert_eq!(desk.td(&["app", "deploy"]).code, 0);
    let lines = desk.gateway.lines();
    assert!(lines[0].contains("idempotency_key=") && lines[0] == lines[1], "{lines:?}");
}

#[test]
fn a_log_ends_with_its_deploys_exit_code() {
    let desk = desk(&[started("build"), log("build", "one"), over(&failed("build", "build_failed"))]);
    assert_snapshot!(desk.shown(&["deploy", "log", DEPLOY]));
}

#[test]
fn a_label_on_several_clusters_is_told_in_one_summary() {
    let other = "01934b7c-0000-7000-8000-000000000002";
    let on = |id: &str, cluster: &str| deploy(&json!({"id": id, "label": "production", "cluster": cluster}));
    let refused = json!({"code": "cluster_unknown", "message": "clusters.yml has no cluster mars", "hint": null});
    let begun = json!([
        {"label": "production", "cluster": "local", "deploy": on(DEPLOY, "local"), "error": null},
        {"label": "production", "cluster": "rome", "deploy": on(other, "rome"), "error": null},
        {"label": "production", "cluster": "mars", "deploy": null, "error": refused},
    ]);
    let mut broken = failed("build", "build_failed");
    broken["cluster"] = json!("rome");
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    desk.gateway.on(POST, 202, &begun);
    desk.gateway.answer(&events_route(), stream(events(1, &[over(&succeeded())])));
    let route = format!("GET /v1/deploys/{other}/events");
    desk.gateway.answer(&route, stream(events(1, &[over(&broken)])));
    assert_snapshot!(desk.shown(&["app", "deploy", "--label", "production"]));
    let json = desk.td(&["app", "deploy", "--label", "production", "--cluster", "rome", "--json"]);
    assert_eq!(json.code, 4);
    let all: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&all[0]["cluster"], &all[1]["deploy"]["status"]), (&json!("local"), &json!("failed")));
    let lines = desk.gateway.lines();
    assert!(lines.iter().any(|line| line.contains("label=production&cluster=rome")), "{lines:?}");
}
