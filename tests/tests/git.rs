//! `git push`, `clone` and `fetch` with the real git: what is accepted, what is refused, and what interruptions leave.

use std::process::Command;
use std::time::Duration;

use magrathea_tests::repo::Repo;
use magrathea_tests::ssh::Ssh;
use magrathea_tests::{Lab, run, site::Site, until};

fn page(version: usize) -> String {
    format!("<?php header('Cache-Control: no-store'); echo 'version {version}';")
}

/// An app, and a repository that is linked to it.
fn linked(lab: &Lab, name: &str) -> (Site, Repo) {
    let (site, repo) = (Site::new(lab, name), Repo::new(lab));
    site.td(&["app", "create", name]).ok();
    repo.link(name);
    (site, repo)
}

/// Whether the app's newest deploy is in this phase.
fn reaches(site: &Site, phase: &str) {
    until(Duration::from_secs(30), "the push's deploy gets there", || {
        let list = site.td(&["deploy", "list", "--json"]);
        list.code == 0 && {
            let newest = &list.json()[0];
            newest["status"] == "running" && newest["phase"] == phase
        }
    });
}

fn idle(site: &Site) {
    until(Duration::from_secs(60), "no deploy is under way", || {
        let list = site.td(&["deploy", "list", "--json"]);
        list.code == 0
            && list.json().as_array().unwrap().iter().all(|d| d["status"] != "running" && d["status"] != "waiting")
    });
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_push_serves_and_a_clone_has_it() {
    let lab = Lab::get();
    let (site, repo) = linked(&lab, "git-push");
    repo.file("index.php", page(1));
    let commit = repo.commit();
    let said = repo.push("main").ok().stderr;
    assert!(said.contains("remote: =====> v1 of git-push, label default"), "{said}");
    assert_eq!(site.get("/").await.1, "version 1");
    assert_eq!(repo.remote("main"), Some(commit.clone()));
    let said = repo.push("main:topic").ok().stderr;
    assert!(said.contains("topic is stored and not deployed"), "{said}");
    let other = Repo::new(&lab);
    other.link("git-push").git(&["fetch", "--quiet", "magrathea"]).ok();
    assert_eq!(other.git(&["rev-parse", "magrathea/main"]).ok().stdout.trim(), commit);
    let timeline = site.td(&["timeline", "--json"]).ok().stdout;
    for line in ["push.opened", "push.closed", "refs/heads/main"] {
        assert!(timeline.contains(line), "{line}: {timeline}");
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn ssh_is_as_good() {
    let lab = Lab::get();
    let (site, mut repo) = (Site::new(&lab, "git-ssh"), Repo::new(&lab));
    let ssh = Ssh::new(&lab);
    repo.ssh = Some(ssh.git_ssh_command());
    repo.file("index.php", page(1)).commit();
    // Made in a git repository, so the remote is set.
    repo.td(&["app", "create", "git-ssh"]).ok();
    let said = repo.push("main").ok().stderr;
    assert!(said.contains("remote: =====> v1 of git-ssh"), "{said}");
    assert_eq!(site.get("/").await.1, "version 1");
    for protocol in ["protocol.version=0", "protocol.version=2"] {
        repo.git(&["-c", protocol, "fetch", "magrathea"]).ok();
    }
    repo.file("index.php", page(2))
        .file("magrathea.yml", "build: {commands: ['echo the last words; false']}\n")
        .commit();
    let ended = repo.push("main");
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains("the last words") && ended.stderr.contains("[remote rejected]"), "{}", ended.stderr);
    let url = repo.git(&["remote", "get-url", "magrathea"]).ok().stdout;
    for path in ["absent.git", "../../etc.git", "git-ssh.git/../git-ssh.git"] {
        let ended = repo.git(&["ls-remote", &url.trim().replace("git-ssh.git", path)]);
        assert_ne!(ended.code, 0, "{path}");
    }

    // Ctrl-C, and a key that is taken away.
    repo.file("magrathea.yml", "hooks: {release: ['sleep 8']}\n").commit();
    let mut push = repo.begin_push("main");
    reaches(&site, "release_hook");
    run(Command::new("kill").args(["-INT", "--", &format!("-{}", push.id())])).ok();
    assert!(!push.wait().unwrap().success());
    idle(&site);
    assert_eq!(site.td(&["deploy", "list", "--json"]).ok().json()[0]["status"], "cancelled");
    let mut push = repo.begin_push("main");
    reaches(&site, "release_hook");
    ssh.revoke().ok();
    let revoked = std::time::Instant::now();
    assert!(!push.wait().unwrap().success());
    assert!(revoked.elapsed() < Duration::from_secs(2));
    idle(&site);
    assert_eq!(site.get("/").await.1, "version 1");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn what_fails_is_refused_and_what_served_serves_on() {
    let lab = Lab::get();
    let (site, repo) = linked(&lab, "git-refused");
    repo.file("index.php", page(1));
    let good = repo.commit();
    repo.push("main").ok();
    for (manifest, reason) in [
        ("build: {commands: ['echo the last words; false']}\n", "the last words"),
        ("hooks: {release: ['echo no migration; exit 3']}\n", "no migration"),
        ("app_layer: {health: {path: /absent, expect: 200, timeout: 3s}}\n", "error: health"),
        ("app_layer: {replicsa: 1}\n", "replicas"),
    ] {
        repo.file("index.php", page(2)).file("magrathea.yml", manifest).commit();
        let ended = repo.push("main");
        assert_ne!(ended.code, 0, "{manifest}");
        assert!(ended.stderr.contains(reason), "{manifest}: {}", ended.stderr);
        assert!(ended.stderr.contains("[remote rejected]"), "{}", ended.stderr);
        assert_eq!(repo.remote("main"), Some(good.clone()), "{manifest}");
        assert_eq!(site.get("/").await.1, "version 1", "{manifest}");
    }
    std::fs::remove_file(repo.path().join("magrathea.yml")).unwrap();
    repo.commit();
    repo.push("main").ok();
    assert_eq!(site.get("/").await.1, "version 2");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn ctrl_c_cancels_and_the_push_may_be_repeated() {
    let lab = Lab::get();
    let (site, repo) = linked(&lab, "git-ctrl-c");
    repo.file("index.php", page(1)).file("magrathea.yml", "hooks: {release: ['sleep 8']}\n").commit();
    let mut push = repo.begin_push("main");
    reaches(&site, "release_hook");
    run(Command::new("kill").args(["-INT", "--", &format!("-{}", push.id())])).ok();
    assert!(!push.wait().unwrap().success());
    idle(&site);
    assert_eq!(repo.remote("main"), None);
    assert_eq!(site.td(&["deploy", "list", "--json"]).ok().json()[0]["status"], "cancelled");
    repo.file("magrathea.yml", "").commit();
    repo.push("main").ok();
    assert_eq!(site.get("/").await.1, "version 1");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_killed_gateway_leaves_the_repository_whole() {
    let lab = Lab::get();
    let (site, repo) = linked(&lab, "git-killed");
    repo.file("index.php", page(1)).commit();
    repo.push("main").ok();
    // While objects arrive, and while the deploy runs.
    for n in 0..3_000 {
        repo.file(&format!("many/{n}"), format!("{n}").repeat(500));
    }
    repo.file("index.php", page(2)).file("magrathea.yml", "hooks: {release: ['sleep 5']}\n");
    let commit = repo.commit();
    for wait in [Some(Duration::from_millis(300)), None] {
        let mut push = repo.begin_push("main");
        match wait {
            Some(wait) => std::thread::sleep(wait),
            None => reaches(&site, "release_hook"),
        }
        lab.kill("magrathea-gateway");
        assert!(!push.wait().unwrap().success());
        lab.local("up").ok();
        idle(&site);
        assert_eq!(site.get("/").await.1, "version 1");
        assert_ne!(repo.remote("main"), Some(commit.clone()));
    }
    repo.push("main").ok();
    assert_eq!(site.get("/").await.1, "version 2");
    assert_eq!(repo.remote("main"), Some(commit));
    repo.git(&["fetch", "--quiet", "--refetch", "magrathea"]).ok();
    repo.git(&["fsck", "--full"]).ok();
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_gateway_killed_after_the_cut_over_leaves_nothing_to_deploy() {
    let lab = Lab::get();
    let (site, repo) = linked(&lab, "git-cut-over");
    repo.file("index.php", page(1)).commit();
    repo.push("main").ok();
    let commit = repo.file("index.php", page(2)).file("magrathea.yml", "hooks: {after: ['sleep 5']}\n").commit();
    let mut push = repo.begin_push("main");
    reaches(&site, "after_hook");
    lab.kill("magrathea-gateway");
    assert!(!push.wait().unwrap().success());
    lab.local("up").ok();
    assert_eq!(site.get("/").await.1, "version 2");
    assert_ne!(repo.remote("main"), Some(commit.clone()));
    let said = repo.push("main").ok().stderr;
    assert!(said.contains("=====> v2 of git-cut-over, label default, serves this commit already"), "{said}");
    assert_eq!(repo.remote("main"), Some(commit));
    assert_eq!(site.td(&["deploy", "list", "--json"]).ok().json().as_array().unwrap().len(), 2);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn two_pushes_at_once_are_one_after_the_other() {
    let lab = Lab::get();
    let (site, one) = linked(&lab, "git-two");
    let two = Repo::new(&lab);
    two.link("git-two");
    let manifest = "labels: {production: {branch: main}, staging: {branch: develop}}\nhooks: {release: ['sleep 3']}\n";
    one.file("index.php", page(1)).file("magrathea.yml", manifest).commit();
    two.file("index.php", page(2)).file("magrathea.yml", manifest).commit();
    let mut first = one.begin_push("main");
    reaches(&site, "release_hook");
    let second = two.push("main:develop");
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert!(second.stderr.contains("waiting for the push of admin since"), "{}", second.stderr);
    assert!(first.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn thousands_of_tags_are_no_burden() {
    let lab = Lab::get();
    let (_site, repo) = linked(&lab, "git-tags");
    let commit = repo.file("index.php", page(1)).commit();
    let tags: String = (0..9_000).map(|n| format!("create refs/tags/t{n} {commit}\n")).collect();
    let list = repo.beside("tags");
    std::fs::write(&list, tags).unwrap();
    let mut update = repo.command(&repo.path(), &["update-ref", "--stdin"]);
    assert!(update.stdin(std::fs::File::open(&list).unwrap()).status().unwrap().success());
    let said = repo.git(&["push", "--quiet", "magrathea", "--tags"]);
    assert_eq!(said.code, 0, "{}", said.stderr.chars().take(500).collect::<String>());
    let listed = repo.git(&["ls-remote", "--tags", "magrathea"]).ok().stdout;
    assert_eq!(listed.lines().count(), 9_000);
    repo.push("main").ok();
}
