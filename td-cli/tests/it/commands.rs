//! Each command's words.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fixtures::{DEPLOY, app, cluster, deploy, error, failed, hours_ago, instance, spread, succeeded};
use crate::td::Desk;

#[test]
fn apps_are_listed() {
    let desk = Desk::new();
    let empty =
        json!({"id": DEPLOY, "name": "shop", "organisation": "operator", "created": hours_ago(1), "instances": []});
    desk.gateway.on("GET /v1/apps", 200, &json!([app(&["production", "staging"]), empty]));
    assert_snapshot!(desk.shown(&["app", "list"]));
    assert_snapshot!(desk.shown(&["app", "list", "--quiet", "--label", "staging"]));
    let json = desk.td(&["app:list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()[1]["name"], "shop");
    assert_eq!(json.stderr, "");
    desk.gateway.asked().iter().for_each(|asked| assert!(asked.authorization.starts_with("Bearer a-token")));
}

#[test]
fn no_apps_is_told() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps", 200, &json!([]));
    assert_snapshot!(desk.shown(&["app", "list"]));
}

#[test]
fn an_app_is_shown() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &app(&["production", "staging"]));
    assert_snapshot!(desk.shown(&["app", "info", "blog"]));
    desk.file("magrathea.yml", "app: blog\n");
    assert_snapshot!(desk.shown(&["app", "info", "--label", "staging"]));
}

#[test]
fn an_app_is_made() {
    let desk = Desk::new();
    desk.gateway.on("POST /v1/apps", 201, &app(&[]));
    assert_snapshot!(desk.shown(&["app", "create"]));
    let asked = desk.gateway.asked();
    assert_eq!(serde_json::from_slice::<Value>(&asked[0].body).unwrap(), json!({"name": "blog"}));
}

#[test]
fn a_remote_is_set_over_ssh() {
    let desk = Desk::new();
    let ssh = json!({"host": "gateway.example", "port": 7422, "host_key": "ssh-ed25519 AAAA"});
    desk.gateway.on("GET /v1/gateway", 200, &json!({"version": "0.1.0", "ssh": ssh}));
    desk.gateway.on("GET /v1/apps/blog", 200, &app(&[]));
    desk.gateway.on("POST /v1/apps", 201, &app(&[]));
    assert_snapshot!(desk.shown(&["app", "link"]));
    desk.git(&["init", "-q"]);
    assert_snapshot!(desk.shown(&["app", "create"]));
    desk.git(&["remote", "set-url", "magrathea", "elsewhere"]);
    assert_snapshot!(desk.shown(&["app", "link"]));
    assert_snapshot!(desk.shown(&["app", "link", "--remote", "live", "--json"]));
    let known = std::fs::read_to_string(desk.home().join(".ssh/known_hosts")).unwrap();
    assert_eq!(known, "[gateway.example]:7422 ssh-ed25519 AAAA\n", "once");
    let config = std::fs::read_to_string(desk.folder.join(".git/config")).unwrap();
    assert_eq!(config.matches("url = ssh://git@gateway.example:7422/blog.git").count(), 2, "{config}");
}

#[test]
fn a_remote_over_https_asks_td_for_the_token() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &app(&[]));
    desk.git(&["init", "-q"]);
    assert_snapshot!(desk.shown(&["app", "link", "--https"]));
    desk.td(&["app", "link", "--https"]);
    let config = std::fs::read_to_string(desk.folder.join(".git/config")).unwrap();
    assert!(!config.contains("a-token"), "{config}");
    assert_eq!(config.matches("helper = ").count(), 2, "{config}");
    let fill = |host: &str| {
        let asked = format!("protocol=https\nhost={host}\n\n");
        let mut git = std::process::Command::new("git");
        git.args(["credential", "fill"])
            .current_dir(&desk.folder)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("HOME", desk.home());
        git.env("GIT_CONFIG_NOSYSTEM", "1").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut git = git.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut git.stdin.take().unwrap(), asked.as_bytes()).unwrap();
        String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap()
    };
    assert!(fill(&desk.gateway.address.to_string()).contains("password=a-token-that-nobody-may-see"));
    assert_eq!(fill("elsewhere.example"), "");
    let url = format!("https://{}/git/blog.git", desk.gateway.address);
    assert!(config.contains(&url), "{config}");
}

#[test]
fn a_url_is_printed() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &app(&["production", "staging"]));
    assert_snapshot!(desk.shown(&["app", "open", "blog", "-l", "staging"]));
    assert_snapshot!(desk.shown(&["app", "open", "blog", "--print"]));
    assert_snapshot!(desk.shown(&["app", "open", "blog", "--label", "nope"]));
}

#[test]
fn nothing_is_destroyed_without_its_name() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &app(&["production", "staging"]));
    assert_snapshot!(desk.shown(&["app", "destroy", "blog"]));
    assert_snapshot!(desk.shown(&["app", "destroy", "blog", "--confirm", "blog,staging"]));
    assert_snapshot!(desk.shown(&["app", "destroy", "blog", "--label", "staging", "--confirm", "blog"]));
    assert!(desk.gateway.lines().iter().all(|line| line.starts_with("GET ")));
}

#[test]
fn what_was_destroyed_is_told() {
    let desk = Desk::new();
    desk.gateway
        .on("GET /v1/apps/blog", 200, &app(&["production", "staging"]))
        .on("DELETE /v1/apps/blog", 200, &Value::Null)
        .on("DELETE /v1/apps/blog/instances/staging", 200, &Value::Null);
    assert_snapshot!(desk.shown(&["app", "destroy", "blog", "--label", "staging", "--confirm", "staging"]));
    assert_snapshot!(desk.shown(&["app", "destroy", "blog", "--confirm", "blog,production"]));
    let deleted: Vec<_> = desk.gateway.lines().into_iter().filter(|line| line.starts_with("DELETE")).collect();
    assert_eq!(
        deleted,
        [
            "DELETE /v1/apps/blog/instances/staging?confirm=staging&cluster=local",
            "DELETE /v1/apps/blog?confirm=blog%2Cproduction"
        ]
    );
}

#[test]
fn a_plan_is_shown() {
    let desk = Desk::new();
    desk.file("index.php", "<?php").gateway.on("POST /v1/apps/blog/plan", 200, &json!({
        "app": "blog", "label": "production", "cluster": "local", "buildpack": "php",
        "changes": [
            {"layer": "app", "key": "app/web", "change": "change", "fields": [
                {"path": "spec.image", "old": "sha256:aaaaaaaaaaaaaaaaaaaa", "new": "sha256:bbbbbbbbbbbbbbbbbbbb"},
                {"path": "spec.env.DEBUG", "old": null, "new": "1"},
                {"path": "spec.files[0].content", "old": "one\ntwo\nthree\n", "new": "one\n2\nthree\n"},
            ]},
            {"layer": "storage", "key": "storage/files", "change": "add", "fields": []},
            {"layer": "routing", "key": "routing/old", "change": "remove", "fields": []},
        ],
        "values": [
            {"path": "app_layer.replicas", "value": "3", "origin": {"file": "magrathea.yml", "line": 12, "from_label": true}},
            {"path": "app_layer.memory", "value": "512MiB", "origin": null},
        ],
        "warnings": ["web/uploads hides 3 files of the release"],
        "rendered": {"routing/backend": "option httpchk\nbalance leastconn\n"},
    }));
    assert_snapshot!(desk.shown(&["app", "plan"]));
    assert_snapshot!(desk.shown(&["app", "plan", "--values", "-q"]));
    assert_snapshot!(desk.shown(&["app", "plan", "--rendered", "routing/backend"]));
    assert_snapshot!(desk.shown(&["app", "plan", "--rendered", "nope"]));
}

#[test]
fn clusters_are_shown() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/clusters", 200, &json!([cluster()])).on("GET /v1/clusters/local", 200, &cluster());
    assert_snapshot!(desk.shown(&["cluster", "list"]));
    assert_snapshot!(desk.shown(&["cluster", "info"]));
}

#[test]
fn everything_at_a_glance() {
    let desk = Desk::new();
    let status = json!({
        "gateway_version": "0.1.0", "person": "admin", "clusters": [cluster()], "instances": [instance("production", 12)],
        "deploys": [deploy(&json!({"phase": "build"}))],
    });
    desk.gateway.on("GET /v1/status", 200, &status);
    assert_snapshot!(desk.shown(&["status"]));
}

#[test]
fn what_people_should_know_is_told_at_a_glance() {
    let desk = Desk::new();
    let (mut cluster, mut instance) = (cluster(), instance("production", 12));
    cluster["nodes"][0]["report"]["trouble"] = json!("what is counted cannot be stored: No space left on device");
    let files = |used: u64| json!({"metric": "files", "used": used, "quota": 1_u64 << 30, "hard": false});
    instance["quotas"] = json!([files(900 << 20), files(100 << 20)]);
    let traffic = |app, percent: u64| {
        let (traffic, used) = (100_000_000_000_u64, percent * 1_000_000_000);
        json!({"organisation": "acme", "app": app, "traffic": traffic, "then": "throttle", "used": used,
               "percent": percent, "set_by": "zaphod"})
    };
    let status = json!({
        "gateway_version": "0.1.0", "person": "admin", "clusters": [cluster], "instances": [instance], "deploys": [],
        "traffic_quotas": [traffic(json!("blog"), 85), traffic(Value::Null, 101)],
    });
    desk.gateway.on("GET /v1/status", 200, &status);
    assert_snapshot!(desk.shown(&["status"]));
}

#[test]
fn the_timeline_is_told() {
    let desk = Desk::new();
    let entry = |actor: &str, action: &str, fields: Value| {
        let mut entry = json!({
            "id": 1, "at": hours_ago(3), "actor": actor, "action": action, "app": null, "label": null,
            "cluster": null, "message": "as it went",
        });
        fields.as_object().unwrap().iter().for_each(|(key, value)| entry[key] = value.clone());
        entry
    };
    desk.gateway.on(
        "GET /v1/timeline",
        200,
        &json!([
            entry("admin", "deploy.succeeded", json!({"app": "blog", "label": "production", "cluster": "local"})),
            entry("gateway", "node.enrolled", json!({"cluster": "local"})),
        ]),
    );
    assert_snapshot!(desk.shown(&["timeline"]));
    desk.td(&["timeline", "-n", "3", "--app", "blog"]);
    assert_eq!(desk.gateway.lines(), ["GET /v1/timeline?limit=20", "GET /v1/timeline?limit=3&app=blog"]);
}

#[test]
fn deploys_are_listed_and_shown() {
    let desk = Desk::new();
    let id = |n: u32| format!("01934b7c-0000-7000-8000-00000000000{n}");
    let mut broken = failed("health", "unhealthy");
    broken["id"] = id(2).into();
    broken["label"] = "staging".into();
    desk.gateway
        .on("GET /v1/apps/blog/deploys", 200, &json!([broken, succeeded()]))
        .on(&format!("GET /v1/deploys/{}", id(2)), 200, &broken)
        .on(&format!("GET /v1/deploys/{DEPLOY}"), 200, &succeeded());
    assert_snapshot!(desk.shown(&["deploy", "list", "-a", "blog"]));
    assert_snapshot!(desk.shown(&["deploy", "info", "-a", "blog", "-l", "staging"]));
    assert_snapshot!(desk.shown(&["deploy", "info", DEPLOY]));
}

#[test]
fn a_deploy_is_cancelled() {
    let desk = Desk::new();
    desk.gateway.on(&format!("POST /v1/deploys/{DEPLOY}/cancel"), 202, &deploy(&json!({})));
    assert_snapshot!(desk.shown(&["deploy", "cancel", DEPLOY]));
    let desk = Desk::new();
    let refusal = error("not_cancellable", "the deploy is past its cut-over", None);
    desk.gateway.on(&format!("POST /v1/deploys/{DEPLOY}/cancel"), 409, &refusal);
    assert_snapshot!(desk.shown(&["deploy", "cancel", DEPLOY]));
}

#[test]
fn secrets_are_written_and_never_shown() {
    let desk = Desk::new();
    desk.gateway.on("POST /v1/apps/blog/config", 200, &json!({"deploys": [], "unused": ["PEM"]})).on(
        "GET /v1/apps/blog/config",
        200,
        &json!([
            {"key": "PEM", "label": null, "updated": hours_ago(3)},
            {"key": "SMTP_PASSWORD", "label": "staging", "updated": hours_ago(72)},
        ]),
    );
    let arguments = ["config", "set", "-a", "blog", "-l", "staging", "SMTP_PASSWORD=a=secret"];
    let ended = desk.td(&arguments);
    assert!(!ended.stdout.contains("a=secret") && !ended.stderr.contains("a=secret"), "{}", ended.stderr);
    let arguments = ["config", "set", "-a", "blog", "PEM"];
    let key = desk.home().join("key.pem");
    std::fs::write(&key, "a\nsecret\n").unwrap();
    let ended = desk.command(&arguments).stdin(std::fs::File::open(&key).unwrap()).output().unwrap();
    assert_snapshot!(desk.show(&arguments, &crate::td::Ended::of(ended)));
    assert_snapshot!(desk.shown(&["config", "set", "-a", "blog", "A", "B"]));
    assert_snapshot!(desk.shown(&["config", "set", "-a", "blog", "smtp password=x"]));
    assert_snapshot!(desk.shown(&["config", "list", "-a", "blog"]));
    assert_snapshot!(desk.shown(&["config", "unset", "-a", "blog", "-l", "staging", "PEM"]));
    let asked = desk.gateway.asked();
    let body = |n: usize| serde_json::from_slice::<Value>(&asked[n].body).unwrap();
    assert_eq!(body(0), json!({"values": {"SMTP_PASSWORD": "a=secret"}, "label": "staging", "deploy": true}));
    assert_eq!(body(1), json!({"values": {"PEM": "a\nsecret"}, "label": null, "deploy": true}));
    assert_eq!(body(asked.len() - 1), json!({"values": {"PEM": null}, "label": "staging", "deploy": true}));
}

#[test]
fn certificates_are_kept() {
    let desk = Desk::new();
    desk.gateway
        .on("PUT /v1/certificates/blog", 204, &Value::Null)
        .on("DELETE /v1/certificates/blog", 204, &Value::Null)
        .on(
            "GET /v1/certificates",
            200,
            &json!([
                {"name": "blog", "subjects": ["blog.example", "www.blog.example"], "expires": "2027-03-01T00:00:00Z"},
            ]),
        );
    desk.file("chain.pem", "CHAIN").file("key.pem", "KEY");
    assert_snapshot!(desk.shown(&["cert", "set", "blog", "--chain", "chain.pem", "--key", "key.pem"]));
    assert_snapshot!(desk.shown(&["cert", "set", "blog", "--chain", "chain.pem", "--key", "nope.pem"]));
    assert_snapshot!(desk.shown(&["cert", "list"]));
    assert_snapshot!(desk.shown(&["cert", "unset", "blog"]));
    let body: Value = serde_json::from_slice(&desk.gateway.asked()[0].body).unwrap();
    assert_eq!(body, json!({"chain": "CHAIN", "key": "KEY"}));
}

/// Commands that only act print an object with --json, so that a program need not read notes.
#[test]
fn what_was_done_is_json() {
    let desk = Desk::new();
    let changed = json!({"deploys": [], "unused": []});
    let certificate = json!({"name": "blog", "subjects": ["blog.example"], "expires": "2027-03-01T00:00:00Z"});
    desk.gateway
        .on("POST /v1/apps/blog/config", 200, &changed)
        .on("PUT /v1/certificates/blog", 200, &certificate)
        .on("DELETE /v1/certificates/blog", 204, &Value::Null)
        .on("GET /v1/apps/blog", 200, &app(&[]))
        .on("DELETE /v1/apps/blog", 204, &Value::Null);
    desk.file("chain.pem", "CHAIN").file("key.pem", "KEY");
    for (arguments, printed) in [
        (&["config", "set", "A=1"][..], changed.clone()),
        (&["config", "unset", "A", "-l", "staging"], changed),
        (&["cert", "set", "blog", "--chain", "chain.pem", "--key", "key.pem"], certificate),
        (&["cert", "unset", "blog"], json!({"unset": "blog"})),
        (&["app", "destroy", "--confirm", "blog"], json!({"app": "blog", "label": null, "destroyed": []})),
    ] {
        let ended = desk.td(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        assert_eq!(serde_json::from_str::<Value>(&ended.stdout).unwrap(), printed, "{arguments:?}");
        assert_eq!(desk.td(arguments).stdout, "", "{arguments:?}");
    }
}

#[test]
fn one_of_several_clusters_is_named() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &spread("production", &["local", "rome"]));
    desk.gateway.on("GET /v1/apps/blog/instances/production/tasks", 200, &json!([]));
    assert_snapshot!(desk.shown(&["task", "list", "-a", "blog"]));
    assert_snapshot!(desk.shown(&["task", "list", "-a", "blog", "--cluster", "oslo"]));
    assert_snapshot!(desk.shown(&["release", "rollback", "v3", "-a", "blog"]));
    assert_eq!(desk.td(&["task", "list", "-a", "blog", "--cluster", "rome"]).code, 0);
    let last = desk.gateway.lines().pop().unwrap();
    assert_eq!(last, "GET /v1/apps/blog/instances/production/tasks?cluster=rome");
    assert_snapshot!(desk.shown(&["app", "info", "blog", "--cluster", "rome"]));
}

#[test]
fn what_goes_to_all_clusters_has_one_summary() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &spread("production", &["local", "rome"]));
    desk.gateway.on("POST /v1/apps/blog/instances/production/rollback", 202, &succeeded());
    let refusal = error("release_not_found", "there is no release before v1", None);
    desk.gateway.on("POST /v1/apps/blog/instances/production/rollback", 404, &refusal);
    let over = crate::fixtures::events(1, &[crate::fixtures::over(&succeeded())]);
    let over = crate::gateway::Answer { status: 200, body: over, breaks: false, hangs: false, early: false };
    desk.gateway.answer(&format!("GET /v1/deploys/{DEPLOY}/events"), over);
    assert_snapshot!(desk.shown(&["release", "rollback", "-a", "blog"]));
    let asked = desk.gateway.lines().into_iter().filter(|line| line.contains("rollback")).collect::<Vec<_>>();
    assert!(asked[0].ends_with("?cluster=local") && asked[1].ends_with("?cluster=rome"), "{asked:?}");
}

#[test]
fn one_cluster_that_keeps_an_instance_is_no_hindrance_to_the_other() {
    let desk = Desk::new();
    desk.gateway.on("GET /v1/apps/blog", 200, &spread("production", &["local", "rome"]));
    let refusal = error("node_unavailable", "node local/node1 is not connected", None);
    desk.gateway.on("DELETE /v1/apps/blog/instances/production", 503, &refusal);
    desk.gateway.on("DELETE /v1/apps/blog/instances/production", 204, &Value::Null);
    assert_snapshot!(desk.shown(&["app", "destroy", "blog", "--label", "production", "--confirm", "production"]));
}
