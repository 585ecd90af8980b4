//! Deploys under load, of the simplest and of larger sources.

use std::time::Duration;

use magrathea_tests::load::{Load, failures};
use magrathea_tests::{Lab, site::Site};

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_bare_directory_with_an_index_deploys() {
    let lab = Lab::get();
    let site = Site::new(&lab, "bare");
    site.file("index.php", "<?php echo 'hello from ', getenv('MAGRATHEA_APP');");
    let ended = site.deploy().ok();
    assert!(ended.stderr.contains("http://bare.localhost"), "{}", ended.stderr);
    assert_eq!(site.get("/").await, (200, "hello from bare".into()));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn ten_deploys_under_load_lose_no_request() {
    let lab = Lab::get();
    let site = Site::new(&lab, "busy");
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo 'version 0';");
    site.deploy().ok();
    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(300));
    for version in 1..=10 {
        site.file("index.php", format!("<?php header('Cache-Control: no-store'); echo 'version {version}';"));
        site.deploy().ok();
        let (_, body) = site.get("/").await;
        assert_eq!(body, format!("version {version}"), "td ends when the new release serves");
    }
    let answers = load.finish();
    assert!(answers.len() > 200, "{} requests are no load", answers.len());
    assert_eq!(failures(&answers), Vec::<String>::new());
    // A response may overtake another, but no request that began after a newer answer had come gets an older one.
    let number = |body: &str| body.trim_start_matches("version ").parse::<u32>().unwrap();
    for (n, answer) in answers.iter().enumerate() {
        let own = number(answer.outcome.as_ref().unwrap());
        let newest =
            answers[..n].iter().filter(|a| a.ended < answer.started).map(|a| number(a.outcome.as_ref().unwrap())).max();
        assert!(newest.is_none_or(|newest| own >= newest), "an old release answered after the switch");
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_second_deploy_is_refused_with_who_holds_the_lock() {
    let lab = Lab::get();
    let site = Site::new(&lab, "locked");
    site.file("index.php", "<?php echo 1;").file("magrathea.yml", "hooks: {release: ['sleep 5']}\n");
    let mut first = lab.td_command(site.path(), &["app", "deploy", "--dirty", "--app", "locked"]).spawn().unwrap();
    magrathea_tests::until(Duration::from_secs(20), "the first deploy is under way", || {
        let list = site.td(&["deploy", "list", "--json"]);
        list.code == 0 && list.stdout.contains("\"running\"")
    });
    let second = site.deploy();
    assert_eq!(second.code, 6, "{}", second.stderr);
    assert!(second.stderr.contains("admin"), "{}", second.stderr);
    let waiting = site.td(&["app", "deploy", "--dirty", "--wait", "60s"]);
    assert_eq!(waiting.code, 0, "{}", waiting.stderr);
    assert!(first.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_replica_that_dies_comes_back_by_itself() {
    let lab = Lab::get();
    let site = Site::new(&lab, "phoenix");
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo gethostname();")
        .file("magrathea.yml", "app_layer: {replicas: 2}\n");
    site.deploy().ok();
    let info = site.td(&["app", "info", "--json"]).ok().json();
    let replicas = info["instances"][0]["serving"]["replicas"].as_array().unwrap().clone();
    assert_eq!(replicas.len(), 2);
    let victim = replicas[0]["container"].as_str().unwrap().to_owned();
    lab.docker(&["kill", &victim]);
    let load = Load::start(lab.client(), site.url("/"), 20, Duration::from_secs(60));
    magrathea_tests::until(Duration::from_secs(30), "two replicas again", || {
        let info = site.td(&["app", "info", "--json"]).ok().json();
        let now = info["instances"][0]["serving"]["replicas"].as_array().unwrap().clone();
        now.len() == 2 && now.iter().all(|r| r["container"] != victim.as_str() && r["state"] == "up")
    });
    assert_eq!(failures(&load.finish()), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn what_serves_already_is_not_deployed_again_when_asked() {
    let lab = Lab::get();
    let site = Site::new(&lab, "unchanged");
    site.file("index.php", "<?php").file("magrathea.yml", "labels: {a: {}, b: {}}\n");
    let skip = |more: &[&str]| site.td(&[&["app", "deploy", "--dirty", "--if-unchanged", "skip"], more].concat());
    skip(&["--all"]).ok();
    let begun = std::time::Instant::now();
    let said = skip(&["--label", "a"]).ok();
    assert!(said.stderr.contains("v1 of unchanged, label a on lab, serves this already"), "{}", said.stderr);
    eprintln!("skipped in {:?}", begun.elapsed());
    site.td(&["app", "deploy", "--dirty", "--label", "a"]).ok();
    let all = skip(&["--all"]).ok().stdout;
    assert_eq!(all.matches("unchanged").count(), 2 + all.matches("http://unchanged").count(), "{all}");
    let json = skip(&["--label", "b", "--json"]).ok().json();
    assert_eq!((&json["unchanged"], &json["release"]), (&true.into(), &1.into()));
    site.file("index.php", "<?php // new");
    let json = skip(&["--label", "b", "--json"]).ok().json();
    assert_eq!((&json["unchanged"], &json["release"]), (&serde_json::Value::Null, &2.into()));
}
