//! The number of replicas follows a real load: up within its time, without a request lost, and down when the load is over. A
//! number of somebody's rests it. `scripts/test.sh` makes the gateway follow more quickly than it does by itself.

use std::time::{Duration, Instant};

use magrathea_tests::load::{Load, failures};
use magrathea_tests::site::Site;
use magrathea_tests::{Lab, until};

/// Two requests at once in a replica.
const MANIFEST: &str = "app_layer:\n  memory: 128MiB\n  request_memory: 32MiB\n  health: {path: /up.txt, expect: 200}\n  replicas: {min: 1, \
                        max: 3}\n";

fn web(site: &Site) -> serde_json::Value {
    site.td(&["app", "scale", "default", "--json"]).ok().json()[0].clone()
}

fn wanted(site: &Site) -> u64 {
    web(site)["wanted"].as_u64().unwrap()
}

/// The lines of the app's timeline; an app of the same name may have left some.
fn timeline(site: &Site) -> Vec<serde_json::Value> {
    site.td(&["timeline", "--json"]).ok().json().as_array().unwrap().clone()
}

fn newest(site: &Site) -> u64 {
    timeline(site).iter().filter_map(|line| line["id"].as_u64()).max().unwrap_or(0)
}

/// Why the gateway has scaled it, after a line of the timeline.
fn reasons(site: &Site, after: u64) -> Vec<String> {
    let is_own = |line: &&serde_json::Value| line["actor"] == "gateway" && line["action"] == "app.scaled";
    let lines = timeline(site);
    let own = lines.iter().rev().filter(is_own).filter(|line| line["id"].as_u64() > Some(after));
    own.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn replicas_follow_the_load() {
    let site = Site::new(&Lab::get(), "test-autoscale");
    site.file("up.txt", "up").file("index.php", "<?php usleep(500000); echo 'done';").file("magrathea.yml", MANIFEST);
    let before = newest(&site);
    site.deploy().ok();
    let info = web(&site);
    assert_eq!((&info["wanted"], &info["automatic"]["max"]), (&1.into(), &3.into()), "{info}");
    let shown = site.td(&["app", "scale", "default"]).ok();
    assert!(shown.stdout.contains("1–3 at 70%") && shown.stderr.contains("the number follows the load"), "{shown:?}");

    // Three half seconds of work each second: three quarters of one replica, with a queue now and then; two do it.
    let limit = Duration::from_secs(240);
    let began = Instant::now();
    let load = Load::start(site.lab.client(), site.url("/"), 3, limit);
    until(Duration::from_secs(60), "there are more", || wanted(&site) >= 2);
    let up = began.elapsed();
    until(Duration::from_secs(30), "it is seen to be busy", || web(&site)["busy"]["requests"].as_u64() > Some(0));
    // Six a second are three busy at any time, of which four would do: it goes up once more, and stays.
    let more = Load::start(site.lab.client(), site.url("/"), 3, limit);
    until(Duration::from_secs(60), "there are as many as there may be", || wanted(&site) == 3);
    until(Duration::from_secs(30), "it is told", || {
        reasons(&site, before).iter().any(|reason| reason.contains("→ 3: "))
    });
    let told = reasons(&site, before).len();
    std::thread::sleep(Duration::from_secs(30));
    assert_eq!((wanted(&site), reasons(&site, before).len()), (3, told), "it stays under a load that stays");
    // Another release begins with the number that there is.
    site.deploy().ok();
    assert_eq!(wanted(&site), 3);
    let (first, second) = (load.finish(), more.finish());
    let failed: Vec<String> = failures(&first).into_iter().chain(failures(&second)).collect();
    assert!(failed.is_empty(), "{failed:#?}");

    let ended = Instant::now();
    until(Duration::from_secs(120), "they go when the load is over", || wanted(&site) == 1);
    until(Duration::from_secs(30), "it is told", || reasons(&site, before).last().unwrap().contains("→ 1: "));
    let reasons = reasons(&site, before);
    println!(
        "up after {up:?}, down after {:?}, {} requests: {reasons:#?}",
        ended.elapsed(),
        first.len() + second.len()
    );
    assert!(reasons.iter().any(|reason| reason.contains("web 1 → 2: ") && reason.contains("at once")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("web 2 → 1: at most 0 of 4 at once in use")), "{reasons:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_number_of_somebodys_rests_it() {
    let site = Site::new(&Lab::get(), "test-autoscale-rests");
    site.file("up.txt", "up").file("index.php", "<?php usleep(500000); echo 'done';").file("magrathea.yml", MANIFEST);
    let before = newest(&site);
    site.deploy().ok();
    site.td(&["app", "scale", "default", "web=1"]).ok();
    let shown = site.td(&["app", "scale", "default"]).ok();
    assert!(shown.stderr.contains("automatic scaling rests; web=default gives the number back to it"), "{shown:?}");
    let load = Load::start(site.lab.client(), site.url("/"), 3, Duration::from_secs(120));
    std::thread::sleep(Duration::from_secs(25));
    assert_eq!((wanted(&site), reasons(&site, before).len()), (1, 0));
    site.td(&["app", "scale", "default", "web=default"]).ok();
    until(Duration::from_secs(60), "it follows the load again", || wanted(&site) > 1);
    let failed = failures(&load.finish());
    assert!(failed.is_empty(), "{failed:#?}");

    // A window holds without any load.
    let window =
        MANIFEST.replace("max: 3}", "max: 3, windows: [{from: 2020-01-01T00:00, until: 2999-01-01T00:00, min: 3}]}");
    site.file("magrathea.yml", window);
    site.deploy().ok();
    until(Duration::from_secs(60), "the window is open", || wanted(&site) == 3);
    let info = site.td(&["app", "info"]).ok();
    assert!(info.stdout.contains("a window wants at least 3 replicas until 2999-01-01T00:00:00Z"), "{info:?}");
}
