//! Deploys that cannot succeed: each ends with its phase, its reason, the tail of its log and the right exit status,
//! and what served before serves on.

use std::time::Duration;

use magrathea_tests::load::Load;
use magrathea_tests::{Lab, site::Site};

struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    code: i32,
    /// What the person reads.
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "syntax error",
        files: &[("magrathea.yml", "app: fails\nenv: {A: [}\n")],
        code: 3,
        says: &["magrathea.yml:2"],
    },
    Case {
        name: "several mistakes",
        files: &[("magrathea.yml", "app_layer:\n  replcas: 2\nproxy: {kind: squid}\n")],
        code: 3,
        says: &["replcas", "replicas", "squid", "varnish", "magrathea.yml:2", "magrathea.yml:3"],
    },
    Case {
        name: "unknown stack",
        files: &[("magrathea.yml", "app_layer: {stack: cobol}\n")],
        code: 3,
        says: &["cobol", "php"],
    },
    Case {
        name: "missing lock file",
        files: &[("composer.json", r#"{"require": {"monolog/monolog": "^3"}}"#)],
        code: 4,
        says: &["composer.lock", "composer update"],
    },
    Case {
        name: "constraint the stack does not meet",
        files: &[("composer.json", r#"{"require": {"php": "^7.4"}}"#)],
        code: 4,
        says: &["7.4", "8.4"],
    },
    Case {
        name: "build fails",
        files: &[("magrathea.yml", "build: {commands: ['echo before', 'echo the reason >&2; exit 7']}\n")],
        code: 4,
        says: &["the reason", "7", "build"],
    },
    Case {
        name: "build fills its disk",
        files: &[("magrathea.yml", "build: {disk: 64MiB, commands: ['head -c 200M /dev/zero > big']}\n")],
        code: 4,
        says: &["disk", "64MiB"],
    },
    Case {
        name: "build takes all memory",
        files: &[(
            "magrathea.yml",
            "build: {memory: 64MiB, commands: ['php -d memory_limit=-1 -r \"str_repeat(chr(65), 400000000);\"']}\n",
        )],
        code: 4,
        says: &["memory", "64MiB"],
    },
    Case {
        name: "build never ends",
        files: &[("magrathea.yml", "build: {timeout: 3s, commands: ['echo started; sleep 1000']}\n")],
        code: 4,
        says: &["3s", "started"],
    },
    Case {
        name: "never healthy",
        files: &[
            ("magrathea.yml", "app_layer: {health: {path: /up.php, expect: 200, timeout: 4s}}\n"),
            ("up.php", "<?php http_response_code(503); error_log('no database today'); echo 'not yet';"),
        ],
        code: 1,
        says: &["health", "503", "not yet", "no database today"],
    },
    Case {
        name: "writes to a read-only path",
        files: &[
            ("magrathea.yml", "app_layer: {health: {path: /up.php, expect: 200, timeout: 4s}}\n"),
            ("up.php", "<?php if (!file_put_contents(__DIR__ . '/cache.txt', 'x')) { http_response_code(500); }"),
        ],
        code: 1,
        says: &["health", "500", "Read-only file system"],
    },
    Case {
        name: "release hook fails",
        files: &[("magrathea.yml", "hooks: {release: ['echo migrating; exit 3']}\n")],
        code: 1,
        says: &["release_hook", "migrating", "3"],
    },
    Case {
        name: "secret not set",
        files: &[("magrathea.yml", "secrets: [SMTP_PASSWORD]\n")],
        code: 3,
        says: &["SMTP_PASSWORD", "td config set"],
    },
    Case {
        name: "VCL that varnish refuses",
        files: &[
            ("magrathea.yml", "proxy: {vcl: app.vcl}\n"),
            ("app.vcl", "sub vcl_recv { set req.http.x = no_such_thing; }"),
        ],
        code: 1,
        says: &["no_such_thing", "proxy"],
    },
];

/// A release that is healthy at first and then crashes is taken back.
#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_app_that_crashes_after_ten_seconds_is_rolled_back() {
    let lab = Lab::get();
    let site = Site::new(&lab, "crashes");
    site.file("index.php", "<?php echo 'the good one';").file("magrathea.yml", "app_layer: {health: {watch: 15s}}\n");
    let first = site.deploy().ok();
    assert!(first.stderr.contains("watch"), "{}", first.stderr);
    let load = Load::start(lab.client(), site.url("/"), 20, Duration::from_secs(120));
    // The health check's request starts what ends the replica.
    site.file(
        "index.php",
        "<?php if (@fopen('/tmp/once', 'x')) { exec('(sleep 10; echo out of luck >/proc/1/fd/2; kill -9 ' . posix_getppid() . ') >/dev/null 2>&1 &'); } echo 'the bad one';",
    );
    let second = site.deploy();
    assert_eq!(second.code, 8, "{}", second.stderr);
    for word in ["watch", "v2 did not stay up", "in use", "v1 serves again", "out of luck"] {
        assert!(second.stderr.contains(word), "{word}: {}", second.stderr);
    }
    assert_eq!(site.get("/").await, (200, "the good one".to_owned()));
    let answers = load.finish();
    assert!(answers.iter().any(|answer| answer.outcome.as_deref() == Ok("the bad one")), "it did serve for a while");
    let info = site.td(&["app", "info", "--json"]).ok().json();
    assert_eq!(info["instances"][0]["serving"]["release"], 1, "{info}");
    let log = site.td(&["timeline"]).ok().stdout;
    assert!(log.contains("did not stay up"), "{log}");
    site.file("index.php", "<?php echo 'a better one';");
    site.deploy().ok();
    assert_eq!(site.get("/").await, (200, "a better one".to_owned()));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn each_failure_is_told_and_what_served_serves_on() {
    let lab = Lab::get();
    let site = Site::new(&lab, "fails");
    site.file("index.php", "<?php echo 'the good one';");
    site.deploy().ok();
    let before = site.td(&["app", "info", "--json"]).ok().json();
    let mut wrong = Vec::new();
    for case in CASES {
        for (path, content) in case.files {
            site.file(path, content);
        }
        let ended = site.deploy();
        let missing: Vec<_> = case.says.iter().filter(|word| !ended.stderr.contains(**word)).collect();
        if ended.code != case.code || !missing.is_empty() {
            wrong.push(format!("{}: exit {}, not told {missing:?}:\n{}", case.name, ended.code, ended.stderr));
        }
        let (status, body) = site.get("/").await;
        assert_eq!((status, body.as_str()), (200, "the good one"), "{}", case.name);
        for (path, _) in case.files {
            std::fs::remove_file(site.path().join(path)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let after = site.td(&["app", "info", "--json"]).ok().json();
    assert_eq!(before["instances"][0]["serving"], after["instances"][0]["serving"], "the same replicas serve");
    let services = lab.docker(&["service", "ls", "--format", "{{.Name}}", "--filter", "label=magrathea.key=app/web"]);
    let slug = site.slug();
    let own: Vec<_> = services.lines().filter(|name| name.contains(&slug)).collect();
    assert_eq!(own.len(), 1, "failed releases leave no service: {own:?}");
}
