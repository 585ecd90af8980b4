//! Releases: listing, comparing, and going back to one.

use std::time::Duration;

use magrathea_tests::load::{Load, failures};
use magrathea_tests::{Lab, site::Site};

const PAGE: &str = "<?php header('Cache-Control: no-store'); echo 'two ', getenv('KEY'), ' ', ini_get('memory_limit');";

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_earlier_release_comes_back_whole_under_load() {
    let lab = Lab::get();
    let site = Site::new(&lab, "returns");
    let manifest = |limit: &str| {
        format!(
            "secrets: [KEY]\napp_layer: {{ini: {{memory_limit: {limit}}}}}\nhooks: {{release: ['date >> uploads/log']}}\nstorage: {{writable: {{uploads: {{kind: shared}}}}}}\n"
        )
    };
    site.td(&["app", "create", "returns"]).ok();
    site.td(&["config", "set", "KEY=old", "--no-deploy"]).ok();
    site.file("magrathea.yml", manifest("96M")).file("index.php", PAGE.replace("two", "one"));
    site.deploy().ok();
    assert_eq!(site.get("/").await, (200, "one old 96M".into()));
    site.td(&["config", "set", "KEY=new", "--no-deploy"]).ok();
    site.file("magrathea.yml", manifest("112M")).file("index.php", PAGE).file("new.php", "<?php");
    site.deploy().ok();
    assert_eq!(site.get("/").await, (200, "two new 112M".into()));

    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(120));
    let ended = site.td(&["release", "rollback"]).ok();
    assert!(ended.stderr.contains("v1"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("build"), "{}", ended.stderr);
    assert_eq!(site.get("/").await, (200, "one old 96M".into()));
    site.td(&["release", "rollback", "v2"]).ok();
    assert_eq!(site.get("/").await, (200, "two new 112M".into()));
    site.td(&["release", "rollback", "1"]).ok();
    let answers = load.finish();
    assert!(answers.len() > 50, "{} requests are no load", answers.len());
    assert_eq!(failures(&answers), Vec::<String>::new());
    // The release hook ran once for each release.
    let hooks = lab.td(site.path(), &["app", "run", "--app", "returns", "wc -l < uploads/log"]).ok();
    assert_eq!(hooks.stdout.trim(), "2");

    let list = site.td(&["release", "list", "--json"]).ok().json();
    let rows: Vec<_> = list.as_array().unwrap().iter().map(|r| (&r["number"], &r["serving"], &r["state"])).collect();
    assert_eq!(serde_json::json!(rows), serde_json::json!([[2, false, "served"], [1, true, "served"]]));
    assert_eq!(list[1]["config_version"], 1);
    let info = site.td(&["release", "info"]).ok().stdout;
    assert!(info.contains("v1 of label default") && info.contains("state     serving"), "{info}");

    let diff = site.td(&["release", "diff", "v1", "v2", "--json"]).ok().json();
    let files = serde_json::json!([
        {"name": "index.php", "difference": "changed"},
        {"name": "magrathea.yml", "difference": "changed"},
        {"name": "new.php", "difference": "added"},
    ]);
    assert_eq!(diff["files"], files);
    let setting = serde_json::json!([{"path": "app_layer.ini.memory_limit", "from": "96M", "to": "112M"}]);
    assert_eq!(diff["settings"], setting);
    assert_eq!(diff["values"], serde_json::json!([{"name": "KEY", "difference": "changed"}]));
    let texts = diff["rendered"].as_array().unwrap();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    assert!(texts[0]["diff"].as_str().unwrap().contains("memory_limit"), "{texts:#?}");
    let shown = site.td(&["release", "diff", "v1", "v2"]).ok().stdout;
    assert!(shown.contains("+ new.php") && shown.contains("memory_limit: 96M -> 112M"), "{shown}");
    assert!(!shown.contains("old") && !shown.contains("new\n"), "a value is told: {shown}");

    // What the layers were told each time; the history is written behind the deploys.
    magrathea_tests::until(Duration::from_secs(10), "the history is written", || {
        let history = site.td(&["config", "history", "--json"]).ok().json();
        history["configurations"].as_array().unwrap().len() == 5
    });
    let history = site.td(&["config", "history", "-n", "3"]).ok().stdout;
    assert!(history.contains("release v1") && history.contains("set KEY"), "{history}");
    let php = site.td(&["config", "show", "--layer", "app"]).ok().stdout;
    assert!(php.contains("# app/web/") && php.contains("96M") && !php.contains("# proxy/"), "{php}");
    let diff = site.td(&["config", "diff", "--layer", "app"]).ok().stdout;
    assert!(diff.contains("  -memory_limit") && diff.contains("  +memory_limit"), "{diff}");
    let unknown = site.td(&["config", "show", "abcdef12"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("has no such configuration"), "{unknown:?}");

    for (to, said) in
        [("v1", "v1 serves returns (default) already"), ("v7", "has no release v7 that served and is kept")]
    {
        let refused = site.td(&["release", "rollback", to]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let nothing = site.td(&["release", "rollback"]);
    assert!(nothing.stderr.contains("has no release before v1"), "{}", nothing.stderr);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn one_label_gets_the_very_image_of_another_with_its_own_configuration() {
    let lab = Lab::get();
    let site = Site::new(&lab, "promoted");
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo getenv('STAGE'), ' ', getenv('KEY');").file(
        "magrathea.yml",
        "
secrets: [KEY]
labels:
  staging: {branch: develop, env: {STAGE: staging}}
  live: {branch: main, env: {STAGE: live}, routing: {domains: [promoted-live.localhost]}}
  flat: {app_layer: {stack: static}}
",
    );
    site.td(&["app", "create", "promoted"]).ok();
    for label in ["staging", "live"] {
        site.td(&["config", "set", &format!("KEY=of-{label}"), "--no-deploy", "--label", label]).ok();
    }
    let before = site.td(&["app", "promote", "staging", "live"]);
    assert_eq!(before.code, 1, "{}", before.stderr);
    assert!(before.stderr.contains("promoted has no instance with the label staging"), "{}", before.stderr);
    site.td(&["app", "deploy", "--dirty", "--label", "staging"]).ok();
    let get = async |host: &str| lab.client().get(lab.url(host, "/")).send().await.unwrap().text().await.unwrap();
    assert_eq!(get("promoted-staging.localhost").await, "staging of-staging");
    site.td(&["app", "promote", "staging", "live"]).ok();
    assert_eq!(get("promoted-live.localhost").await, "live of-live");
    assert_eq!(get("promoted-staging.localhost").await, "staging of-staging");
    let list = site.td(&["release", "list", "--json"]).ok().json();
    let images: Vec<_> = list.as_array().unwrap().iter().map(|release| release["image"].as_str().unwrap()).collect();
    assert_eq!(images.len(), 2);
    assert_eq!(images[0], images[1]);

    for (args, code, said) in [
        (["staging", "staging"], 1, "staging serves that already"),
        (["staging", "nowhere"], 3, "its magrathea.yml: there is no label `nowhere`"),
        (["staging", "flat"], 3, "the image runs on"),
    ] {
        let refused = site.td(&["app", "promote", args[0], args[1]]);
        assert_eq!(refused.code, code, "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn all_labels_are_deployed_side_by_side() {
    let lab = Lab::get();
    let site = Site::new(&lab, "several");
    let labels = "
labels:
  one: {env: {STAGE: first}}
  two: {env: {STAGE: second}}
  away: {cluster: nowhere}
  broken: {hooks: {release: ['exit 9']}}
";
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo getenv('STAGE');")
        .file("magrathea.yml", labels);
    let ended = site.td(&["app", "deploy", "--dirty", "--all"]);
    assert_eq!(ended.code, 3, "the first that failed, in the order of names: {}", ended.stderr);
    for (label, said) in
        [("one", "succeeded"), ("two", "succeeded"), ("away", "refused:"), ("broken", "failed (release_hook)")]
    {
        let row = ended.stdout.lines().find(|line| line.starts_with(&format!("{label} "))).unwrap_or_default();
        assert!(row.contains(said), "{label}: {}", ended.stdout);
    }
    assert!(ended.stderr.lines().any(|line| line.starts_with("one ") && line.contains("health")), "{}", ended.stderr);
    for (host, stage) in [("several-one.localhost", "first"), ("several-two.localhost", "second")] {
        let answer = lab.client().get(lab.url(host, "/")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), stage);
    }
    site.file("magrathea.yml", "labels: {one: {}, two: {}}\n");
    let ended = site.td(&["app", "deploy", "--dirty", "--all", "--json"]).ok().json();
    let statuses: Vec<_> = ended.as_array().unwrap().iter().map(|entry| &entry["deploy"]["status"]).collect();
    assert_eq!(statuses, ["succeeded", "succeeded"]);
    let refused = site.td(&["app", "deploy", "--all", "--label", "one"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

fn docker(args: &[&str]) -> String {
    magrathea_tests::run(std::process::Command::new("docker").args(args)).stdout
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn what_is_not_kept_gives_its_disk_back() {
    let lab = Lab::get();
    let site = Site::new(&lab, "retained");
    for version in 1..=8 {
        site.file("index.html", format!("version {version}")).deploy().ok();
    }
    let slug = site.slug();
    let images = || docker(&["image", "ls", "-q", "--no-trunc", "--filter", &format!("label=magrathea.slug={slug}")]);
    magrathea_tests::until(Duration::from_secs(30), "five images are left", || images().lines().count() == 5);
    let list = site.td(&["release", "list", "--json"]).ok().json();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|r| r["state"].as_str().unwrap()).collect();
    assert_eq!(states, [&["served"; 5][..], &["pruned"; 3]].concat());
    // One that never gets healthy, of an app that never served: nothing of it stays but the empty ground.
    let failed = Site::new(&lab, "retained-not");
    failed
        .file("index.html", "x")
        .file("magrathea.yml", "app_layer: {health: {path: /nothing-here, expect: 200, timeout: 3s}}\nenv: {A: b}\n");
    assert_ne!(failed.deploy().code, 0);
    let slug = failed.slug();
    magrathea_tests::until(Duration::from_secs(30), "nothing of it is left", || {
        let image = docker(&["image", "ls", "-q", "--filter", &format!("label=magrathea.slug={slug}")]);
        let rest = ["service", "secret", "config"].map(|kind| docker(&[kind, "ls", "--format", "{{.Name}}"]));
        image.is_empty() && rest.iter().all(|names| !names.contains(&slug))
    });
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn one_layer_is_put_back_and_the_release_stays() {
    let lab = Lab::get();
    let site = Site::new(&lab, "layered");
    let manifest = |ttl: &str, tls: &str| format!("proxy: {{kind: varnish, ttl: {ttl}}}\nrouting: {{{tls}}}\n");
    let page = "<?php echo microtime(true);";
    site.file("index.php", page).file("magrathea.yml", manifest("10m", "")).deploy().ok();
    let history = || site.td(&["config", "history", "--json"]).ok().json()["configurations"].clone();
    let count = |count: usize| {
        magrathea_tests::until(Duration::from_secs(10), "the history is written", || {
            history().as_array().unwrap().len() == count
        });
    };
    count(1);
    let first = history()[0]["id"].as_str().unwrap()[..8].to_owned();
    site.file("magrathea.yml", manifest("0s", "")).deploy().ok();
    count(2);
    let (one, two) = (site.get("/").await.1, site.get("/").await.1);
    assert_ne!(one, two, "nothing is cached");
    let restored = site.td(&["config", "restore", &first, "--layer", "proxy"]).ok();
    assert!(restored.stdout.contains("proxy/cache"), "{}", restored.stdout);
    // Another path: Varnish remembers for a while what was not to be cached.
    let (one, two) = (site.get("/?again").await.1, site.get("/?again").await.1);
    assert_eq!(one, two, "the former policy caches");
    assert_eq!(site.td(&["release", "list", "--json"]).ok().json()[0]["serving"], true);
    count(3);
    let newest = history()[0].clone();
    assert_eq!(newest["person"], "admin");
    assert!(newest["message"].as_str().unwrap().contains("the layer proxy of layered (default) is as in"), "{newest}");
    let again = site.td(&["config", "restore", &first, "--layer", "proxy"]).ok();
    assert!(again.stderr.contains("is so already"), "{}", again.stderr);
    for (args, said) in [
        (["config", "restore", &first, "--layer", "app"], "the layer app is not put back by itself"),
        (["config", "restore", "00000000", "--layer", "proxy"], "has no such configuration"),
    ] {
        let refused = site.td(&args);
        assert!(refused.code == 1 && refused.stderr.contains(said), "{refused:?}");
    }
    let hint = site.td(&["config", "restore", &first, "--layer", "storage"]).stderr;
    assert!(hint.contains("td release rollback v1"), "{hint}");
    // The next deploy says what holds.
    site.deploy().ok();
    let (one, two) = (site.get("/").await.1, site.get("/").await.1);
    assert_ne!(one, two);
}
