//! Named commands of the release that serves: who runs them, and one at a time.

use std::time::Duration;

use magrathea_tests::people::Organisation;
use magrathea_tests::{Lab, site::Site, until};

const MANIFEST: &str = r#"
app_layer: {stack: php}
env: {KIND: first}
tasks:
  hello: {run: 'echo "hello $KIND"; exit 3', role: developer}
  slow: {run: 'echo begun; sleep 60', role: viewer}
  own: {run: 'true'}
"#;

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_task_runs_as_the_serving_release_has_it() {
    let lab = Lab::get();
    let site = Site::new(&lab, "tasked");
    site.file("magrathea.yml", MANIFEST).file("index.php", "<?php").deploy().ok();
    let list = site.td(&["task", "list"]).ok().stdout;
    for line in ["hello", "developer", "slow", "viewer", "own", "operator"] {
        assert!(list.contains(line), "{line}: {list}");
    }
    let hello = site.td(&["task", "run", "hello"]);
    assert_eq!((hello.code, hello.stdout.trim()), (3, "hello first"), "{}", hello.stderr);
    // What the folder says meanwhile does not count.
    site.file("magrathea.yml", MANIFEST.replace("hello $KIND", "something else"));
    assert_eq!(site.td(&["task", "run", "hello"]).stdout.trim(), "hello first");
    let unknown = site.td(&["task", "run", "nothing"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("it has hello, own, slow"), "{unknown:?}");

    let run = site.td(&["task", "run", "slow", "--detach"]).ok().stdout.trim().to_owned();
    let held = site.td(&["task", "run", "slow"]);
    assert_eq!(held.code, 6, "{}", held.stderr);
    assert!(held.stderr.contains("admin runs the task slow since"), "{}", held.stderr);
    assert!(held.stderr.contains(&run), "{}", held.stderr);
    assert!(site.td(&["task", "list"]).ok().stdout.contains(&run));
    until(Duration::from_secs(30), "it has begun", || site.td(&["run", "log", &run]).ok().stdout.contains("begun"));
    // Another one is not held up by it.
    assert_eq!(site.td(&["task", "run", "own"]).code, 0);
    site.td(&["run", "stop", &run]).ok();
    let again = site.td(&["task", "run", "slow", "--detach", "--time-limit", "2s"]).ok().stdout.trim().to_owned();
    let ended = site.td(&["run", "log", "--follow", &again]);
    assert!(ended.code != 0 && ended.stdout.contains("begun"), "{ended:?}");
    assert!(site.td(&["timeline", "--json"]).ok().stdout.contains("of the task hello started"));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_task_is_run_by_those_who_have_its_role() {
    let lab = Lab::get();
    let own = Organisation::new(&lab, "taskers");
    let boss = own.person("tasks-boss", &["--role", "administrator"]);
    boss.td(&["app", "create", "shared-tasks"]).ok();
    std::fs::write(boss.path().join("index.php"), "<?php").unwrap();
    std::fs::write(boss.path().join("magrathea.yml"), MANIFEST).unwrap();
    boss.td(&["app", "deploy", "--dirty", "--app", "shared-tasks"]).ok();
    let viewer = own.person("tasks-viewer", &["--role", "viewer", "--app", "shared-tasks"]);
    let developer = own.person("tasks-developer", &["--role", "developer", "--app", "shared-tasks"]);
    let stranger = own.person("tasks-stranger", &[]);
    let app = ["--app", "shared-tasks"];
    let run = |person: &magrathea_tests::people::Person, args: &[&str]| person.td(&[args, &app[..]].concat());
    assert_eq!(run(&viewer, &["task", "run", "hello"]).code, 5);
    assert_eq!(run(&viewer, &["task", "run", "own"]).code, 5);
    assert_eq!(run(&developer, &["task", "run", "hello"]).code, 3);
    assert_eq!(run(&developer, &["task", "run", "own"]).code, 5);
    assert_eq!(developer.td(&["app", "run", "--app", "shared-tasks", "true"]).code, 5);
    let id = run(&viewer, &["task", "run", "slow", "--detach"]).ok().stdout.trim().to_owned();
    // Whoever may run it may see and stop it, and of the runs of others' tasks nothing.
    assert!(run(&viewer, &["run", "list"]).ok().stdout.contains(&id));
    assert!(!run(&viewer, &["run", "list"]).ok().stdout.contains("hello"));
    let refused = run(&stranger, &["run", "log", &id]);
    assert!(refused.stderr.contains("there is no run"), "{refused:?}");
    run(&viewer, &["run", "stop", &id]).ok();
}
