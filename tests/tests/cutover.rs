//! Around the cut-over: a release on trial, requests that take long, files that pages already loaded ask for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use magrathea_tests::load::{Load, failures};
use magrathea_tests::socket::{echo, open_socket, say};
use magrathea_tests::{Lab, site::Site, until};

fn page(version: u32) -> String {
    format!("<?php header('Cache-Control: max-age=60'); echo 'version {version}', $_SERVER['HTTP_COOKIE'] ?? '';")
}

/// What each of so many visitors meets, who ask without a cookie.
async fn meet(site: &Site, visitors: usize) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for _ in 0..visitors {
        let (status, body) = site.get("/").await;
        assert_eq!(status, 200, "{body}");
        *met.entry(body).or_default() += 1;
    }
    met
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_share_of_the_visitors_meets_a_release_on_trial() {
    let lab = Lab::get();
    let site = Site::new(&lab, "canary");
    site.file("magrathea.yml", "proxy: {ttl: 1m}\nrouting: {drain: 2s}\n").file("index.php", page(1));
    let first = site.td(&["app", "deploy", "--dirty", "--canary", "30"]).ok();
    assert!(first.stderr.contains("nothing served before"), "{}", first.stderr);
    for wrong in ["0", "100", "ten"] {
        assert_eq!(site.td(&["app", "deploy", "--dirty", "--canary", wrong]).code, 2);
    }
    let nothing = site.td(&["deploy", "promote"]);
    assert!(nothing.code == 1 && nothing.stderr.contains("no release on trial"), "{nothing:?}");

    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(240));
    site.file("index.php", page(2));
    let begun = site.td(&["app", "deploy", "--dirty", "--canary", "30"]).ok();
    assert!(begun.stderr.contains("td deploy promote") && begun.stderr.contains("td deploy abort"), "{}", begun.stderr);
    let met = meet(&site, 200).await;
    let new = met["version 2"];
    assert!((30..=90).contains(&new) && met["version 1"] == 200 - new, "30 % of 200: {met:?}");
    // Each stays with what he drew, and neither the app nor the cache hears of the cookie.
    for _ in 0..5 {
        let visitor = lab.client();
        let mut bodies = Vec::new();
        for n in 0..4 {
            let answer = visitor.get(site.url("/")).send().await.unwrap();
            assert_eq!(answer.headers().contains_key("set-cookie"), n == 0);
            assert!(n == 0 || answer.headers()["x-cache"] == "HIT", "{:?}", answer.headers());
            bodies.push(answer.text().await.unwrap());
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    }
    let other = lab.client().get(site.url("/")).header("cookie", "a=1; magrathea_canary=2-in; b=2");
    assert_eq!(other.send().await.unwrap().text().await.unwrap(), "version 2a=1; b=2");

    // It holds the instance, and outlives the gateway and the agent.
    let locked = site.deploy();
    assert!(locked.code == 6 && locked.stderr.contains("canary"), "{locked:?}");
    for process in ["magrathea-gateway", "magrathea-agent"] {
        lab.kill(process);
        lab.local("up").ok();
    }
    until(Duration::from_secs(30), "the trial goes on", || {
        let newest = site.newest_deploy();
        newest["status"] == "running" && newest["phase"] == "canary"
    });
    assert!(meet(&site, 40).await.len() == 2, "both are met");
    let promoted = site.td(&["deploy", "promote"]).ok();
    assert!(promoted.stderr.contains("promoted by") && promoted.stderr.contains("drain"), "{}", promoted.stderr);
    assert_eq!(meet(&site, 20).await, BTreeMap::from([("version 2".to_owned(), 20)]));

    site.file("index.php", page(3));
    site.td(&["app", "deploy", "--dirty", "--canary", "50"]).ok();
    assert!(meet(&site, 40).await.contains_key("version 3"));
    let aborted = site.td(&["deploy", "abort", "--json"]).ok().json();
    assert_eq!((&aborted["status"], &aborted["phase"]), (&"cancelled".into(), &"canary".into()));
    assert_eq!(meet(&site, 20).await, BTreeMap::from([("version 2".to_owned(), 20)]));
    until(Duration::from_secs(20), "nothing is left", || site.release_services().len() == 1);
    assert_eq!(failures(&load.finish()), Vec::<String>::new());

    // An access list that is edited meanwhile holds at once, and the trial goes on.
    lab.td(&lab.home, &["access", "set", "canary-ban", "192.0.2.1"]).ok();
    site.file("magrathea.yml", "access: {deny: [canary-ban]}\n");
    site.deploy().ok();
    site.td(&["app", "deploy", "--dirty", "--canary", "50"]).ok();
    for (entry, status) in [("127.0.0.1", 403), ("192.0.2.1", 200)] {
        lab.td(&lab.home, &["access", "set", "canary-ban", entry]).ok();
        let edited = Instant::now();
        while (site.get("/").await.0, site.newest_deploy()["phase"].as_str()) != (status, Some("canary")) {
            assert!(edited.elapsed() < Duration::from_secs(5), "{entry}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Neither release lets more in than the other.
        let visits = futures_util::future::join_all((0..40).map(|_| site.get("/"))).await;
        assert!(visits.iter().all(|(seen, _)| *seen == status), "{visits:?}");
    }

    // One that dies is taken back by itself.
    let slug = site.slug();
    let container = lab.docker(&["ps", "-q", "--filter", &format!("name={slug}-web-v5")]);
    lab.docker(&["kill", container.trim()]);
    assert_eq!(site.decided()["status"], "failed");
    let told = site.td(&["deploy", "log"]);
    assert!(told.code == 1 && told.stderr.contains("did not stay up on trial"), "{told:?}");
    assert_eq!(meet(&site, 20).await, BTreeMap::from([("version 3".to_owned(), 20)]));
    drop(site);
    lab.td(&lab.home, &["access", "unset", "canary-ban"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the laboratory: make test"]
async fn long_requests_end_within_the_drain_time_or_are_cut() {
    let lab = Lab::get();
    let site = Site::new(&lab, "patience");
    let manifest = "proxy: {kind: none}\nrouting: {drain: 4s}\n";
    site.file("magrathea.yml", manifest)
        .file("index.php", "<?php set_time_limit(0); sleep((int) ($_GET['for'] ?? 0)); echo 'version 1';");
    site.deploy().ok();
    let ask = |seconds: u32| {
        let request = lab.client().get(site.url(&format!("/?for={seconds}"))).timeout(Duration::from_secs(60)).send();
        tokio::spawn(async move {
            let answer = async { request.await?.error_for_status()?.text().await };
            (answer.await, Instant::now())
        })
    };
    let (ends, cut) = (ask(3), ask(50));
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.file("index.php", "<?php echo 'version 2';");
    let begun = Instant::now();
    let deployed = tokio::task::block_in_place(|| site.deploy()).ok();
    assert!(deployed.stderr.contains("1 request cut at the end of the drain time"), "{}", deployed.stderr);
    assert_eq!(ends.await.unwrap().0.unwrap(), "version 1");
    let (answer, at) = cut.await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
    let lived = at - begun;
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&lived), "cut after {lived:?}");
    assert_eq!(site.get("/").await, (200, "version 2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the laboratory: make test"]
async fn websockets_stay_with_their_release_until_the_drain_is_over() {
    let lab = Lab::get();
    let site = Site::new(&lab, "sockets");
    let manifest = "app_layer: {stack: tomcat, memory: 512MiB, health: {path: /, expect: 200, watch: 0s}}\n\
                    proxy: {kind: none}\nrouting: {drain: 6s}\n";
    site.file("magrathea.yml", manifest).file("WEB-INF/web.xml", "<web-app/>").file("index.jsp", echo(1));
    site.deploy().ok();
    assert_eq!(site.get("/").await, (200, "version 1".into()));
    let (mut leaves, mut stays) = (open_socket(&site).await, open_socket(&site).await);
    assert_eq!(say(&mut stays, "hello").await.as_deref(), Some("version 1: hello"));

    site.file("index.jsp", echo(2));
    let deploy = std::thread::scope(|scope| {
        let deploy = scope.spawn(|| site.deploy());
        let talk = async {
            while site.get("/").await.1 != "version 2" {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let switched = Instant::now();
            assert_eq!(say(&mut leaves, "bye").await.as_deref(), Some("version 1: bye"));
            leaves.close(None).await.unwrap();
            assert_eq!(say(&mut open_socket(&site).await, "new").await.as_deref(), Some("version 2: new"));
            while say(&mut stays, "still there").await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let lived = switched.elapsed();
            assert!((Duration::from_secs(5)..Duration::from_secs(12)).contains(&lived), "cut after {lived:?}");
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(talk));
        deploy.join().unwrap()
    });
    assert!(deploy.ok().stderr.contains("1 request cut at the end of the drain time"));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn pages_already_loaded_still_get_their_release_s_assets() {
    let lab = Lab::get();
    for (name, index) in [("bundle", "index.php"), ("bundle-static", "index.html")] {
        let site = Site::new(&lab, name);
        let manifest =
            "app_layer: {root: web}\nproxy: {kind: none}\nstorage: {writable: {web/uploads: {kind: shared}}}\n";
        site.file("magrathea.yml", manifest)
            .file(&format!("web/{index}"), "one")
            .file("web/build/app-3f2a9c1b.js", "one's script")
            .file("web/secret-3f2a9c1b.php", "<?php echo 'one';")
            .file("web/uploads/photo-3f2a9c1b.png", "an upload")
            .file("web/plain.js", "not hashed");
        site.deploy().ok();
        std::fs::remove_dir_all(site.path().join("web")).unwrap();
        site.file(&format!("web/{index}"), "two").file("web/build/app-77aa88bb.js", "two's script");
        site.deploy().ok();
        assert_eq!(site.get("/").await.1, "two");
        assert_eq!(site.get("/build/app-77aa88bb.js").await, (200, "two's script".into()));
        assert_eq!(site.get("/build/app-3f2a9c1b.js").await, (200, "one's script".into()));
        for gone in ["/plain.js", "/secret-3f2a9c1b.php", "/build/../secret-3f2a9c1b.php", "/x-00000000.js"] {
            assert_eq!(site.get(gone).await.0, 404, "{gone}");
        }
        let shell = |command: &str| lab.td(site.path(), &["app", "shell", "--app", name, "--", command]);
        let kept = shell("ls -R /var/lib/magrathea/assets");
        assert!(kept.stdout.contains("app-3f2a9c1b.js") && !kept.stdout.contains("uploads"), "{kept:?}");
        let written = shell("touch /var/lib/magrathea/assets/x-00000000.js");
        assert!(written.code != 0 && written.stderr.contains("Read-only"), "{written:?}");
        // Two deploys on, and without keeping any.
        site.file(&format!("web/{index}"), "three");
        std::fs::remove_dir_all(site.path().join("web/build")).unwrap();
        site.deploy().ok();
        assert_eq!(site.get("/build/app-3f2a9c1b.js").await.0, 200);
        assert_eq!(site.get("/build/app-77aa88bb.js").await.0, 200);
        site.file("magrathea.yml", manifest.replace("root: web", "root: web, keep_assets: 0s"));
        site.deploy().ok();
        assert_eq!(site.get("/build/app-77aa88bb.js").await.0, 404);
    }
}
