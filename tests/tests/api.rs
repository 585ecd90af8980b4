//! The HTTP API with the real `curl`: the same results as td, as its OpenAPI document says, and nothing for strangers.

mod curl;

use std::process::Command;
use std::time::Duration;

use curl::Curl;
use magrathea_tests::{Ended, Lab, run, site::Site, terminal::Terminal, until};
use serde_json::{Value, json};

/// Takes away what is of the moment: when a node was last heard of, and how full its disk is.
fn lasting(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|key, _| !matches!(key.as_str(), "last_seen" | "disk_free"));
            fields.values_mut().for_each(|field| *field = lasting(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = lasting(item.take())),
        _ => {}
    }
    value
}

/// Compares a command of td's with a path. The world may move between the two, so what differs is asked again.
#[track_caller]
fn same(site: &Site, curl: &Curl, args: &[&str], path: &str) {
    let mut both = (Value::Null, Value::Null);
    for _ in 0..10 {
        both = (lasting(site.td(args).ok().json()), lasting(curl.get(path)));
        if both.0 == both.1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(both.0, both.1, "td {args:?} and {path}");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn curl_sees_what_td_sees() {
    let lab = Lab::get();
    let (site, curl) = (Site::new(&lab, "mirror"), Curl::new(&lab));
    site.file("index.php", "<?php echo 1;").file("magrathea.yml", "env: {GREETING: hello}\n");
    let made = site.td(&["app", "create", "--json"]).ok().json();
    assert_eq!(made, curl.get("/v1/apps/mirror"));
    assert_eq!(curl.send("POST", "/v1/apps", &json!({"name": "mirror"})).code(), (409, "name_taken".into()));
    let preview = curl.upload("/v1/apps/mirror/plan", site.path());
    assert_eq!(preview.json(), site.td(&["app", "plan", "--dirty", "--json"]).ok().json());
    let deployed = site.td(&["app", "deploy", "--dirty", "--json"]).ok().json();
    let id = deployed["id"].as_str().unwrap();
    assert_eq!(deployed, curl.get(&format!("/v1/deploys/{id}")));
    let body = json!({"value": "hunter2", "label": null});
    assert_eq!(curl.send("PUT", "/v1/apps/mirror/config/SECRET", &body).status, 200);
    for (args, path) in [
        (&["app", "list", "--json"][..], "/v1/apps"),
        (&["app", "info", "--json"], "/v1/apps/mirror"),
        (&["deploy", "list", "--json"], "/v1/apps/mirror/deploys"),
        (&["deploy", "info", id, "--json"], &format!("/v1/deploys/{id}")),
        (&["config", "list", "--json"], "/v1/apps/mirror/config"),
        (&["cert", "list", "--json"], "/v1/certificates"),
        (&["cluster", "list", "--json"], "/v1/clusters"),
        (&["cluster", "info", "lab", "--json"], "/v1/clusters/lab"),
        (&["status", "--json"], "/v1/status"),
        (&["timeline", "--limit", "50", "--json"], "/v1/timeline?app=mirror"),
    ] {
        same(&site, &curl, args, path);
    }
    let log = site.td(&["deploy", "log", id, "--json"]).ok().stdout;
    assert!(log.lines().count() > 10, "{log}");
    let events = curl.call("GET", &format!("/v1/deploys/{id}/events"), &[]).body;
    let parsed = |text: &str| -> Vec<Value> {
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(parsed(&log), parsed(&events));
    let instances = curl.get("/v1/apps/mirror/instances");
    assert_eq!(instances, site.td(&["app", "info", "--json"]).ok().json()["instances"]);
    assert_eq!(instances[0], curl.get("/v1/apps/mirror/instances/default"));
    assert_eq!(curl.call("DELETE", "/v1/apps/mirror/config/SECRET", &[]).status, 204);
    assert_eq!(site.td(&["config", "list", "--json"]).ok().json(), json!([]));
    let doomed = site.td(&["app", "destroy", "--confirm", "mirror", "--json"]).ok().json();
    assert!(doomed == instances || doomed["destroyed"] == instances, "{doomed} {instances}");
    assert_eq!(curl.call("GET", "/v1/apps/mirror", &[]).code(), (404, "app_not_found".into()));
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn what_destroys_asks_for_every_protected_label() {
    let lab = Lab::get();
    let site = Site::new(&lab, "armoured");
    let labels = "labels: {live: {cluster: lab, protected: true}, staging: {cluster: lab}}\n";
    site.file("index.php", "<?php echo 'armoured';").file("magrathea.yml", format!("app: armoured\n{labels}"));
    for label in ["live", "staging"] {
        site.td(&["app", "deploy", "--label", label]).ok();
    }
    let still_there = || site.td(&["app", "info", "--json"]).ok().json()["instances"].as_array().unwrap().len() == 2;
    // In a script, a name that is said for the app alone is not enough; nor is nobody there to ask.
    for names in [&["--confirm", "armoured"][..], &["--confirm", "armoured,staging"], &[]] {
        let refused = site.td(&[&["app", "destroy"], names].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("--confirm armoured,live"), "{refused:?}");
    }
    let refused = site.td(&["app", "destroy", "--label", "live", "--confirm", "armoured"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(still_there());
    let typed = |label: &str| {
        let mut terminal = Terminal::start(&mut lab.td_command(site.path(), &["app", "destroy"]));
        terminal.shows("Type armoured to go on:", 1);
        terminal.type_in("armoured\n");
        terminal.shows("live is protected. Type its name, too:", 1);
        terminal.type_in(&format!("{label}\n"));
        terminal.status()
    };
    assert_eq!(typed("yes"), 2);
    assert!(still_there());
    assert_eq!(typed("live"), 0);
    assert_ne!(site.td(&["app", "info"]).code, 0);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_deploy_by_curl_alone_serves_is_cancelled_and_destroyed() {
    let lab = Lab::get();
    let (site, curl) = (Site::new(&lab, "curled"), Curl::new(&lab));
    site.file("index.php", "<?php echo 'by curl';");
    let accepted = curl.upload("/v1/apps/curled/deploys?create=true&message=by%20hand", site.path());
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let id = accepted.json()["id"].as_str().unwrap().to_owned();
    // The stream of events ends with the deploy.
    let events = curl.call("GET", &format!("/v1/deploys/{id}/events"), &[]).body;
    let last: Value = serde_json::from_str(events.trim_end().lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["deploy"]["status"]), (&json!("finished"), &json!("succeeded")), "{events}");
    assert_eq!(site.get("/").await, (200, "by curl".into()));
    assert_eq!(curl.get("/v1/apps/curled")["instances"][0]["release"]["message"], "by hand");

    // Cancelling, by curl and by td, comes to the same.
    site.file("magrathea.yml", "build: {commands: ['sleep 60']}\n");
    let mut ends = Vec::new();
    for by_td in [false, true] {
        let id = curl.upload("/v1/apps/curled/deploys", site.path()).json()["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/deploys/{id}");
        until(Duration::from_secs(20), "it builds", || curl.get(&path)["phase"] == "build");
        let told = if by_td {
            site.td(&["deploy", "cancel", &id, "--json"]).ok().json()
        } else {
            curl.call("POST", &format!("{path}/cancel"), &[]).json()
        };
        assert_eq!(told["id"], json!(id));
        until(Duration::from_secs(30), "it is cancelled", || curl.get(&path)["status"] == "cancelled");
        assert_eq!(curl.call("POST", &format!("{path}/cancel"), &[]).code(), (409, "not_cancellable".into()));
        assert_eq!(site.td(&["deploy", "cancel", &id]).code, 1);
        let end = curl.get(&path);
        // Not the log's tail: how much the build had said by then is a matter of milliseconds.
        let failure = &end["failure"];
        ends.push(json!([end["status"], end["release"], failure["phase"], failure["code"], failure["message"]]));
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(site.get("/").await, (200, "by curl".into()));
    assert_eq!(curl.call("DELETE", "/v1/apps/curled", &[]).code(), (409, "confirmation_mismatch".into()));
    assert_eq!(curl.call("DELETE", "/v1/apps/curled?confirm=curled", &[]).status, 204);
    assert_eq!(site.get("/").await.0, 404);
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn every_documented_operation_is_there_and_every_error_has_its_shape() {
    let lab = Lab::get();
    let curl = Curl::new(&lab);
    let operations = curl.operations();
    assert!(operations.len() > 25);
    for (method, template, _) in operations {
        // It would do what it says: end the session that asks.
        if (method.as_str(), template.as_str()) == ("DELETE", "/v1/login") {
            continue;
        }
        let path =
            template.replace("{id}", "01930000-0000-7000-8000-000000000000").replace('{', "absent-").replace('}', "");
        let answer = curl.call(&method, &path, &[]);
        if answer.status >= 400 {
            let (status, code) = answer.code();
            let refused = ["route_not_found", "method_not_allowed", "unauthenticated", "internal"];
            assert!(status < 500 && !refused.contains(&code.as_str()), "{method} {path}: {answer:?}");
        }
    }
    let token = format!("@{}", curl.file("token").display());
    let with_token = |method: &str, path: &str, args: &[&str]| {
        let answer = curl.bare(method, path, &[&["-H", &token], args].concat());
        curl.validate(&json!({"$ref": "#/components/schemas/ErrorBody"}), &answer.json());
        answer.code()
    };
    let big = curl.file("big");
    std::fs::write(&big, format!(r#"{{"name":"{}"}}"#, "x".repeat(2 << 20))).unwrap();
    let big = format!("@{}", big.display());
    let (json, text) = ("Content-Type: application/json", "Content-Type: text/plain");
    for (method, path, args, status, code) in [
        ("GET", "/v2/apps", &[][..], 404, "route_not_found"),
        ("GET", "/v1/apps/../../etc/passwd", &[], 404, "route_not_found"),
        ("GET", "/v1/apps/..%2f..%2fetc%2fpasswd", &[], 422, "name_invalid"),
        ("GET", "/v1/apps/%2e%2e", &[], 422, "name_invalid"),
        ("GET", "/v1/apps/a%00b", &[], 422, "name_invalid"),
        ("GET", "/v1/clusters/..%2flab", &[], 422, "name_invalid"),
        ("GET", "/v1/certificates/..%2fkey", &[], 422, "name_invalid"),
        ("GET", "/v1/deploys/..%2f..", &[], 422, "name_invalid"),
        ("PATCH", "/v1/apps", &[], 405, "method_not_allowed"),
        ("DELETE", "/v1/status", &[], 405, "method_not_allowed"),
        ("POST", "/v1/apps", &["-H", text, "-d", r#"{"name":"a"}"#], 415, "media_type_unsupported"),
        ("POST", "/v1/apps/a/deploys", &["-H", json, "-d", "{}"], 415, "media_type_unsupported"),
        ("POST", "/v1/apps", &["-H", json, "-d", r#"{"name":"../a"}"#], 422, "name_invalid"),
        ("POST", "/v1/apps", &["-H", json, "-d", &big], 413, "body_too_large"),
        ("GET", "/v1/timeline?limit=0", &[], 400, "query_invalid"),
    ] {
        assert_eq!(with_token(method, path, args), (status, code.to_owned()), "{method} {path} {args:?}");
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn strangers_get_nothing() {
    let lab = Lab::get();
    let curl = Curl::new(&lab);
    let secret = std::fs::read_to_string(curl.file("token")).unwrap();
    let secret = secret.trim().rsplit(' ').next().unwrap();
    for (path, args) in [
        ("/v1/apps".to_owned(), &[][..]),
        ("/v1/apps".to_owned(), &["-H", "Authorization: Bearer mag_wrong"]),
        (format!("/v1/apps?token={secret}&access_token={secret}"), &[]),
        ("/v1/apps".to_owned(), &["-u", &format!("admin:{secret}")]),
    ] {
        let answer = curl.bare("GET", &path, args);
        curl.validate(&json!({"$ref": "#/components/schemas/ErrorBody"}), &answer.json());
        assert_eq!(answer.code(), (401, "unauthenticated".into()), "{args:?}");
    }
    // Without TLS nothing is answered, not even to who has the token.
    let plain = curl.gateway.replace("https://", "http://");
    let token = format!("@{}", curl.file("token").display());
    let ended = run(Command::new("curl")
        .args(["-sS", "--http0.9", "-m", "15", "--noproxy", "*", "-H", &token])
        .arg(format!("{plain}/v1/apps")));
    assert!(!ended.stdout.contains("magrathea") && !ended.stdout.contains('{'), "{ended:?}");
    // A gateway that another authority vouches for is none.
    let other = curl.file("other.pem");
    let made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    let key = curl.file("other.key");
    run(Command::new("openssl").args(made).args(["-subj", "/CN=other", "-out"]).arg(&other).arg("-keyout").arg(key))
        .ok();
    let ended = run(Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--cacert"])
        .arg(&other)
        .arg(format!("{}/healthz", curl.gateway)));
    assert_eq!((ended.code, ended.stdout.as_str()), (60, ""), "{ended:?}");
    let ended: Ended = run(lab.td_command(curl.folder.path(), &["status"]).env("TD_CA", &other));
    assert_eq!((ended.code, ended.stdout.as_str()), (9, ""), "{ended:?}");
    for says in [curl.gateway.as_str(), "certificate", "hint: its certificate is not from the CA in your credentials"] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
}
