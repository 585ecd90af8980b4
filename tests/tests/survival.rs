//! Gateway and agent killed without warning at every phase of a deploy; the whole installation stopped and started.

use std::time::Duration;

use magrathea_tests::load::{Load, failures};
use magrathea_tests::{Lab, site::Site, until};

/// The phases that have an effect of their own on a redeploy.
const PHASES: &[&str] = &[
    "receive",
    "build",
    "release",
    "plan",
    "storage",
    "db",
    "release_hook",
    "app",
    "health",
    "proxy",
    "routing",
    "drain",
    "after_hook",
    "record",
];

async fn killed_at_every_phase(process: &str) {
    let lab = Lab::get();
    let site = Site::new(&lab, if process.ends_with("agent") { "hydra" } else { "lazarus" });
    let page = |version: usize| format!("<?php header('Cache-Control: no-store'); echo 'version {version}';");
    site.file("magrathea.yml", "db: {mysql: {}}\nhooks: {release: ['true'], after: ['true']}\n")
        .file("index.php", page(0));
    site.deploy().ok();
    let mut served = 0;
    let load = Load::start(lab.client(), site.url("/"), 20, Duration::from_secs(900));
    println!("| killed | phase | deploy | serves |\n|---|---|---|---|");
    for (n, phase) in PHASES.iter().enumerate() {
        let next = n + 1;
        site.file("index.php", page(next));
        let ended = site.deploy_and(phase, || {
            lab.kill(process);
            lab.local("up").ok();
        });
        let last = site.decided();
        let (_, body) = site.get("/").await;
        let expected = if last["status"] == "succeeded" { next } else { served };
        assert_eq!(body, format!("version {expected}"), "{process} killed at {phase}: {last}");
        served = expected;
        assert_eq!(ended.code == 0, last["status"] == "succeeded", "td tells the verdict: {ended:?}");
        println!("| {process} | {phase} | {} | {body} |", last["status"].as_str().unwrap_or("?"));
        until(Duration::from_secs(60), "nothing is left behind", || site.release_services().len() == 1);
        let timeline = site.td(&["timeline", "--json"]).ok().stdout;
        assert!(timeline.contains("deploy."), "{timeline}");
    }
    site.file("index.php", page(99));
    site.deploy().ok();
    assert_eq!(site.get("/").await.1, "version 99");
    assert_eq!(failures(&load.finish()), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn the_gateway_killed_at_every_phase() {
    killed_at_every_phase("magrathea-gateway").await;
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn the_agent_killed_at_every_phase() {
    killed_at_every_phase("magrathea-agent").await;
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn stopped_and_started_again_every_byte_is_there() {
    let lab = Lab::get();
    let site = Site::new(&lab, "sleeper");
    site.file("magrathea.yml", "db: {mysql: {}}\nstorage: {writable: {files: {kind: shared}}}\napp_layer: {health: {path: /up.txt, expect: 200}}\n")
        .file("files/seeded.txt", "from the release")
        .file("up.txt", "up")
        .file(
            "index.php",
            r#"<?php
            $db = new PDO('mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME'), getenv('DB_USER'), getenv('DB_PASSWORD'));
            if ($_SERVER['REQUEST_METHOD'] === 'POST') {
                $db->exec('CREATE TABLE IF NOT EXISTS t (v INT)');
                $db->exec('INSERT INTO t VALUES (42)');
                file_put_contents(__DIR__ . '/files/own.bin', str_repeat('x', 1 << 20));
            }
            echo $db->query('SELECT SUM(v) FROM t')->fetchColumn(), ' ', filesize(__DIR__ . '/files/own.bin'), ' ', file_get_contents(__DIR__ . '/files/seeded.txt');
            "#,
        );
    site.deploy().ok();
    let written = lab.client().post(site.url("/")).send().await.unwrap().text().await.unwrap();
    assert_eq!(written, "42 1048576 from the release");
    lab.local("stop").ok();
    assert!(lab.client().get(site.url("/")).send().await.is_err(), "nothing listens after stop");
    lab.local("up").ok();
    until(Duration::from_secs(60), "the app serves again", || site.serves());
    assert_eq!(site.get("/").await, (200, written));
    let started = std::time::Instant::now();
    lab.local("up").ok();
    println!("a second `up` took {:?}", started.elapsed());
}
