//! What goes wrong outside a deploy, and with which exit code.

use insta::assert_snapshot;
use serde_json::json;

use crate::fixtures::error;
use crate::gateway::Answer;
use crate::td::Desk;

#[test]
fn api_errors_have_exit_codes() {
    for (status, code, exit) in [
        (401, "unauthenticated", 5),
        (403, "forbidden", 5),
        (429, "too_many_attempts", 5),
        (404, "app_not_found", 1),
        (409, "locked", 6),
        (422, "label_unknown", 3),
        (422, "buildpack_unknown", 4),
        (422, "name_invalid", 2),
        (422, "secret_missing", 1),
        (500, "internal", 1),
    ] {
        let desk = Desk::new();
        desk.file("index.php", "").gateway.on("POST /v1/apps/blog/deploys/label", status, &error(code, "no", None));
        let ended = desk.td(&["app", "deploy"]);
        assert_eq!(ended.code, exit, "{code}: {}", ended.stderr);
    }
}

#[test]
fn a_refusal_says_who_why_and_what_now() {
    let desk = Desk::new();
    let refusal = error("locked", "ada has been deploying blog for 12 s", Some("wait for it: --wait"));
    desk.file("index.php", "").gateway.on("POST /v1/apps/blog/deploys/label", 409, &refusal);
    assert_snapshot!(desk.shown(&["app", "deploy"]));
}

/// Nobody uploads to the end what is refused at the beginning, and the reason arrives nevertheless.
#[test]
fn an_early_refusal_is_heard() {
    let desk = Desk::new();
    let mut noise = 1_u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) as u8
    };
    let bytes: Vec<u8> = (0..40 << 20).map(|_| next()).collect();
    std::fs::write(desk.folder.join("large"), bytes).unwrap();
    let body = error("forbidden", "not yours", None).to_string();
    let early = Answer { status: 403, body, breaks: false, hangs: false, early: true };
    desk.gateway.answer("POST /v1/apps/blog/deploys/label", early);
    for _ in 0..5 {
        let ended = desk.td(&["app", "deploy"]);
        assert_eq!((ended.code, ended.stderr.contains("not yours")), (5, true), "{}", ended.stderr);
    }
}

#[test]
fn all_findings_of_the_gateway_are_shown() {
    let desk = Desk::new();
    let mut body = error("manifest_invalid", "magrathea.yml has mistakes", None);
    body["diagnostics"] = json!([{
        "severity": "error", "file": "magrathea.yml", "line": 2, "column": 3, "path": "app_layer.replcas",
        "message": "unknown key `replcas`", "hint": "did you mean `replicas`?", "snippet": "  replcas: 2",
    }]);
    desk.file("index.php", "").gateway.on("POST /v1/apps/blog/deploys/label", 422, &body);
    assert_snapshot!(desk.shown(&["app", "deploy"]));
}

#[test]
fn an_unreachable_gateway_is_told() {
    let desk = Desk::new();
    assert_snapshot!(desk.shown(&["app", "list", "--gateway", "https://127.0.0.1:1"]));
}

#[test]
fn another_gateways_certificate_is_refused() {
    let (desk, other) = (Desk::new(), Desk::new());
    other.gateway.on("GET /v1/apps", 200, &json!([]));
    let address = format!("https://{}", other.gateway.address);
    let ended = desk.td(&["app", "list", "--gateway", &address]);
    assert_eq!(ended.code, 9);
    assert!(ended.stderr.contains("certificate is not from the CA"), "{}", ended.stderr);
    assert_eq!(other.gateway.lines(), [""; 0], "the token went nowhere");
}

#[test]
fn plain_http_is_refused() {
    assert_snapshot!(Desk::new().shown(&["app", "list", "--gateway", "http://gateway.example"]));
}

#[test]
fn an_answer_of_something_else_is_told() {
    let desk = Desk::new();
    assert_snapshot!(desk.shown(&["status"]));
    desk.gateway.on("GET /v1/status", 200, &json!({"hello": 1}));
    assert_snapshot!(desk.shown(&["status"]));
}

#[test]
fn missing_credentials_are_told() {
    let desk = Desk::new();
    assert_snapshot!(desk.shown(&["app", "list", "--config-dir", "elsewhere"]));
    let mut td = desk.command(&["app", "list", "--config-dir", "elsewhere"]);
    td.env("TD_GATEWAY", format!("https://{}", desk.gateway.address))
        .env("TD_TOKEN", "another")
        .env("TD_CA", desk.home().join("ca.pem"));
    std::fs::write(desk.home().join("ca.pem"), &desk.gateway.ca).unwrap();
    desk.gateway.on("GET /v1/apps", 200, &json!([]));
    assert_eq!(td.status().unwrap().code(), Some(0));
    assert_eq!(desk.gateway.asked()[0].authorization, "Bearer another");
}

#[test]
fn an_app_must_have_a_name() {
    let desk = Desk::new();
    assert_snapshot!(desk.shown(&["app", "info", "../status"]));
    std::fs::create_dir(desk.folder.join("My Shop")).unwrap();
    for command in ["deploy", "info"] {
        assert_snapshot!(desk.shown(&["app", command, "-C", "My Shop"]));
    }
}

#[test]
fn mistyped_commands_are_usage() {
    let desk = Desk::new();
    for arguments in [&["app", "deply"][..], &["--nope"], &[], &["app", "deploy", "--timeout", "5"]] {
        assert_eq!(desk.td(arguments).code, 2, "{arguments:?}");
    }
}

/// stdout stays empty: it is for what was asked for.
#[test]
fn errors_are_json_when_asked_for() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 404, &error("app_not_found", "there is no app blog", None));
    assert_snapshot!(desk.shown(&["app", "info", "-a", "blog", "--json"]));
    assert_snapshot!(desk.shown(&["app", "list", "--config-dir", "elsewhere", "--json"]));
}

#[test]
fn a_guessed_app_that_is_unknown_is_told_to_be_one() {
    let desk = Desk::new();
    let unknown = error("app_not_found", "there is no app blog", Some("make it with `td app create blog`"));
    desk.gateway.on("GET /v1/apps/blog", 404, &unknown);
    assert_snapshot!(desk.shown(&["app", "info"]));
    let named = desk.td(&["app", "info", "blog"]).stderr;
    desk.file("magrathea.yml", "app: blog\n");
    for stderr in [named, desk.td(&["app", "info"]).stderr] {
        assert!(stderr.contains("td app create") && !stderr.contains("folder"), "{stderr}");
    }
}
