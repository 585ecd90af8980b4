//! Traffic quotas with the real router: people are told, visitors are slowed or see a page, and it ends at once when the quota is
//! raised or taken away.

use std::time::{Duration, Instant};

use magrathea_tests::people::Organisation;
use magrathea_tests::{Ended, Lab, site::Site, until};
use serde_json::Value;

/// As many bytes as are asked for, at once or over eight seconds.
const PAGE: &str = r#"<?php
header('Cache-Control: no-store');
$bytes = (int) ($_GET['bytes'] ?? 2);
if (!isset($_GET['slowly'])) { echo str_repeat('x', $bytes); exit; }
for ($n = 0; $n < 16; $n++) { echo str_repeat('x', intdiv($bytes, 16)); flush(); usleep(500000); }
"#;

/// How long traffic may take to count: nodes tell it every other second in the laboratory, and it is added up every ten.
const INTERVAL: Duration = Duration::from_secs(60);
/// What is set or taken away holds at once.
const AT_ONCE: Duration = Duration::from_secs(8);

fn quota(site: &Site, args: &[&str]) -> Ended {
    site.lab.td(site.path(), &[&["quota"], args].concat())
}

/// The quota of the app, as somebody sees it who sees all.
fn listed(site: &Site) -> Option<Value> {
    let all = quota(site, &["list", "--json"]).ok().json();
    all.as_array().unwrap().iter().find(|quota| quota["app"] == *site.name).cloned()
}

/// Fetches until the app answers so, and says how long that took.
async fn answers(site: &Site, wanted: u16, within: Duration) -> Duration {
    let began = Instant::now();
    while site.get("/").await.0 != wanted {
        assert!(began.elapsed() < within, "{} does not answer with {wanted}", site.name);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    began.elapsed()
}

/// How long several visitors wait together for so many bytes each, all of which they get.
async fn fetch(site: &Site, visitors: usize, bytes: usize) -> Duration {
    let began = Instant::now();
    let path = format!("/?bytes={bytes}");
    let visits = (0..visitors).map(|_| site.get(&path));
    for (status, body) in futures_util::future::join_all(visits).await {
        assert_eq!((status, body.len()), (200, bytes), "all of it comes");
    }
    began.elapsed()
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_month_that_is_used_up_is_told_slows_visitors_or_shows_a_page() {
    let lab = Lab::get();
    let site = Site::new(&lab, "popular");
    site.file("index.php", PAGE);
    site.deploy().ok();

    // What cannot be meant is refused before anything is asked, or by the gateway; nothing is set.
    for (args, code, says) in [
        (&["set", "popular", "--traffic", "much"][..], 2, "write it as in 100GB, 1.5TB or 500MB"),
        (&["set", "popular", "--traffic", "1GB", "--then", "stop"], 2, "[possible values: warn, throttle, page]"),
        (&["set", "--traffic", "1GB"], 2, "hint: say APP or --org ORGANISATION"),
        (&["set", "popular", "--label", "staging", "--traffic", "1GB"], 2, "labels have no quota"),
        (&["set", "popular", "--org", "acme", "--traffic", "1GB"], 2, "cannot be used with"),
        (&["set", "nobodys-app", "--traffic", "1GB"], 1, "there is no app nobodys-app"),
        (&["set", "--org", "nobodys", "--traffic", "1GB"], 1, "hint: td org list lists yours"),
        (&["unset", "popular"], 1, "hint: td quota list shows those that are set"),
    ] {
        let ended = quota(&site, args);
        assert!(ended.code == code && ended.stderr.contains(says), "{args:?}: {ended:?}");
    }
    assert_eq!(listed(&site), None);

    // Each mark is told once; with `warn`, nothing else follows.
    let set = quota(&site, &["set", "popular", "--traffic", "10MB", "--json"]).ok().json();
    assert_eq!((&set["app"], &set["traffic"], &set["then"]), (&"popular".into(), &10_000_000.into(), &"warn".into()));
    quota(&site, &["set", "popular", "--traffic", "10MB"]).ok();
    assert_eq!(site.told("quota.set"), ["a month may take 10 MB of traffic"], "the second time changes nothing");
    for (bytes, action, count) in
        [(8_300_000, "quota.near", 1), (900_000, "quota.near", 2), (1_200_000, "quota.reached", 1)]
    {
        fetch(&site, 1, bytes).await;
        until(INTERVAL, &format!("{action} is told"), || site.told(action).len() == count);
    }
    let lines = [site.told("quota.reached"), site.told("quota.near")].concat();
    for (line, percent) in lines.iter().zip(["104 %", "92 %", "83 %"]) {
        assert_eq!(*line, format!("{percent} of the month's 10 MB of traffic are used"), "{lines:?}");
    }
    let heard = [lab.td(&lab.home, &["status"]).ok().stderr, site.deploy().ok().stderr];
    for said in heard {
        assert!(said.contains("traffic of popular this month: 10.") && said.contains(" of 10 MB (10"), "{said}");
    }
    let fast = fetch(&site, 2, 400_000).await;

    // 800,000 bytes at 128 KiB a second, which both visitors share, take five seconds or more.
    quota(&site, &["set", "popular", "--traffic", "10MB", "--then", "throttle"]).ok();
    let began = Instant::now();
    let slow = loop {
        let took = fetch(&site, 2, 400_000).await;
        if took > Duration::from_secs(3) {
            break took;
        }
        assert!(began.elapsed() < AT_ONCE, "it is not slowed: {took:?}");
    };
    println!("two visitors of 400,000 bytes: {fast:?} before, {slow:?} when slowed");
    assert!(slow > Duration::from_millis(4500) && fast < slow / 2, "{fast:?} {slow:?}");
    let info = site.td(&["app", "info"]).ok().stdout;
    assert!(
        info.contains("traffic this month: ") && info.contains(" of 10 MB (") && info.contains("served slowly"),
        "{info}"
    );
    let usage = site.td(&["usage"]).ok().stderr;
    assert!(usage.contains("quota: this month popular took ") && usage.contains("served slowly"), "{usage}");

    // What began before the page goes on to its end.
    let began = Instant::now();
    let under_way = tokio::spawn(lab.client().get(site.url("/?bytes=160000&slowly")).send());
    tokio::time::sleep(Duration::from_secs(1)).await;
    quota(&site, &["set", "popular", "--traffic", "10MB", "--then", "page"]).ok();
    println!("a page after {:?}", answers(&site, 509, AT_ONCE).await);
    let under_way = under_way.await.unwrap().unwrap();
    assert_eq!(under_way.status(), 200);
    assert_eq!(under_way.text().await.unwrap().len(), 160_000, "it is not cut");
    assert!(began.elapsed() > Duration::from_secs(6), "it ended before the page came: {:?}", began.elapsed());
    let refused = lab.client().get(format!("https://{}:{}/", site.host(), lab.https)).send().await.unwrap();
    assert_eq!(refused.status(), 509);
    assert_eq!(
        (&refused.headers()["cache-control"], &refused.headers()["retry-after"]),
        (&"no-store".parse().unwrap(), &"3600".parse().unwrap())
    );
    assert!(refused.text().await.unwrap().contains("used up its traffic of this month"));
    assert_eq!(site.get("/.well-known/acme-challenge/token").await.0, 404, "the app's own answer");

    // It is kept by a router that is killed, by one that loads a new configuration, by an agent, and without a gateway.
    let router = format!("name={}-router", lab.prefix());
    lab.docker(&["kill", lab.docker(&["ps", "-q", "--filter", &router]).trim()]);
    lab.kill("magrathea-agent");
    let began = Instant::now();
    loop {
        match lab.client().get(site.url("/")).send().await.map(|answer| answer.status().as_u16()) {
            Ok(status) => break assert_eq!(status, 509, "the first answer of the new router"),
            Err(error) => assert!(began.elapsed() < INTERVAL, "the router does not come back: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lab.local("up").ok();
    let other = Site::new(&lab, "unpopular");
    other.file("index.php", PAGE);
    other.deploy().ok();
    assert_eq!((site.get("/").await.0, other.get("/").await), (509, (200, "xx".into())));
    lab.kill("magrathea-gateway");
    assert_eq!(site.get("/").await.0, 509);
    lab.local("up").ok();
    assert_eq!(site.get("/").await.0, 509);

    // More lifts it, which is told; so does none at all. An app that goes takes its quota with it.
    quota(&site, &["set", "popular", "--traffic", "1TB", "--then", "page"]).ok();
    println!("lifted after {:?}", answers(&site, 200, AT_ONCE).await);
    assert!(fetch(&site, 2, 400_000).await < slow / 2);
    until(INTERVAL, "it is told", || site.told("quota.lifted").len() == 1);
    quota(&site, &["set", "popular", "--traffic", "10MB", "--then", "page"]).ok();
    answers(&site, 509, AT_ONCE).await;
    quota(&site, &["unset", "popular"]).ok();
    answers(&site, 200, AT_ONCE).await;
    assert_eq!(quota(&site, &["unset", "popular"]).code, 1);
    quota(&site, &["set", "popular", "--traffic", "1GB"]).ok();
    site.td(&["app", "destroy", "--confirm", "popular"]).ok();
    assert_eq!(listed(&site), None);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_organisations_quota_is_of_all_its_apps_and_the_operator_sets_it() {
    let lab = Lab::get();
    let org = Organisation::new(&lab, "thirsty");
    let boss = org.person("thirsty-boss", &["--role", "administrator"]);
    let site = Site::new(&lab, "thirsty-app");
    site.file("index.php", PAGE);
    boss.td(&["app", "create", "thirsty-app"]).ok();
    site.deploy().ok();
    // Somebody of elsewhere who sees this one app alone.
    let guests = Organisation::new(&lab, "thirsty-guests");
    let guest = guests.person("thirsty-guest", &[]);
    lab.td(&lab.home, &["grant", "add", "viewer", "thirsty-guest", "--app", "thirsty-app"]).ok();

    let refused = boss.td(&["quota", "set", "--org", "thirsty", "--traffic", "1TB"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert_eq!(boss.td(&["quota", "unset", "--org", "thirsty"]).code, 5);
    fetch(&site, 1, 1_200_000).await;
    quota(&site, &["set", "--org", "thirsty", "--traffic", "1TB", "--then", "page"]).ok();
    let mine =
        |all: Ended| all.ok().json().as_array().unwrap().iter().filter(|q| q["organisation"] == "thirsty").count();
    assert_eq!(mine(boss.td(&["quota", "list", "--json"])), 1);
    assert_eq!(mine(guest.td(&["quota", "list", "--json"])), 0);
    let guests_view = || guest.td(&["app", "info", "--app", "thirsty-app", "--json"]).ok().json();
    assert_eq!(
        guests_view()["traffic_quotas"],
        Value::Null,
        "what others of the organisation use is not theirs to see"
    );

    // The stricter of two counts; each is lifted for itself.
    quota(&site, &["set", "thirsty-app", "--traffic", "1MB", "--then", "throttle"]).ok();
    quota(&site, &["set", "--org", "thirsty", "--traffic", "1MB", "--then", "page"]).ok();
    answers(&site, 509, INTERVAL).await;
    assert_eq!(guests_view()["traffic_quotas"].as_array().unwrap().len(), 2, "but why visitors see a page");
    let lines = boss.td(&["timeline", "--json"]).ok().stdout;
    assert!(lines.contains("of all its apps together: visitors see a page"), "{lines}");
    quota(&site, &["unset", "--org", "thirsty"]).ok();
    answers(&site, 200, AT_ONCE).await;
    assert!(fetch(&site, 1, 500_000).await > Duration::from_millis(2500), "the app's own holds");
    quota(&site, &["unset", "thirsty-app"]).ok();
    let began = Instant::now();
    while fetch(&site, 1, 500_000).await > Duration::from_secs(2) {
        assert!(began.elapsed() < AT_ONCE, "it is still slow");
    }
}
