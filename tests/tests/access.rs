//! Who may do what: every role, every act, on one's own organisation's app and on another's, asked of the running gateway.
//! The table that comes out is docs/reference/access.md.

use std::fmt::Write;

use magrathea_tests::people::{Organisation, Person};
use magrathea_tests::{Lab, run};
use serde_json::{Value, json};

/// What somebody does to an app, by what it takes.
struct Act {
    verb: &'static str,
    title: &'static str,
    method: &'static str,
    /// `APP` and `LABEL` are filled in.
    path: &'static str,
    body: Option<&'static str>,
    /// What whoever is let in hears: the act itself fails on purpose, so that it can be asked again.
    allowed: &'static str,
}

const ACTS: &[Act] = &[
    Act { verb: "look", title: "see the app", method: "GET", path: "/v1/apps/APP", body: None, allowed: "ok" },
    Act {
        verb: "look",
        title: "see the label",
        method: "GET",
        path: "/v1/apps/APP/instances/LABEL",
        body: None,
        allowed: "ok",
    },
    Act {
        verb: "look",
        title: "read its log",
        method: "GET",
        path: "/v1/apps/APP/instances/LABEL/logs",
        body: None,
        allowed: "ok",
    },
    Act {
        verb: "look",
        title: "list its deploys",
        method: "GET",
        path: "/v1/apps/APP/deploys",
        body: None,
        allowed: "ok",
    },
    Act {
        verb: "deploy",
        title: "deploy the label",
        method: "POST",
        path: "/v1/apps/APP/deploys?label=LABEL",
        body: Some("source"),
        allowed: "source_invalid",
    },
    Act {
        verb: "deploy",
        title: "set a value of the label",
        method: "PUT",
        path: "/v1/apps/APP/config/KEY",
        body: Some("value"),
        allowed: "ok",
    },
    Act {
        verb: "deploy",
        title: "let the label's preview live longer",
        method: "PUT",
        path: "/v1/apps/APP/instances/LABEL/preview",
        body: Some("expire"),
        allowed: "not_preview",
    },
    Act {
        verb: "deploy",
        title: "destroy the label's preview",
        method: "DELETE",
        path: "/v1/apps/APP/instances/LABEL/preview",
        body: None,
        allowed: "not_preview",
    },
    Act {
        verb: "look",
        title: "list its tasks",
        method: "GET",
        path: "/v1/apps/APP/instances/LABEL/tasks",
        body: None,
        allowed: "ok",
    },
    Act {
        verb: "deploy",
        title: "run a task of the role developer",
        method: "POST",
        path: "/v1/apps/APP/instances/LABEL/tasks/note/runs",
        body: Some("task"),
        allowed: "body_invalid",
    },
    Act {
        verb: "operate",
        title: "run a task without a role",
        method: "POST",
        path: "/v1/apps/APP/instances/LABEL/tasks/plain/runs",
        body: Some("task"),
        allowed: "body_invalid",
    },
    Act {
        verb: "deploy",
        title: "put a layer back",
        method: "POST",
        path: "/v1/apps/APP/instances/LABEL/configurations/00000000/restore",
        body: Some("layer"),
        allowed: "configuration_not_found",
    },
    Act {
        verb: "operate",
        title: "open a shell",
        method: "GET",
        path: "/v1/apps/APP/instances/LABEL/shell?command=true",
        body: Some("websocket"),
        allowed: "ok",
    },
    Act {
        verb: "operate",
        title: "read its values",
        method: "GET",
        path: "/v1/apps/APP/config-values?label=LABEL",
        body: None,
        allowed: "ok",
    },
    Act {
        verb: "operate",
        title: "give the database a new password",
        method: "POST",
        path: "/v1/apps/APP/instances/LABEL/db/rotate",
        body: Some("empty"),
        allowed: "plan_invalid",
    },
    Act {
        verb: "administer",
        title: "destroy the label",
        method: "DELETE",
        path: "/v1/apps/APP/instances/LABEL",
        body: None,
        allowed: "confirmation_mismatch",
    },
    Act {
        verb: "administer",
        title: "destroy the app",
        method: "DELETE",
        path: "/v1/apps/APP",
        body: None,
        allowed: "confirmation_mismatch",
    },
    Act {
        verb: "administer",
        title: "give a role on the label",
        method: "POST",
        path: "/v1/grants",
        body: Some("grant"),
        allowed: "person_not_found",
    },
];

/// The error's code, or `ok`.
fn ask(lab: &Lab, act: &Act, token: &str, app: &str, label: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let credentials: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();
    std::fs::write(folder.path().join("ca.pem"), credentials["ca"].as_str().unwrap()).unwrap();
    std::fs::write(folder.path().join("token"), format!("Authorization: Bearer {token}\n")).unwrap();
    let path = act.path.replace("APP", app).replace("LABEL", label);
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-m", "60", "-w", "\n%{http_code}", "--noproxy", "*", "-X", act.method])
        .arg("--cacert")
        .arg(folder.path().join("ca.pem"))
        .arg("-H")
        .arg(format!("@{}", folder.path().join("token").display()));
    let json = |value: Value| value.to_string();
    match act.body {
        Some("source") => {
            // No archive at all: refused only after who asks was let in.
            curl.args(["-H", "Content-Type: application/zstd", "-d", "nonsense"]);
        }
        Some("websocket") => {
            curl.args(["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]);
            curl.args(["-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]);
        }
        Some("value") => {
            let body = json(json!({"value": "x", "label": label}));
            curl.args(["-H", "Content-Type: application/json", "-d", &body]);
        }
        Some("expire") => {
            let body = json(json!({"expire": "1d"}));
            curl.args(["-H", "Content-Type: application/json", "-d", &body]);
        }
        Some("layer") => {
            curl.args(["-H", "Content-Type: application/json", "-d", &json(json!({"layer": "proxy"}))]);
        }
        Some("task") => {
            // No time at all: nothing runs.
            curl.args(["-H", "Content-Type: application/json", "-d", &json(json!({"time_limit": 0}))]);
        }
        Some("grant") => {
            // To nobody, so that nothing is given.
            let body =
                json!({"to": {"person": "nobody-at-all"}, "grant": {"role": "viewer", "app": app, "label": label}});
            curl.args(["-H", "Content-Type: application/json", "-d", &json(body)]);
        }
        _ => {}
    }
    let said = run(curl.arg(format!("{}{path}", credentials["gateway"].as_str().unwrap()))).stdout;
    let (body, status) = said.rsplit_once('\n').unwrap();
    if status.starts_with('2') || status == "101" {
        return "ok".to_owned();
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{} {path}: {said}", act.method));
    body["code"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn every_role_may_what_it_may_and_no_more() {
    let lab = Lab::get();
    let (own, other) = (Organisation::new(&lab, "matrix-own"), Organisation::new(&lab, "matrix-other"));
    let app = "matrix-app";
    let boss = own.person("matrix-admin", &["--role", "administrator"]);
    boss.td(&["app", "create", app]).ok();
    std::fs::write(boss.path().join("index.html"), "hello").unwrap();
    std::fs::write(
        boss.path().join("magrathea.yml"),
        "tasks: {note: {run: 'true', role: developer}, plain: {run: 'true'}}\n\
         labels: {staging: {cluster: lab}, production: {cluster: lab}}\n",
    )
    .unwrap();
    for label in ["staging", "production"] {
        boss.td(&["app", "deploy", "--dirty", "--app", app, "--label", label]).ok();
    }
    let on = |role: &'static str| own.person(&format!("matrix-{role}"), &["--role", role, "--app", app]);
    let (viewer, developer, operator, accountant) = (on("viewer"), on("developer"), on("operator"), on("accountant"));
    let staging = own.person("matrix-staging", &["--role", "viewer", "--app", app]);
    lab.td(&lab.home, &["grant", "add", "developer", "matrix-staging", "--app", app, "--label", "staging"]).ok();
    let without = own.person("matrix-without", &[]);
    let rival = other.person("matrix-rival", &["--role", "administrator"]);
    let guest = other.person("matrix-guest", &["--role", "developer"]);
    let member = own.person("matrix-member", &[]);
    boss.td(&["team", "create", "ops"]).ok();
    boss.td(&["team", "add", "ops", "matrix-member"]).ok();
    boss.td(&["grant", "add", "operator", "team:matrix-own/ops", "--app", app]).ok();
    let minted =
        developer.td(&["token", "create", "ci", "--role", "developer", "--app", app, "--label", "staging"]).ok();
    let removed = developer.td(&["token", "create", "old"]).ok().stdout.trim().to_owned();
    developer.td(&["token", "remove", "old"]).ok();
    let admin: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();

    let token = |person: &Person| person.token();
    let mut columns = vec![
        ("administrator of the platform", admin["token"].as_str().unwrap().to_owned()),
        ("administrator of its organisation", token(&boss)),
        ("operator", token(&operator)),
        ("member of a team that is operator", token(&member)),
        ("developer", token(&developer)),
        ("viewer, developer of staging", token(&staging)),
        ("viewer", token(&viewer)),
        ("accountant", token(&accountant)),
        ("nobody of its organisation", token(&without)),
        ("administrator of another organisation", token(&rival)),
        ("token: developer of staging", minted.stdout.trim().to_owned()),
        ("a removed token", removed),
        ("a truncated token", token(&boss).chars().take(40).collect()),
    ];
    let guests = "developer of another organisation that it is shared with as viewer";
    columns.push((guests, token(&guest)));

    let mut table = String::new();
    for (who, token) in &columns {
        if *who == guests {
            boss.td(&["grant", "add", "viewer", "org:matrix-other", "--app", app]).ok();
        }
        writeln!(table, "\n## {who}\n\n| act | takes | staging | production | an app that is not there |\n| --- | --- | --- | --- | --- |").unwrap();
        for act in ACTS {
            let cells = [(app, "staging"), (app, "production"), ("matrix-none", "staging")].map(|(app, label)| {
                match ask(&lab, act, token, app, label).as_str() {
                    "unauthenticated" | "too_many_attempts" => "not logged in",
                    "forbidden" => "no",
                    "app_not_found" | "instance_not_found" => "does not exist",
                    code if code == act.allowed => "yes",
                    code => panic!("{who}: {} {} of {app} ({label}): {code}", act.method, act.path),
                }
            });
            writeln!(table, "| {} | {} | {} |", act.title, act.verb, cells.join(" | ")).unwrap();
        }
    }
    let head = "# Who may do what\n\nWritten by the test `tests/tests/access.rs`, which asks the running gateway. \"does not exist\" is the \
                very answer that an app gets which is not there.\n";
    let path = lab.repository.join("docs/reference/access.md");
    if std::env::var_os("MAGRATHEA_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, format!("{head}{table}")).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        format!("{head}{table}"),
        "docs/reference/access.md"
    );
}
