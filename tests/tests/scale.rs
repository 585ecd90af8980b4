//! More and fewer replicas of what serves: no request is lost, later deploys keep the number, and what cannot be is refused.

use std::time::{Duration, Instant};

use magrathea_tests::load::{Load, failures};
use magrathea_tests::site::Site;
use magrathea_tests::{Lab, until};

const MANIFEST: &str = "app_layer:\n  memory: 256MiB\n  request_memory: 12MiB\n  health: {path: /up.txt, expect: 200}\n  workers:\n    queue: {run: \
                        sleep 100000, memory: 32MiB, health: {command: 'true'}}\n";

fn site(name: &str) -> Site {
    let site = Site::new(&Lab::get(), name);
    site.file("up.txt", "up").file("index.php", "<?php echo getenv('MAGRATHEA_RELEASE'), ' ', gethostname();");
    site.file("slow.php", "<?php sleep(5); echo 'slow';").file("magrathea.yml", MANIFEST);
    site.deploy().ok();
    site
}

fn processes(site: &Site) -> Vec<(String, u64, u64, u64)> {
    let listed = site.td(&["app", "scale", "default", "--json"]).ok().json();
    let number = |process: &serde_json::Value, key: &str| process[key].as_u64().unwrap_or(99);
    let row = |process: &serde_json::Value| {
        let name = process["process"].as_str().unwrap().to_owned();
        (name, number(process, "wanted"), number(process, "running"), number(process, "manifest"))
    };
    listed.as_array().unwrap().iter().map(row).collect()
}

fn row(process: &str, wanted: u64, running: u64, manifest: u64) -> (String, u64, u64, u64) {
    (process.to_owned(), wanted, running, manifest)
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn no_request_is_lost_when_replicas_come_and_go() {
    let site = site("test-scale");
    let (url, slow) = (site.url("/"), site.url("/slow.php"));
    let limit = Duration::from_secs(180);
    let load = Load::start(site.lab.client(), url, 100, limit);
    let slow = Load::start(site.lab.client(), slow, 1, limit);
    let mut took = Vec::new();
    for count in ["3", "1", "2", "4", "2", "1"] {
        let began = Instant::now();
        site.td(&["app", "scale", "default", &format!("web={count}")]).ok();
        took.push((count, began.elapsed()));
        let info = site.td(&["app", "info", "--json"]).ok().json();
        let replicas = info["instances"][0]["serving"]["replicas"].as_array().unwrap().len();
        assert_eq!(replicas.to_string(), count, "the router's word");
        std::thread::sleep(Duration::from_secs(1));
    }
    // The last that were told to end have ended what they had.
    std::thread::sleep(Duration::from_secs(9));
    let (fast, slow) = (load.finish(), slow.finish());
    println!("scalings: {took:?}; {} requests, {} slow", fast.len(), slow.len());
    let failed: std::collections::BTreeSet<String> = failures(&fast).into_iter().chain(failures(&slow)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(fast.len() > 1000 && slow.len() > 15);
    let info = site.td(&["app", "info", "--json"]).ok().json();
    assert_eq!(info["instances"][0]["serving"]["release"], 1, "no release was made");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn later_deploys_keep_the_number() {
    let site = site("test-scale-kept");
    assert_eq!(processes(&site), [row("web", 1, 1, 1), row("queue", 1, 1, 1)]);
    site.td(&["app", "scale", "default", "web=2", "queue=0"]).ok();
    until(Duration::from_secs(60), "the worker is gone", || {
        processes(&site) == [row("web", 2, 2, 1), row("queue", 0, 0, 1)]
    });
    let deployed = site.deploy().ok();
    assert!(
        deployed.stderr.contains("web keeps 2, as `td app scale` has set it; magrathea.yml says 1"),
        "{deployed:?}"
    );
    until(Duration::from_secs(30), "as before", || processes(&site) == [row("web", 2, 2, 1), row("queue", 0, 0, 1)]);
    site.td(&["app", "scale", "default", "web=default", "queue=default"]).ok();
    until(Duration::from_secs(30), "as the file says", || {
        processes(&site) == [row("web", 1, 1, 1), row("queue", 1, 1, 1)]
    });
    let timeline = site.td(&["timeline", "--json"]).ok().stdout;
    assert!(timeline.contains("app.scaled") && timeline.contains("queue=0 web=2"), "{timeline}");

    for (args, code, said) in [
        (["app", "scale", "default", "mail=2"], 1, "has no process type mail"),
        (["app", "scale", "default", "web=0"], 1, "web can have 1 to 64 replicas, not 0"),
        (["app", "scale", "default", "web=many"], 2, "is not a number of replicas"),
    ] {
        let refused = site.td(&args);
        assert!(refused.code == code && refused.stderr.contains(said), "{refused:?}");
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn more_than_the_cluster_has_is_refused_before_anything_is_made() {
    let site = site("test-scale-room");
    let promised = || {
        let info = site.td(&["cluster", "info", "--json"]).ok().json();
        info["capacity"]["memory"]["promised"].as_u64().unwrap()
    };
    let before = promised();
    let manifest = std::fs::read_to_string(site.path().join("magrathea.yml")).unwrap();
    let greedy = manifest.replace("memory: 256MiB", "memory: 512GiB");
    assert_ne!(greedy, manifest, "{manifest}");
    site.file("magrathea.yml", &greedy);
    let planned = site.td(&["app", "plan", "--dirty"]).ok();
    assert!(planned.stderr.contains("a deploy would be refused: cluster lab is too small"), "{}", planned.stderr);
    let refused = site.deploy();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for word in [
        "it takes 512 GiB of memory (now 288 MiB)",
        "where there is room for",
        "`td cluster info lab` shows what is promised",
    ] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    assert!(site.serves());
    assert_eq!(promised(), before, "a deploy that ended holds nothing");

    site.file("magrathea.yml", &manifest);
    site.td(&["app", "scale", "default", "web=3"]).ok();
    assert_eq!(promised() - before, 2 * (256 << 20));
}
