//! Process types beside web, and the kinds of health checks: what runs, what it says, how it ends, what a failure tells.

use std::time::{Duration, Instant};

use magrathea_tests::site::Site;
use magrathea_tests::{Ended, Lab, until};

const WORKER: &str = r#"<?php
// Tells how it was begun, then works until it is told to end, and then finishes what it has.
pcntl_async_signals(true);
$ending = false;
pcntl_signal(SIGTERM, function () use (&$ending) { $ending = true; });
file_put_contents('/tmp/ready', 'yes');
echo 'begun ', getenv('MAGRATHEA_PROCESS'), ' ', getenv('MAGRATHEA_RELEASE'), ' ', getenv('GREETING'), "\n";
while (!$ending) usleep(20000);
usleep(700000);
echo 'finished ', getenv('MAGRATHEA_RELEASE'), "\n";
"#;

fn manifest(app: &str) -> String {
    format!("env: {{GREETING: hello}}\naccess: {{}}\napp_layer:\n  memory: 128MiB\n{app}\nlabels: {{test: {{}}}}\n")
}

fn shell(site: &Site, process: &str, command: &str) -> Ended {
    site.lab.td(site.path(), &["app", "shell", "--app", &site.name, "-T", "--process", process, command])
}

fn logged(site: &Site, args: &[&str]) -> String {
    site.td(&[&["app", "logs", "-n", "500"], args].concat()).ok().stdout
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_worker_is_the_release_with_a_command_of_its_own() {
    let site = Site::new(&Lab::get(), "test-workers");
    let queue = "  workers:\n    queue: {run: \"echo shell; php worker.php\", memory: 64MiB, processes: 32, replicas: 2,\n      \
                 health: {command: test -e /tmp/ready}}";
    site.file("index.php", "<?php echo 'web ', getenv('MAGRATHEA_RELEASE');").file("worker.php", WORKER);
    site.file("magrathea.yml", manifest(queue));
    site.deploy().ok();
    let slug = site.slug();
    until(Duration::from_secs(5), "both have begun", || {
        let said = logged(&site, &["--process", "queue"]);
        said.matches("begun queue 1 hello").count() == 2 || said.matches("begun queue v1 hello").count() == 2
    });
    assert!(!logged(&site, &["--process", "web"]).contains("begun queue"));

    let filter = format!("name={}-{slug}-queue-v1", site.lab.prefix());
    let ids = site.lab.docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
    assert_eq!(ids.lines().count(), 2);
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}}";
    let limits = site.lab.docker(&["inspect", "--format", limits, ids.lines().next().unwrap()]);
    assert!(limits.starts_with("67108864 32 2") && limits.trim_end().ends_with("true"), "{limits}");

    let said = shell(&site, "queue", "echo $MAGRATHEA_PROCESS; id -u").ok();
    assert!(said.stdout.starts_with("queue\n2"), "{said:?}");
    let missing = shell(&site, "mail", "true");
    assert!(missing.code != 0 && missing.stderr.contains("has no process type mail"), "{missing:?}");
    assert!(missing.stderr.contains("it has web, queue"), "{missing:?}");

    // The next release: the old one's workers are told to end, and finish what they do.
    site.file("index.php", "<?php echo 'again ', getenv('MAGRATHEA_RELEASE');");
    site.deploy().ok();
    assert_eq!(site.lab.docker(&["ps", "-q", "--filter", &filter]), "");
    until(Duration::from_secs(5), "all have finished", || {
        logged(&site, &["--process", "queue"]).matches("finished").count() == 2
    });

    // Without it in the file it is gone.
    site.file("magrathea.yml", manifest(""));
    site.deploy().ok();
    let all = format!("name={}-{slug}-queue", site.lab.prefix());
    assert_eq!(site.lab.docker(&["ps", "-q", "--filter", &all]), "");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_worker_that_does_not_stay_up_stops_the_deploy() {
    let site = Site::new(&Lab::get(), "test-broken-worker");
    site.file("index.php", "<?php echo 'one';").file("magrathea.yml", manifest(""));
    site.deploy().ok();
    let run = |run: &str, health: &str| {
        let worker = format!("  workers:\n    queue: {{run: \"{run}\", health: {{{health}}}}}");
        site.file("magrathea.yml", manifest(&worker));
        let began = Instant::now();
        let failed = site.deploy();
        assert_eq!(failed.code, 1, "{failed:?}");
        (failed.stderr, began.elapsed())
    };
    let (said, _) = run("echo no such queue; exit 3", "");
    assert!(said.contains("queue: a replica ended 3 times") && said.contains("no such queue"), "{said}");
    let (said, took) = run("sleep 1000", "command: echo empty; exit 9, attempts: 2, interval: 100ms");
    assert!(said.contains("queue: a replica gave 2 wrong answers"), "{said}");
    assert!(said.contains("ended with exit status 9: empty") && took < Duration::from_secs(15), "{took:?} {said}");
    let (said, _) = run("sleep 1000", "command: sleep 100, attempt_timeout: 1s, timeout: 3s");
    assert!(said.contains("`sleep 100` was killed: it took longer than 1 s"), "{said}");
    let info = site.td(&["app", "info", "--json"]).ok().json();
    assert_eq!(info["instances"][0]["serving"]["release"], 1);
    let filter = format!("name={}-{}-queue", site.lab.prefix(), site.slug());
    assert_eq!(site.lab.docker(&["ps", "-q", "--filter", &filter]), "", "nothing is left of them");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn web_is_asked_in_three_ways() {
    let site = Site::new(&Lab::get(), "test-health-kinds");
    site.file("index.php", "<?php http_response_code(500); echo 'broken page';");
    let health = |health: &str| {
        site.file("magrathea.yml", manifest(&format!("  health: {{{health}}}")));
        site.deploy()
    };
    let failed = health("path: /, expect: 200, attempts: 3, interval: 50ms");
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("web: a replica gave 3 wrong answers: GET / answered 500: broken page"),
        "{failed:?}"
    );
    let failed = health("command: 'test $GREETING = hello && exit 4', attempts: 1");
    assert!(failed.stderr.contains("ended with exit status 4"), "{failed:?}");
    health("tcp: true").ok();
    health("command: \"true\"").ok();
    let invalid = health("tcp: true, path: /up");
    assert_eq!(invalid.code, 3, "{invalid:?}");
}
