//! A fault at every phase of a deploy, one by one, under a constant load of which a tenth takes two seconds: no request
//! fails, the verdict is true, the old release serves or the new one whole, nothing is left, and the next deploy works.

use std::time::Duration;

use magrathea_tests::load::{Load, failures};
use magrathea_tests::{Ended, Lab, run, site::Site, until};

/// Requests a second, and every how manyth is slow.
const RATE: u32 = 200;
const SLOW_EVERY: usize = 10;

/// What serves afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Serves {
    Old,
    New,
    /// The one that the verdict says.
    Either,
}

struct Fault {
    name: &'static str,
    /// Makes the version's files, deploys, and brings the fault about.
    run: fn(&Site, usize) -> Ended,
    /// Exit codes that tell the truth.
    codes: &'static [i32],
    /// What the person reads.
    says: &'static [&'static str],
    serves: Serves,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "build fails",
        run: |site, version| with(site, version, "build: {commands: ['echo the reason >&2; exit 7']}\n"),
        codes: &[4],
        says: &["the reason", "7"],
        serves: Serves::Old,
    },
    Fault {
        name: "build fills its disk",
        run: |site, version| with(site, version, "build: {disk: 64MiB, commands: ['head -c 200M /dev/zero > big']}\n"),
        codes: &[4],
        says: &["64MiB"],
        serves: Serves::Old,
    },
    Fault {
        name: "disk full",
        run: |site, version| {
            let filler = fill_disk(site.lab.home.join("filler"));
            let ended = with(site, version, "");
            std::fs::remove_file(filler).unwrap();
            ended
        },
        codes: &[1],
        says: &["disk is nearly full", "what serves goes on"],
        serves: Serves::Old,
    },
    Fault {
        name: "image missing",
        run: |site, version| {
            with(site, version, "").ok();
            with(site, version + 100, "").ok();
            let list = site.td(&["release", "list", "--json"]).ok().json();
            let image = list[1]["image"].as_str().unwrap().to_owned();
            site.lab.docker(&["image", "rm", "--force", &image]);
            site.td(&["release", "rollback"])
        },
        codes: &[1],
        says: &["image", "td app deploy"],
        serves: Serves::New,
    },
    Fault {
        name: "never healthy",
        run: |site, version| {
            site.file("up.php", "<?php http_response_code(503); echo 'not yet';");
            let ended = with(site, version, "app_layer: {health: {path: /up.php, expect: 200, timeout: 4s}}\n");
            std::fs::remove_file(site.path().join("up.php")).unwrap();
            ended
        },
        codes: &[1],
        says: &["503", "not yet"],
        serves: Serves::Old,
    },
    Fault {
        name: DEAD,
        run: |site, version| {
            site.file("up.php", DYING);
            let ended = with(site, version, "app_layer: {health: {path: /up.php, expect: 200, watch: 10s}}\n");
            std::fs::remove_file(site.path().join("up.php")).unwrap();
            ended
        },
        codes: &[8],
        says: &["did not stay up", "serves again"],
        serves: Serves::Old,
    },
    Fault {
        name: "release hook fails",
        run: |site, version| with(site, version, "hooks: {release: ['echo migrating; exit 3']}\n"),
        codes: &[1],
        says: &["migrating", "3"],
        serves: Serves::Old,
    },
    Fault {
        name: "release hook hangs",
        run: |site, version| with(site, version, "hooks: {release: ['echo waiting; sleep 600'], timeout: 3s}\n"),
        codes: &[1],
        says: &["waiting", "3"],
        serves: Serves::Old,
    },
    Fault {
        name: "after hook fails",
        run: |site, version| with(site, version, "hooks: {after: ['echo no mail today; exit 3']}\n"),
        codes: &[0],
        says: &["no mail today"],
        serves: Serves::New,
    },
    Fault {
        name: "HAProxy refuses",
        run: |site, version| {
            let broken = site.lab.home.join("agent/node/router/certs/broken.pem");
            std::fs::write(&broken, "this is no certificate\n").unwrap();
            let ended = with(site, version, "routing: {timeout: 47s}\n");
            std::fs::remove_file(&broken).unwrap();
            ended
        },
        codes: &[1],
        says: &["haproxy refuses the configuration", "broken.pem"],
        serves: Serves::Old,
    },
    Fault {
        name: "agent gone for 15 s",
        run: |site, version| {
            at(site, version, "app", |lab| {
                lab.kill("magrathea-agent");
                std::thread::sleep(Duration::from_secs(15));
                lab.local("up").ok();
            })
        },
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
    Fault {
        name: "agent killed",
        run: |site, version| {
            at(site, version, "routing", |lab| {
                lab.kill("magrathea-agent");
                lab.local("up").ok();
            })
        },
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
    Fault {
        name: "gateway killed",
        run: |site, version| {
            at(site, version, "health", |lab| {
                lab.kill("magrathea-gateway");
                lab.local("up").ok();
            })
        },
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
    Fault {
        name: "PostgreSQL stands still for 30 s",
        run: |site, version| {
            at(site, version, "health", |lab| {
                lab.signal_postgres("STOP");
                std::thread::sleep(Duration::from_secs(30));
                lab.signal_postgres("CONT");
            })
        },
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
    Fault {
        name: "PostgreSQL killed",
        run: |site, version| at(site, version, "app", |lab| lab.signal_postgres("KILL")),
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
    // Its containers end with it: the one fault that visitors notice.
    Fault {
        name: ENGINE,
        run: |site, version| at(site, version, "health", restart_engine),
        codes: &[0, 1],
        says: &[],
        serves: Serves::Either,
    },
];

const DEAD: &str = "healthy, then dead";
const ENGINE: &str = "the engine restarted";

/// Healthy once; ten seconds of watching see it end.
const DYING: &str = "<?php if (@fopen('/tmp/once', 'x')) { exec('(sleep 4; kill -9 ' . posix_getppid() . ') >/dev/null 2>&1 &'); } echo 'up';";

/// Every request of the load finds a worker, slow ones too.
const MANIFEST: &str = "proxy: {kind: none}\n";

fn files(site: &Site, version: usize, more: &str) {
    let page = format!(
        "<?php header('Cache-Control: no-store'); if (isset($_GET['slow'])) {{ sleep(2); }} echo 'version {version}';"
    );
    // A case's own settings of the app layer come beside those that all have.
    let shared = "memory: 640MiB, request_memory: 8MiB";
    let manifest = match more.strip_prefix("app_layer: {") {
        Some(rest) => format!("{MANIFEST}app_layer: {{{shared}, {rest}"),
        None => format!("{MANIFEST}app_layer: {{{shared}}}\n{more}"),
    };
    site.file("magrathea.yml", manifest).file("index.php", page);
}

fn with(site: &Site, version: usize, more: &str) -> Ended {
    files(site, version, more);
    site.deploy()
}

fn at(site: &Site, version: usize, phase: &str, act: impl FnOnce(&Lab)) -> Ended {
    files(site, version, "");
    site.deploy_and(phase, || act(&site.lab))
}

/// Takes all but a little of the disk: less is free than what gateway and agent leave for others.
fn fill_disk(filler: std::path::PathBuf) -> std::path::PathBuf {
    let disk = rustix::fs::statvfs(filler.parent().unwrap()).unwrap();
    let size = (disk.f_bavail * disk.f_frsize).saturating_sub(200 << 20);
    let file = std::fs::File::create(&filler).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
    filler
}

/// Ends the engine as a service manager would, and starts everything again.
fn restart_engine(lab: &Lab) {
    let file = lab.home.join("run/dockerd.pid");
    let pid = std::fs::read_to_string(&file).expect("the engine is this laboratory's own");
    run(std::process::Command::new("kill").arg(pid.trim())).ok();
    let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    until(Duration::from_secs(60), "the engine has ended", || !process.exists());
    lab.local("up").ok();
}

fn body(site: &Site) -> String {
    let output = run(std::process::Command::new("curl").args([
        "-s",
        "--max-time",
        "20",
        "-H",
        &format!("Host: {}", site.host()),
        &format!("http://127.0.0.1:{}/", site.lab.http),
    ]));
    output.stdout
}

/// What a fault left that should not be there.
fn left_behind(site: &Site, images: usize) -> Vec<String> {
    let mut left = Vec::new();
    let services = site.release_services();
    if services.len() != 1 {
        left.push(format!("services {services:?}"));
    }
    let route = site.lab.home.join("agent/state/routes").join(format!("{}.json", site.slug()));
    let route: serde_json::Value = serde_json::from_slice(&std::fs::read(&route).unwrap()).unwrap();
    if route["a"].is_null() == route["b"].is_null() {
        left.push("a second lane in the router".to_owned());
    }
    let kept = releases(site);
    let held = image_count(site);
    if held > images.max(kept) {
        left.push(format!("{held} images for {kept} kept releases"));
    }
    left
}

fn releases(site: &Site) -> usize {
    let list = site.td(&["release", "list", "--json"]);
    if list.code == 0 { list.json().as_array().map_or(0, Vec::len) } else { 0 }
}

fn image_count(site: &Site) -> usize {
    let slug = site.slug();
    site.lab
        .docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])
        .lines()
        .filter(|name| name.contains(&slug))
        .count()
}

fn table_row(fault: &Fault, version: usize, site: &Site) -> Result<String, String> {
    let slow = site.url("/?slow=1");
    let mut urls = vec![site.url("/"); SLOW_EVERY - 1];
    urls.push(slow);
    let images = image_count(site);
    let before = body(site);
    let known = site.newest_deploy()["id"].clone();
    let load = Load::cycle(site.lab.client(), urls, RATE, Duration::from_secs(240));
    // However short the fault is, there are visitors before it and after it.
    let visits = |number: usize| until(Duration::from_secs(30), "the load", || load.count() >= number);
    visits(100);
    let ended = (fault.run)(site, version);
    let last = site.decided();
    if fault.name == ENGINE {
        until(Duration::from_secs(90), "the app serves again", || site.serves());
    }
    let after = body(site);
    visits(load.count() + 100);
    let answers = load.finish();

    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let mut lost = failures(&answers);
    if fault.name == DEAD {
        // A request in a process that is killed dies with it. On a kept connection HAProxy then hangs up without an answer, which
        // browsers take as leave to ask again.
        let before = lost.len();
        lost.retain(|failure| !failure.contains("IncompleteMessage"));
        check(before - lost.len() <= 10, format!("{} requests died with their process", before - lost.len()));
    }
    check(
        lost.is_empty() || fault.name == ENGINE,
        format!("{} requests failed: {:?}", lost.len(), lost.iter().take(3).collect::<Vec<_>>()),
    );
    check(fault.codes.contains(&ended.code), format!("exit {}: {}", ended.code, ended.stderr));
    // Where nothing could be taken in, there is no deploy.
    let status = if last["id"] == known { "refused" } else { last["status"].as_str().unwrap_or("?") }.to_owned();
    check((ended.code == 0) == (status == "succeeded"), format!("exit {} of a deploy that {status}", ended.code));
    for word in fault.says {
        check(ended.stderr.contains(word), format!("not told {word:?}: {}", ended.stderr));
    }
    let new = after.starts_with(&format!("version {version}")) || after == format!("version {}", version + 100);
    check(new || after == before, format!("serves {after:?}, before it was {before:?}"));
    match fault.serves {
        Serves::Old => check(after == before, format!("the old one should serve, not {after:?}")),
        Serves::New => check(new, format!("the new one should serve, not {after:?}")),
        Serves::Either => check(new == (status == "succeeded"), format!("{status}, but {after:?} serves")),
    }
    // What was in the way of the clean-up may have gone with the fault.
    let mut left = left_behind(site, images);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !left.is_empty() && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(250));
        left = left_behind(site, images);
    }
    check(left.is_empty(), format!("left behind: {left:?}"));
    let next = with(site, version + 200, "");
    check(next.code == 0 && body(site) == format!("version {}", version + 200), format!("next: {}", next.stderr));
    if wrong.is_empty() {
        let serves = if new { "new" } else { "old" };
        let (name, code, lost, all) = (fault.name, ended.code, lost.len(), answers.len());
        let row = format!("| {name} | {status} | {code} | {serves} | {lost} of {all} |");
        return Ok(row);
    }
    Err(format!("{}:\n  {}", fault.name, wrong.join("\n  ")))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the laboratory: make test"]
async fn a_fault_at_every_phase_loses_no_request() {
    let lab = Lab::get();
    let only = std::env::var("FAULT").unwrap_or_default();
    let table = tokio::task::spawn_blocking(move || {
        let site = Site::new(&lab, "faults");
        with(&site, 0, "").ok();
        println!("| fault | verdict | exit code | serves | requests failed |\n|---|---|---|---|---|");
        let chosen = FAULTS.iter().enumerate().filter(|(_, fault)| fault.name.contains(&only));
        let rows = chosen.map(|(n, fault)| table_row(fault, 1000 * (n + 1), &site));
        let rows: Vec<_> = rows.inspect(|row| println!("{}", row.as_ref().unwrap_or_else(|wrong| wrong))).collect();
        rows.into_iter().filter_map(Result::err).collect::<Vec<_>>()
    });
    let wrong = table.await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
