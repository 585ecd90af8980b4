//! People through td: joining, logging in, sharing, leaving; IP lists; values. Each story as somebody lives it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use magrathea_tests::load::{Load, failures};
use magrathea_tests::people::Organisation;
use magrathea_tests::{Lab, site::Site, until};
use serde_json::Value;

#[test]
#[ignore = "needs the laboratory: make test"]
fn an_invitation_is_good_once_and_a_key_logs_in() {
    let lab = Lab::get();
    let org = Organisation::new(&lab, "people-join");
    let ana = org.person("people-ana", &["--role", "developer"]);
    let who = ana.td(&["whoami", "--json"]).ok().json();
    assert_eq!((who["name"].as_str(), who["organisation"].as_str()), (Some("people-ana"), Some("people-join")));
    assert_eq!(who["roles"], serde_json::json!(["developer of the organisation people-join"]));

    ana.td(&["logout"]).ok();
    let out = ana.td(&["whoami"]);
    assert!(out.code == 5 && out.stderr.contains("td login"), "{out:?}");
    ana.td(&["login", "--key", "key"]).ok();
    ana.td(&["whoami"]).ok();

    // Whoever holds another key is nobody, and a gateway under another fingerprint is not this one.
    let ben = org.person("people-ben", &[]);
    let keys = ben.td(&["key", "list", "--json"]).ok().json();
    let removed = ben.td(&["key", "remove", keys[0]["fingerprint"].as_str().unwrap()]).ok();
    assert!(removed.stderr.contains("1 session"), "the session goes with the key that began it: {removed:?}");
    assert_eq!(ben.td(&["whoami"]).code, 5);
    let refused = ben.td(&["login", "--key", "key"]);
    assert!(refused.code == 5 && refused.stderr.contains("knows none of your SSH keys"), "{refused:?}");
    let other = format!("SHA256:{}", "0".repeat(64));
    let refused = ana.td(&["login", "--key", "key", "--fingerprint", &other]);
    assert!(refused.code == 5 && refused.stderr.contains("is not that gateway"), "{refused:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn the_last_administrator_stays() {
    let lab = Lab::get();
    let org = Organisation::new(&lab, "people-last");
    let boss = org.person("people-boss", &["--role", "administrator"]);
    let alone = boss.td(&["person", "remove", "people-boss"]);
    assert!(alone.code == 1 && alone.stderr.contains("no administrator left"), "{alone:?}");
    let alone = boss.td(&["grant", "remove", "administrator", "people-boss", "--org", "people-last"]);
    assert!(alone.code == 1 && alone.stderr.contains("no administrator left"), "{alone:?}");
    let next = org.person("people-next", &["--role", "administrator"]);
    let open = boss.td(&["person", "invite", "people-late", "--role", "administrator", "--quiet"]).ok().stdout;
    boss.td(&["person", "remove", "people-boss"]).ok();
    assert_eq!(boss.td(&["whoami"]).code, 5, "its session went with it");
    let words: Vec<&str> = open.split_whitespace().skip(1).chain(["--key", "key"]).collect();
    let late = boss.td(&words);
    assert!(late.code == 5 && late.stderr.contains("invitation"), "who is gone invites nobody: {late:?}");
    next.td(&["whoami"]).ok();
    let platform = lab.td(&lab.home, &["grant", "remove", "administrator", "admin", "--platform"]);
    assert!(platform.code == 1 && platform.stderr.contains("no administrator left"), "{platform:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn nobody_gives_more_than_they_have() {
    let lab = Lab::get();
    let (org, other) = (Organisation::new(&lab, "people-mine"), Organisation::new(&lab, "people-theirs"));
    let boss = org.person("people-chief", &["--role", "administrator"]);
    let dev = org.person("people-dev", &["--role", "developer"]);
    let rival = other.person("people-theirs-boss", &["--role", "administrator"]);
    boss.td(&["app", "create", "people-app"]).ok();
    for (who, args) in [
        (&dev, &["grant", "add", "administrator", "people-dev", "--org", "people-mine"][..]),
        (&dev, &["grant", "add", "administrator", "people-dev", "--platform"]),
        (&boss, &["grant", "add", "administrator", "people-chief", "--platform"]),
        (&boss, &["org", "create", "people-more"]),
        (&boss, &["grant", "add", "viewer", "people-theirs-boss", "--app", "people-app"]),
        (&rival, &["grant", "add", "administrator", "people-theirs-boss", "--app", "people-app"]),
        (&rival, &["person", "remove", "people-dev"]),
        (&rival, &["team", "list", "--org", "people-mine"]),
        (&dev, &["key", "list", "--person", "people-chief"]),
        (&dev, &["access", "set", "people-all", "0.0.0.0/0", "--org", "people-mine"]),
        (&boss, &["access", "set", "people-all", "0.0.0.0/0"]),
    ] {
        let refused = who.td(args);
        assert!(refused.code != 0, "{args:?}: {refused:?}");
        // Who may not see it does not learn that it is there.
        assert!(!(refused.code == 5 && refused.stderr.contains("people-dev is")), "{refused:?}");
    }
    // A person who is also somebody elsewhere is not reached through a key that is added here.
    lab.td(&lab.home, &["grant", "add", "operator", "people-dev", "--platform"]).ok();
    let refused = boss.td(&["key", "add", "key.pub", "--person", "people-dev"]);
    assert_eq!(refused.code, 5, "{refused:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_token_is_good_for_its_purpose_alone() {
    let lab = Lab::get();
    let org = Organisation::new(&lab, "people-ci");
    let dev = org.person("people-ci-dev", &["--role", "administrator"]);
    std::fs::write(dev.path().join("index.html"), "hello").unwrap();
    std::fs::write(dev.path().join("magrathea.yml"), "app: people-ci-app\n").unwrap();
    dev.td(&["app", "create"]).ok();
    let token = dev.td(&["token", "create", "ci", "--role", "developer", "--app", "people-ci-app"]).ok();
    let as_ci = |args: &[&str]| {
        let mut td = dev.td_command(args);
        magrathea_tests::run(td.env("TD_TOKEN", token.stdout.trim()))
    };
    as_ci(&["app", "deploy", "--dirty"]).ok();
    for args in [
        &["app", "destroy", "--confirm", "people-ci-app"][..],
        &["config", "export"],
        &["token", "create", "more"],
        &["key", "add", "key.pub"],
        &["person", "list", "--json"],
    ] {
        let ended = as_ci(args);
        assert!(ended.code == 5 || ended.stdout.lines().count() < 40 && args[0] == "person", "{args:?}: {ended:?}");
    }
    dev.td(&["token", "remove", "ci"]).ok();
    assert_eq!(as_ci(&["whoami"]).code, 5);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_edited_list_is_live_within_five_seconds() {
    let lab = Lab::get();
    lab.td(&lab.home, &["access", "set", "people-lan", "127.0.0.0/8", "::1"]).ok();
    let site = Site::new(&lab, "people-lists");
    site.file("index.html", "hello").file("magrathea.yml", "access: {allow: [people-lan]}\n");
    site.deploy().ok();
    assert_eq!(site.get("/").await.0, 200);
    let used = lab.td(&lab.home, &["access", "unset", "people-lan"]);
    assert!(used.code == 1 && used.stderr.contains("people-lists (default)"), "{used:?}");
    for (entries, status) in [(&["192.0.2.0/24"][..], 403), (&["127.0.0.1", "192.0.2.1-192.0.2.9"], 200)] {
        lab.td(&lab.home, &[&["access", "set", "people-lan"], entries].concat()).ok();
        let edited = Instant::now();
        while site.get("/").await.0 != status {
            assert!(edited.elapsed() < Duration::from_secs(5), "{entries:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{entries:?} after {:?}", edited.elapsed());
    }
    let wrong = lab.td(&lab.home, &["access", "set", "people-lan", "10.0.0.1/8"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("10.0.0.0/8"), "{wrong:?}");
    drop(site);
    lab.td(&lab.home, &["access", "unset", "people-lan"]).ok();
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_door_shuts_out_one_organisation_and_not_the_others() {
    let lab = Lab::get();
    let (org, other) = (Organisation::new(&lab, "people-door"), Organisation::new(&lab, "people-open"));
    let (boss, free) = (
        org.person("people-door-boss", &["--role", "administrator"]),
        other.person("people-free", &["--role", "administrator"]),
    );
    let refused = boss.td(&["access", "door", "api", "192.0.2.0/24", "--org", "people-door"]);
    assert!(refused.code == 1 && refused.stderr.contains("shut out 127.0.0.1"), "{refused:?}");
    boss.td(&["access", "door", "api", "192.0.2.0/24", "--org", "people-door", "--force"]).ok();
    until(Duration::from_secs(5), "the door is shut", || boss.td(&["whoami"]).code == 5);
    free.td(&["whoami"]).ok();
    lab.td(&lab.home, &["access", "door", "api", "--open", "--org", "people-door"]).ok();
    until(Duration::from_secs(5), "the door is open again", || boss.td(&["whoami"]).code == 0);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn values_change_with_a_release_of_their_own_and_no_request_is_lost() {
    let lab = Lab::get();
    let site = Site::new(&lab, "people-values");
    let page = "<?php $u = parse_url(getenv('DATABASE_URL'));
        $db = new mysqli($u['host'], $u['user'], $u['pass'], substr($u['path'], 1), $u['port']);
        echo getenv('GREETING'), ' ', getenv('OTHER') ?: 'none', ' ', $db->query('SELECT 42')->fetch_row()[0];";
    site.file("index.php", page).file(
        "magrathea.yml",
        "secrets: [GREETING]\ndb: {mysql: {}}\nproxy: {kind: none}\nhooks: {release: ['test ! -e files/broken']}
storage: {writable: {files: {kind: shared}}}\n",
    );
    site.td(&["app", "create"]).ok();
    let staged = site.td(&["config", "set", "GREETING=one", "--no-deploy"]).ok();
    assert!(staged.stderr.contains("next deploy"), "{staged:?}");
    site.deploy().ok();
    assert_eq!(site.get("/").await.1, "one none 42");

    let load = Load::start(lab.client(), site.url("/"), 20, Duration::from_secs(60));
    let changed = site.td(&["config", "set", "GREETING=two words & $HOME \"quoted\"", "--json"]).ok().json();
    assert_eq!(changed["deploys"].as_array().unwrap().len(), 1);
    assert_eq!(site.get("/").await.1, "two words & $HOME \"quoted\" none 42");
    let password = || {
        let slug = site.slug();
        let sql = format!("SHOW CREATE USER '{slug}'@'%'");
        let container = lab.docker(&["ps", "-q", "--filter", &format!("name={}-mariadb", lab.prefix())]);
        lab.docker(&["exec", container.trim(), "mariadb", "--batch", "-N", "-e", &sql])
    };
    let good = |account: &str| -> BTreeSet<String> {
        account.split('\'').filter(|word| word.starts_with('*')).map(str::to_owned).collect()
    };
    let before = password();
    site.td(&["config", "rotate-db"]).ok();
    assert_eq!(site.get("/").await.1, "two words & $HOME \"quoted\" none 42");
    let after = password();
    assert!(good(&after).len() == 1 && good(&after).is_disjoint(&good(&before)), "{before} {after}");
    let answers = load.finish();
    assert!(failures(&answers).is_empty(), "{:?}", failures(&answers));
    println!("{} requests, none lost", answers.len());

    // A rotation whose deploy fails shuts nobody out, and the next one completes it.
    let run = |command: &str| lab.td(site.path(), &["app", "run", "--app", &site.name, command]).ok();
    run("touch files/broken");
    assert_eq!(site.td(&["config", "rotate-db"]).code, 1);
    assert_eq!(site.get("/").await.1, "two words & $HOME \"quoted\" none 42");
    assert_eq!(good(&password()).len(), 2);
    run("rm files/broken");
    // What is stored for the next deploy of the app goes on waiting for it.
    site.td(&["config", "set", "GREETING=stored", "--no-deploy"]).ok();
    site.td(&["config", "rotate-db"]).ok();
    assert_eq!(site.get("/").await.1, "two words & $HOME \"quoted\" none 42");
    assert!(good(&password()).len() == 1 && good(&password()).is_disjoint(&good(&after)));

    site.td(&["config", "set", "GREETING=two words & $HOME \"quoted\"", "--no-deploy"]).ok();

    // Out and in again is the same; what an editor makes of it is applied at once, or not at all.
    let exported = site.td(&["config", "export"]).ok().stdout;
    assert_eq!(exported, "GREETING=\"two words & \\$HOME \\\"quoted\\\"\"\n");
    site.file("values.env", &exported);
    let same = site.td(&["config", "import", "values.env", "--replace"]).ok();
    assert!(same.stderr.contains("nothing is different"), "{same:?}");
    site.file("broken.env", "GREETING=x\nnonsense\n");
    let refused = site.td(&["config", "import", "broken.env"]);
    assert!(refused.code == 2 && refused.stderr.contains("line 2"), "{refused:?}");
    let mut edit = lab.td_command(site.path(), &["config", "edit", "--app", &site.name]);
    magrathea_tests::run(edit.env_remove("VISUAL").env("EDITOR", "sed -i s/two/three/")).ok();
    assert!(site.get("/").await.1.starts_with("three words"));

    let history = site.td(&["config", "history", "--json"]).ok().stdout;
    let told: Value = serde_json::from_str(&history).unwrap();
    assert!(told["values"].as_array().unwrap().len() >= 3 && !history.contains("words"), "{history}");
    let listed = site.td(&["config", "list"]).ok();
    assert!(listed.stdout.contains("***") && !listed.stdout.contains("words"), "{listed:?}");
    // In no place where others could read it.
    let slug = site.slug();
    let service = lab.docker(&["service", "ls", "-q", "--filter", &format!("name={}-{slug}", lab.prefix())]);
    for id in service.split_whitespace() {
        assert!(!lab.docker(&["service", "inspect", id]).contains("three words"));
    }
}
