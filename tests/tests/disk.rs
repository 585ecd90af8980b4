//! Disk is counted by what it is taken for, people are told when a quota comes near, and one that is reached holds: deploys where
//! the disk itself refuses nothing, and writing to a database. With the whole platform, and the levels that it tells people.

use std::time::Duration;

use magrathea_tests::{Lab, site::Site, until};

const PAGE: &str = r#"<?php
header('Cache-Control: no-store');
$db = new PDO(sprintf('mysql:host=%s;port=%s;dbname=%s', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
try {
    if (isset($_GET['files'])) {
        $out = fopen(__DIR__ . '/uploads/file', 'wb');
        for ($n = 0; $n < (int) $_GET['files']; $n++) { fwrite($out, random_bytes(1000000)); }
        fsync($out);
    }
    if (isset($_GET['rows'])) {
        $db->exec('CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY AUTO_INCREMENT, a LONGBLOB)');
        $add = $db->prepare('INSERT INTO t (a) VALUES (?)');
        for ($n = 0; $n < (int) $_GET['rows']; $n++) { $add->execute([random_bytes(1000000)]); }
    }
    if (isset($_GET['empty'])) { @unlink(__DIR__ . '/uploads/file'); $db->exec('DROP TABLE IF EXISTS t'); }
} catch (PDOException $e) { http_response_code(507); exit($e->getMessage()); }
echo 'done';
"#;

/// How long a level may take to come: it is measured every few seconds in the laboratory, told every other, and read here.
const INTERVAL: Duration = Duration::from_secs(60);

fn deploy(site: &Site, files: &str, database: &str) -> magrathea_tests::Ended {
    let manifest = format!(
        "storage: {{quota: {files}, writable: {{uploads: {{kind: shared}}}}}}\ndb: {{mysql: {{quota: {database}}}}}\n"
    );
    site.file("magrathea.yml", manifest);
    site.deploy()
}

/// Bytes of a kind that the instance takes, as `td app info` tells them; none before they were measured.
fn used(site: &Site, metric: &str) -> Option<u64> {
    let info = site.td(&["app", "info", "--json"]).ok().json();
    let quotas = info["instances"][0]["quotas"].as_array()?.clone();
    quotas.iter().find(|quota| quota["metric"] == metric)?["used"].as_u64()
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn disk_is_counted_and_held_to_its_quota() {
    let lab = Lab::get();
    let site = Site::new(&lab, "warehouse");
    site.file("index.php", PAGE);
    deploy(&site, "1GiB", "1GiB").ok();
    until(INTERVAL, "both are measured", || used(&site, "files").is_some() && used(&site, "database").is_some());
    let (files, database) = (used(&site, "files").unwrap(), used(&site, "database").unwrap());

    // 100 MB of files and a table of 50 MB.
    assert_eq!(site.get("/?files=100").await, (200, "done".into()));
    assert_eq!(site.get("/?rows=50").await, (200, "done".into()));
    let grown = |metric, before: u64| used(&site, metric).unwrap().saturating_sub(before);
    let is_about = |bytes: u64, wanted: u64| bytes.abs_diff(wanted) * 20 <= wanted;
    until(INTERVAL, "100 MB of files are counted as files", || is_about(grown("files", files), 100_000_000));
    // A table's file grows by some mebibytes ahead of its rows, and rows of a megabyte leave the ends of their pages free.
    until(INTERVAL, "a table of 50 MB is counted as database", || {
        (50_000_000..62_000_000).contains(&grown("database", database))
    });
    println!("150 MB: files +{}, database +{}", grown("files", files), grown("database", database));
    let table = site.td(&["app", "info"]).ok().stdout;
    assert!(table.contains(" of 1.0 GiB ("), "{table}");

    // Both are more than what is allowed from now on: the larger quota of the deploy before let it through.
    let (near, reached, closed) =
        (site.told("quota.near").len(), site.told("quota.reached").len(), site.told("database.closed").len());
    let refused = deploy(&site, "64MiB", "32MiB");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.stderr.contains("its writable files take") && refused.stderr.contains("of 64.0 MiB"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("hint: delete some of them"), "{refused:?}");
    assert_eq!(site.newest_deploy()["failure"]["code"], "quota_reached");
    assert_eq!(site.get("/").await.0, 200, "what serves goes on");
    deploy(&site, "110MiB", "32MiB").ok();
    until(INTERVAL, "people are told of the files", || site.told("quota.near").len() > near);
    until(INTERVAL, "and of the database", || site.told("quota.reached").len() > reached);
    until(INTERVAL, "the database is closed", || site.told("database.closed").len() > closed);
    let (status, said) = site.get("/?rows=1").await;
    assert_eq!(status, 507, "{said}");
    assert!(said.contains("command denied"), "{said}");
    let deployed = deploy(&site, "110MiB", "32MiB").ok().stderr;
    let status = lab.td(&lab.home, &["status"]).ok().stderr;
    for said in [deployed, status] {
        assert!(said.contains("writable files take 9") && said.contains("the database's files take"), "{said}");
    }
    until(INTERVAL, "it stays closed", || used(&site, "database").is_some());

    // There is room again.
    let opened = site.told("database.opened").len();
    assert_eq!(site.get("/?empty=1").await, (200, "done".into()));
    until(INTERVAL, "the database is open", || site.told("database.opened").len() > opened);
    assert_eq!(site.get("/?rows=1").await, (200, "done".into()));
    until(INTERVAL, "the files are gone", || is_about(used(&site, "files").unwrap() + 1_000_000, files + 1_000_000));
    assert_eq!(site.told("quota.reached").len(), reached + 1, "each is told once");
}
