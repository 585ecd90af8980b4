//! One label on two real clusters, each with an engine of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::Stdio;

use magrathea_tests::repo::Repo;
use magrathea_tests::second::Second;
use magrathea_tests::site::Site;
use magrathea_tests::ssh::Ssh;
use magrathea_tests::{Ended, Lab};

const MANIFEST: &str = r#"
app: spread
app_layer: {stack: php, memory: 128MiB}
storage: {writable: {uploads: {kind: shared}}}
secrets: [COLOUR]
hooks: {release: ["test ! -e uploads/broken"]}
labels:
  live: {cluster: [lab, far], branch: main}
  trial: {cluster: lab, branch: trial}
"#;

const WITH_DATABASE: &str = r#"
app: doubled
app_layer: {stack: php, memory: 128MiB}
proxy: {kind: none}
db: {mysql: {}}
labels:
  live: {cluster: [lab, far], branch: main}
  "preview/*": {cluster: [lab, far], branch: feature/*, expire: 1h}
"#;

fn page(version: &str) -> String {
    format!(
        "<?php header('Cache-Control: no-store'); error_log('said {version}'); echo '{version} ', getenv('COLOUR');"
    )
}

struct Both {
    lab: Lab,
    second: Second,
}

impl Both {
    /// What the label serves on each cluster.
    async fn get(&self) -> (String, String) {
        self.serves("spread-live").await
    }

    /// What an app's label serves, by its host's name.
    async fn serves(&self, name: &str) -> (String, String) {
        let get = async |url: String| {
            let answer = self.lab.client().get(url).send().await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            if status == 200 { text } else { status.to_string() }
        };
        (
            get(self.lab.url(&format!("{name}.localhost"), "/")).await,
            get(self.second.url(&format!("{name}.far.localhost"), "/")).await,
        )
    }
}

fn both(lab: &str, far: &str) -> (String, String) {
    (lab.to_owned(), far.to_owned())
}

/// The rows of a summary without their times and addresses.
fn rows(ended: &Ended) -> Vec<String> {
    let rows = ended.stdout.lines().skip(1).map(|row| row.split_whitespace().take(4).collect::<Vec<_>>().join(" "));
    rows.collect()
}

/// One second cluster for all of it: making it and taking it away takes half a minute.
#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn two_clusters_carry_one_app() {
    let lab = Lab::get();
    let here = Both { second: Second::new(&lab), lab };
    a_label_lives_on_two_clusters(&here).await;
    doors_trials_and_previews_are_of_one_cluster_or_both(&here).await;
}

async fn a_label_lives_on_two_clusters(here: &Both) {
    let lab = &here.lab;
    let (site, repo, ssh) = (Site::new(lab, "spread"), Repo::new(lab), Ssh::new(lab));
    site.file("magrathea.yml", MANIFEST).file("index.php", page("one"));
    site.td(&["app", "create", "spread"]).ok();
    site.td(&["config", "set", "COLOUR=red"]).ok();

    // One deploy, an instance on each.
    let ended = site.td(&["app", "deploy", "--dirty", "--label", "live"]).ok();
    assert_eq!(rows(&ended), ["live lab v1 succeeded", "live far v1 succeeded"], "{ended:?}");
    assert_eq!(here.get().await, both("one red", "one red"));
    let info = site.td(&["app", "info", "--json"]).ok().json();
    let ids: Vec<_> = info["instances"].as_array().unwrap().iter().map(|instance| instance["id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{info}");
    let services = here.second.docker(&["service", "ls", "--format", "{{.Name}}"]).ok().stdout;
    assert!(services.contains(&ids[0].as_str().unwrap().replace('-', "")[20..]), "{services}");

    // A value is the app's, and changes on both.
    site.td(&["config", "set", "COLOUR=blue"]).ok();
    assert_eq!(here.get().await, both("one blue", "one blue"));

    // What is about one of them says which there are, and takes --cluster.
    for args in [&["app", "shell", "--label", "live", "true"][..], &["app", "logs", "--label", "live"]] {
        let refused = lab.td(site.path(), args);
        assert!(
            refused.code == 2 && refused.stderr.contains("far") && refused.stderr.contains("--cluster"),
            "{refused:?}"
        );
    }
    let at = |door: &str, cluster: &str, line: &str| {
        lab.td(site.path(), &["app", door, "--label", "live", "--cluster", cluster, "-T", line]).ok()
    };
    at("shell", "far", "touch uploads/only-far");
    let listed = |cluster: &str| at("run", cluster, "ls uploads");
    assert_eq!((listed("far").stdout.as_str(), listed("lab").stdout.as_str()), ("only-far\n", ""));
    let said = site.td(&["app", "logs", "--label", "live", "--cluster", "far", "--layer", "app"]).ok().stdout;
    assert!(said.contains("said one"), "{said}");
    let refused = ssh.run("spread.live", &["true"]);
    assert!(refused.code == 1 && refused.stderr.contains("spread.live.CLUSTER over SSH"), "{refused:?}");
    assert_eq!(ssh.run("spread.live.far", &["ls uploads"]).ok().stdout, "only-far\n");
    assert_eq!(ssh.run("spread.live.lab", &["ls uploads"]).ok().stdout, "");
    let elsewhere = site.td(&["task", "list", "--label", "live", "--cluster", "mars"]);
    assert!(elsewhere.code == 1 && elsewhere.stderr.contains("it lives on: "), "{elsewhere:?}");

    // One fails and the other does not; a push is refused and says which serves it already.
    at("run", "far", "touch uploads/broken");
    site.file("index.php", page("two"));
    let ended = site.td(&["app", "deploy", "--dirty", "--label", "live"]);
    assert_eq!(
        (ended.code, rows(&ended)),
        (1, vec!["live lab v3 succeeded".into(), "live far v3 failed".into()]),
        "{ended:?}"
    );
    assert_eq!(here.get().await, both("two blue", "one blue"));
    repo.link("spread").file("magrathea.yml", MANIFEST).file("index.php", page("three")).commit();
    let refused = repo.push("main");
    assert!(refused.code != 0 && refused.stderr.contains("already deployed by this push: live on lab"), "{refused:?}");
    assert_eq!((here.get().await, repo.remote("main")), (both("three blue", "one blue"), None));
    at("run", "far", "rm uploads/broken");
    let pushed = repo.push("main").ok().stderr;
    assert!(pushed.contains("label live on lab, serves this commit already"), "{pushed}");
    assert!(pushed.contains("label live on far"), "{pushed}");
    assert_eq!(here.get().await, both("three blue", "three blue"));

    // Back on all, back on one, other numbers of replicas.
    let ended = site.td(&["release", "rollback", "--label", "live"]).ok();
    assert_eq!(ended.stdout.matches("succeeded").count(), 2, "{ended:?}");
    assert_eq!(here.get().await, both("two blue", "one blue"));
    let refused = site.td(&["release", "rollback", "v1", "--label", "live"]);
    assert!(refused.code == 2 && refused.stderr.contains("--cluster: "), "{refused:?}");
    site.td(&["release", "rollback", "v1", "--label", "live", "--cluster", "lab"]).ok();
    assert_eq!(here.get().await, both("one red", "one blue"));
    site.td(&["app", "scale", "live", "web=2", "--cluster", "far"]).ok();
    let replicas = |cluster: &str| {
        let all = site.td(&["app", "scale", "live", "--cluster", cluster, "--json"]).ok().json();
        all[0]["wanted"].as_u64()
    };
    assert_eq!((replicas("lab"), replicas("far")), (Some(1), Some(2)));

    // The very image of one cluster is what both serve after a promotion; nothing is built for it.
    site.file("index.php", page("tried"));
    site.td(&["app", "deploy", "--dirty", "--label", "trial"]).ok();
    let image = |label: &str, cluster: &str| {
        let info = site.td(&["app", "info", "--json"]).ok().json();
        let all = info["instances"].as_array().unwrap().clone();
        let one = all.into_iter().find(|one| one["label"] == label && one["cluster"] == cluster).unwrap();
        one["release"]["image"].as_str().unwrap().to_owned()
    };
    let tried = image("trial", "lab");
    let held = |id: &str| here.second.docker(&["image", "inspect", "--format", "{{.Id}}", id]).stdout.trim().to_owned();
    assert_eq!(held(&tried), "");
    let promoted = site.td(&["app", "promote", "trial", "live"]).ok();
    assert_eq!(promoted.stdout.matches("succeeded").count(), 2, "{promoted:?}");
    assert!(promoted.stderr.contains("the image came from lab/node1 to far/node1"), "{promoted:?}");
    assert_eq!((image("live", "lab"), image("live", "far"), held(&tried)), (tried.clone(), tried.clone(), tried));
    assert_eq!(here.get().await, both("tried blue", "tried blue"));
    // What has come stays: the next one has nothing to wait for, and the way back is each cluster's own.
    let again = site.td(&["app", "promote", "trial", "live", "--cluster", "far"]).ok();
    assert!(!again.stderr.contains("the image came from"), "{again:?}");
    site.td(&["release", "rollback", "--label", "live", "--cluster", "far"]).ok();
    assert_eq!(here.get().await, both("tried blue", "tried blue"));

    // A cluster that leaves the list is told, serves on, and goes when somebody says so.
    site.file("magrathea.yml", MANIFEST.replace("[lab, far]", "lab")).file("index.php", page("four"));
    let ended = site.td(&["app", "deploy", "--dirty", "--label", "live"]).ok();
    assert!(ended.stderr.contains("live on far has left magrathea.yml"), "{ended:?}");
    assert_eq!(here.get().await, both("four blue", "tried blue"));
    site.td(&["app", "destroy", "spread", "--label", "live", "--cluster", "far", "--confirm", "live"]).ok();
    let (lab_serves, far_serves) = here.get().await;
    assert_eq!(lab_serves, "four blue");
    assert_ne!(far_serves, "tried blue");
}

async fn doors_trials_and_previews_are_of_one_cluster_or_both(here: &Both) {
    let lab = &here.lab;
    let (site, repo) = (Site::new(lab, "doubled"), Repo::new(lab));
    site.file("magrathea.yml", WITH_DATABASE).file("index.php", page("one"));
    site.td(&["app", "create", "doubled"]).ok();
    site.td(&["app", "deploy", "--dirty", "--label", "live"]).ok();

    // Each has a database of its own, and doors to it.
    let sql = |cluster: &str, statement: &str| {
        site.td(&["app", "db", "--label", "live", "--cluster", cluster, "-e", statement]).ok().stdout
    };
    sql("far", "CREATE TABLE only_far (n INT)");
    assert!(sql("far", "SHOW TABLES").contains("only_far"));
    assert_eq!(sql("lab", "SHOW TABLES"), "");
    let args = ["app", "tunnel", "db", "--app", "doubled", "--label", "live", "--cluster", "far"];
    let mut tunnel = lab.td_command(site.path(), &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tunnel.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    let mut greeting = [0; 64];
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_exact(&mut greeting).unwrap();
    assert!(String::from_utf8_lossy(&greeting).contains("MariaDB"));
    tunnel.kill().unwrap();
    tunnel.wait().unwrap();

    // A trial on each: both are decided at once, or one of them apart.
    let try_out = |version: &str| {
        site.file("index.php", page(version));
        site.td(&["app", "deploy", "--dirty", "--label", "live", "--canary", "30"]).ok();
    };
    try_out("two");
    site.td(&["deploy", "promote"]).ok();
    assert_eq!(here.serves("doubled-live").await, both("two ", "two "));
    try_out("three");
    site.td(&["deploy", "abort", "--label", "live", "--cluster", "far"]).ok();
    site.td(&["deploy", "promote"]).ok();
    assert_eq!(here.serves("doubled-live").await, both("three ", "two "));

    // A branch has an instance on each, and takes both along when it goes.
    repo.link("doubled").file("magrathea.yml", WITH_DATABASE).file("index.php", page("tried")).commit();
    repo.push("main").ok();
    repo.push("main:feature/cart").ok();
    assert_eq!(here.serves("doubled-preview-cart").await, both("tried ", "tried "));
    let previews = || site.td(&["preview", "list", "--json"]).ok().json().as_array().unwrap().len();
    assert_eq!(previews(), 2);
    repo.push(":feature/cart").ok();
    assert_eq!(previews(), 0);
}
