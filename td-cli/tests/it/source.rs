//! Which files are sent.

use std::io::Read;

use serde_json::json;

use crate::fixtures::{DEPLOY, begun, deploy, events, over, succeeded};
use crate::gateway::Answer;
use crate::td::Desk;

fn desk() -> Desk {
    let desk = Desk::new();
    let events =
        Answer { status: 200, body: events(1, &[over(&succeeded())]), breaks: false, hangs: false, early: false };
    desk.gateway
        .on("POST /v1/apps/blog/deploys/label", 202, &begun(&deploy(&json!({}))))
        .answer(&format!("GET /v1/deploys/{DEPLOY}/events"), events);
    desk
}

/// Deploys and lists what arrived: `path` or `path=first line` or `path -> target`.
fn sent(desk: &Desk, arguments: &[&str]) -> Vec<String> {
    let before = desk.gateway.asked().len();
    let ended = desk.td(&[&["app", "deploy", "--app", "blog"], arguments].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let asked = desk.gateway.asked();
    let tar = zstd::decode_all(&asked[before].body[..]).unwrap();
    let mut out = Vec::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let target = entry.link_name().unwrap().map(|target| target.display().to_string());
        match (entry.header().entry_type(), target) {
            (tar::EntryType::Directory, _) => {}
            (tar::EntryType::Regular, _) => out.push(format!("{path}={text}")),
            (tar::EntryType::Symlink, Some(target)) => out.push(format!("{path} -> {target}")),
            (kind, _) => panic!("{path} is a {kind:?}"),
        }
    }
    out.sort();
    out
}

#[test]
fn a_commit_is_sent_as_it_was_committed() {
    let desk = desk();
    desk.file("index.php", "1").file("big.psd", "x").file(".gitattributes", "big.psd export-ignore\n").commit();
    desk.file("index.php", "2").file("new.php", "new");
    assert_eq!(sent(&desk, &[]), [".gitattributes=big.psd export-ignore\n", "index.php=1"]);
}

#[test]
fn dirty_sends_the_working_tree_without_what_is_ignored() {
    let desk = desk();
    desk.file("index.php", "1").file(".gitignore", "vendor/\n*.log\n").commit();
    desk.file("index.php", "2")
        .file("new.php", "new")
        .file("vendor/a.php", "v")
        .file("deep/er/debug.log", "l")
        .file(".magratheaignore", "design/\n")
        .file("design/logo.psd", "p")
        .file(".ignore", "notes.txt\n")
        .file("notes.txt", "n")
        .file(".htaccess", "h");
    let sent = sent(&desk, &["--dirty"]);
    let names: Vec<_> = sent.iter().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, [".gitignore", ".htaccess", ".ignore", ".magratheaignore", "index.php", "new.php"]);
    assert!(sent.contains(&"index.php=2".to_owned()));
}

#[test]
fn a_folder_without_git_is_sent_as_it_lies_there() {
    let desk = desk();
    desk.file("index.php", "1").file(".gitignore", "cache/\n").file("cache/x", "x");
    std::fs::write(desk.home().join(".gitignore"), "*\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", desk.folder.join("link")).unwrap();
    assert_eq!(sent(&desk, &[]), [".gitignore=cache/\n", "index.php=1", "link -> /etc/passwd"]);
}

#[test]
fn only_the_apps_own_folder_is_sent() {
    let desk = desk();
    desk.file("other/index.php", "other")
        .file("apps/site/magrathea.yml", "app: blog\n")
        .file("apps/site/web/index.php", "site")
        .file(".gitignore", "*.tmp\n")
        .commit()
        .file("apps/site/x.tmp", "t");
    let whole = ["magrathea.yml=app: blog\n", "web/index.php=site"];
    // From a folder below, and for another folder.
    assert_eq!(sent(&desk, &["-C", "apps/site/web"]), whole);
    assert_eq!(sent(&desk, &["-C", "apps/site", "--dirty"]), whole);
}

#[test]
fn what_cannot_be_sent_is_told() {
    let desk = desk();
    desk.file("index.php", "1").git(&["init", "-q"]);
    let ended = desk.td(&["app", "deploy"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("--dirty"), "{}", ended.stderr);
    assert_eq!(sent(&desk, &["--dirty"]), ["index.php=1"]);
    desk.git(&["add", "."]).git(&["commit", "-q", "-m", "m"]).file("new/index.php", "1");
    let ended = desk.td(&["app", "deploy", "--app", "blog", "-C", "new"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("has no files in the commit"), "{}", ended.stderr);
}

#[test]
fn large_sources_stream() {
    let desk = desk();
    for n in 0..300 {
        desk.file(&format!("f{n}"), &format!("{n}").repeat(20_000));
    }
    assert_eq!(sent(&desk, &[]).len(), 300);
}
