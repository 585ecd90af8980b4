//! Accounting: what visitors send and are sent is counted once, whatever is killed meanwhile.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use magrathea_tests::usage::{accounted, of};
use magrathea_tests::{Lab, site::Site, until};
use serde_json::Value;

const PIECE: u64 = 65_536;

/// `pieces` of 64 KiB with a pause between them, in milliseconds; or the size of what was sent to it.
const APP: &str = r#"<?php
set_time_limit(0);
if ($_SERVER['REQUEST_METHOD'] === 'POST') { echo strlen(file_get_contents('php://input')); exit; }
if (isset($_GET['cached'])) { header('Cache-Control: max-age=3600'); echo str_repeat('c', 500); exit; }
header('Cache-Control: no-store');
$pieces = (int) ($_GET['pieces'] ?? 1);
while (ob_get_level()) ob_end_clean();
for ($i = 0; $i < $pieces; $i++) {
    echo str_repeat('x', 65536);
    flush();
    if (isset($_GET['pause'])) usleep(1000 * (int) $_GET['pause']);
}
"#;

/// One behind no cache, whose requests count to the byte; and one behind a cache, which says how long an answer is or not, as it
/// has all of it already or not.
struct Sites {
    plain: Site,
    cached: Site,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Page,
    Cached,
    Missing,
    Upload,
    /// Over HTTPS, and with HTTP/2.
    Secure,
    Large,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Page, Kind::Cached, Kind::Missing, Kind::Upload, Kind::Secure, Kind::Large];

    fn path(self) -> &'static str {
        match self {
            Kind::Page => "/?pieces=1",
            Kind::Cached => "/?cached=1",
            Kind::Missing => "/nothing.css",
            Kind::Upload => "/?upload=1",
            Kind::Secure => "/?pieces=1&secure=1",
            Kind::Large => "/?pieces=32",
        }
    }

    /// Asks once, and reads the answer to its end.
    async fn ask(self, client: &reqwest::Client, sites: &Sites) -> Result<(), String> {
        let plain = &sites.plain;
        let url = match self {
            Kind::Secure => format!("https://{}:{}{}", plain.host(), plain.lab.https, self.path()),
            Kind::Cached => sites.cached.url(self.path()),
            _ => plain.url(self.path()),
        };
        let request = if self == Kind::Upload { client.post(url).body(vec![7; 200_000]) } else { client.get(url) };
        let answer = request.send().await.map_err(|error| format!("{self:?}: {error:?}"))?;
        let (status, version) = (answer.status().as_u16(), answer.version());
        let body = answer.bytes().await.map_err(|error| format!("{self:?}: {error:?}"))?;
        let wanted = match self {
            Kind::Page | Kind::Secure => (200, PIECE),
            Kind::Cached => (200, 500),
            Kind::Missing => (404, body.len() as u64),
            Kind::Upload => (200, 6),
            Kind::Large => (200, 32 * PIECE),
        };
        assert!(self != Kind::Secure || version == reqwest::Version::HTTP_2);
        if (status, body.len() as u64) == wanted { Ok(()) } else { Err(format!("{self:?}: {status}, {}", body.len())) }
    }
}

/// What one request of each kind counts, by its line in the app's log.
async fn calibrate(lab: &Lab, sites: &Sites) -> BTreeMap<Kind, (u64, u64)> {
    let client = lab.client();
    for kind in Kind::ALL {
        kind.ask(&client, sites).await.unwrap();
    }
    let mut sizes = BTreeMap::new();
    until(Duration::from_secs(10), "the requests are in the log", || {
        let log = |site: &Site| site.td(&["app", "logs", "--layer", "routing", "--json", "-n", "100"]).ok().stdout;
        for line in [log(&sites.plain), log(&sites.cached)].iter().flat_map(|log| log.lines()) {
            let record: Value = serde_json::from_str(line).unwrap();
            let access = &record["access"];
            let number = |name: &str| access[name].as_u64().unwrap();
            let kind = Kind::ALL.into_iter().find(|kind| access["path"] == kind.path());
            sizes.extend(kind.map(|kind| (kind, (number("received"), number("sent")))));
        }
        sizes.len() == Kind::ALL.len()
    });
    sizes
}

/// How many lines of its log the router's process has given up.
fn dropped_lines(lab: &Lab) -> u64 {
    let info = lab.ask_router("@1 show info");
    info.lines().find_map(|line| line.strip_prefix("DroppedLogs: ")).unwrap().trim().parse().unwrap()
}

/// Gives how many lines of its log the process gave up that is replaced.
fn reload_router(lab: &Lab) -> u64 {
    let dropped = dropped_lines(lab);
    let answer = lab.ask_router("reload");
    assert!(answer.starts_with("Success=1"), "{answer}");
    dropped
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the laboratory: make test"]
async fn every_request_counts_once_whatever_is_killed_meanwhile() {
    let lab = Lab::get();
    let sites = Sites { plain: Site::new(&lab, "meter"), cached: Site::new(&lab, "cached-meter") };
    sites.plain.file("magrathea.yml", "proxy: {kind: none}\n").file("index.php", APP).deploy().ok();
    sites.cached.file("index.php", APP).deploy().ok();
    let sizes = calibrate(&lab, &sites).await;
    let sites = Arc::new(sites);
    let site = &sites.plain;
    // Bodies count to the byte; what is beside them are the headers.
    let body = |kind| sizes[&kind].1;
    let headers = body(Kind::Page) - PIECE;
    assert!((100..600).contains(&headers), "{sizes:?}");
    assert_eq!(body(Kind::Large), 32 * PIECE + headers);
    assert!((200_000..200_600).contains(&sizes[&Kind::Upload].0), "{sizes:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..3_usize)
        .map(|n| {
            let (lab, sites, stop) = (lab.clone(), sites.clone(), stop.clone());
            tokio::spawn(async move {
                let client = lab.client();
                let mut asked: BTreeMap<Kind, u64> = BTreeMap::new();
                for kind in Kind::ALL.into_iter().cycle().skip(n * 2) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    kind.ask(&client, &sites).await.unwrap();
                    *asked.entry(kind).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                asked
            })
        })
        .collect();
    // A gigabyte flows all the while.
    let flow = {
        let (client, url) = (lab.client(), site.url("/?pieces=16384&pause=1"));
        tokio::spawn(async move {
            let mut answer = client.get(url).timeout(Duration::from_secs(300)).send().await.unwrap();
            let mut bytes = 0;
            while let Some(piece) = answer.chunk().await.unwrap() {
                bytes += piece.len() as u64;
            }
            bytes
        })
    };
    let before = dropped_lines(&lab);
    // Lines that processes gave up which ended while nobody could ask them, and all others that were given up.
    let (unasked, asked_for) = tokio::task::block_in_place(|| {
        let (mut unasked, mut asked_for) = (0, 0);
        for _ in 0..2 {
            lab.kill("magrathea-agent");
            unasked += reload_router(&lab);
            lab.local("up").ok();
            std::thread::sleep(Duration::from_secs(3));
            lab.kill("magrathea-gateway");
            std::thread::sleep(Duration::from_secs(3));
            lab.local("up").ok();
            asked_for += reload_router(&lab);
            lab.signal_postgres("KILL");
            std::thread::sleep(Duration::from_secs(5));
            lab.kill("magrathea-agent");
            lab.kill("magrathea-gateway");
            lab.local("up").ok();
        }
        (unasked - before, asked_for)
    });
    let counted_meanwhile = of(&accounted(site), "sent");
    let is_flowing = !flow.is_finished();
    stop.store(true, Ordering::Relaxed);
    let mut asked: BTreeMap<Kind, u64> = Kind::ALL.map(|kind| (kind, 1)).into();
    for visitor in visitors {
        for (kind, count) in visitor.await.unwrap() {
            *asked.entry(kind).or_default() += count;
        }
    }
    assert_eq!(flow.await.unwrap(), 16_384 * PIECE);

    let cached = asked.remove(&Kind::Cached).unwrap();
    let count = |of: fn(&(u64, u64)) -> u64| asked.iter().map(|(kind, count)| of(&sizes[kind]) * count).sum::<u64>();
    let requests = asked.values().sum::<u64>() + 1;
    let sent = count(|size| size.1) + 16_384 * PIECE + headers;
    // Its address is longer than the others'.
    let received = count(|size| size.0) + sizes[&Kind::Page].0 + "16384&pause=1".len() as u64 - 1;
    let is_all = |usage: &BTreeMap<String, u64>| of(usage, "requests") >= requests && of(usage, "sent") >= sent;
    let ended = Instant::now();
    while !is_all(&accounted(site)) && ended.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Nothing comes after it.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let usage = accounted(site);
    println!("{sizes:?} {asked:?}");
    // A line that the router gave up is in its sums, without its kind: lost are those of a process that ended unasked.
    let given_up = unasked + asked_for + dropped_lines(&lab);
    println!(
        "{requests} requests, {sent} bytes sent, {received} received, {given_up} lines given up, {unasked} unasked: {usage:?}"
    );
    let missing = requests - of(&usage, "requests");
    assert!(missing <= unasked, "{missing}");
    let nearly = |metric: &str, wanted: u64, each: u64| {
        let amount = of(&usage, metric);
        assert!(amount <= wanted && amount + missing * each >= wanted, "{metric}: {amount} of {wanted}");
    };
    nearly("received", received, sizes[&Kind::Upload].0);
    nearly("sent", sent, sizes[&Kind::Large].1);
    for (kind, wanted) in [
        ("status_4xx", asked[&Kind::Missing]),
        ("status_2xx", requests - asked[&Kind::Missing]),
        ("https", asked[&Kind::Secure]),
    ] {
        assert!(of(&usage, kind) <= wanted && of(&usage, kind) + given_up >= wanted, "{kind} of {wanted}: {usage:?}");
    }
    let usage_cached = accounted(&sites.cached);
    for (metric, wanted, lost) in [("requests", cached, unasked), ("hits", cached - 1, given_up)] {
        let counted = of(&usage_cached, metric);
        assert!(counted <= wanted && counted + lost >= wanted, "{metric}: {counted} of {wanted}");
    }
    assert!((500..1000).contains(&(of(&usage_cached, "sent") / cached)), "{usage_cached:?}");
    if is_flowing {
        let over = sent - 16_384 * PIECE;
        assert!(counted_meanwhile > over, "what flows is counted before it ends: {counted_meanwhile}");
    }
    // Sums of parts are the whole.
    let parts = site.td(&["usage", "--json", "--by", "hour"]).ok().json();
    let rows = parts["rows"].as_array().unwrap().iter().filter(|row| row["destroyed"] == false);
    let sum: u64 = rows.filter_map(|row| row["usage"]["sent"].as_u64()).sum();
    assert_eq!(sum, of(&usage, "sent"));
    assert_eq!(parts["gaps"].as_array().unwrap().iter().filter(|gap| gap["reason"] == "refused").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the laboratory: make test"]
async fn a_router_that_is_killed_loses_no_request_that_was_answered() {
    let lab = Lab::get();
    let site = &Site::new(&lab, "killed-router");
    site.file("magrathea.yml", "proxy: {kind: none}\n").file("index.php", APP);
    site.deploy().ok();
    // A download that its visitor leaves is counted as far as it went.
    let taken = {
        let mut answer = lab.client().get(site.url("/?pieces=2000&pause=5")).send().await.unwrap();
        let mut taken = 0;
        while taken < 20 * PIECE {
            taken += answer.chunk().await.unwrap().unwrap().len() as u64;
        }
        taken
    };
    until(Duration::from_secs(30), "it is counted", || of(&accounted(site), "sent") >= taken);
    // The router holds back no more than its own and the sockets' buffers.
    let aborted = of(&accounted(site), "sent");
    assert!((taken..taken + (16 << 20)).contains(&aborted), "{taken} {aborted}");

    let (stop, answered, tried) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let visit = async {
        while !stop.load(Ordering::Relaxed) {
            tried.fetch_add(1, Ordering::Relaxed);
            // Each on a connection of its own: nothing is tried twice behind the test's back.
            let answer = lab.client().get(site.url("/?pieces=1")).header("connection", "close").send().await;
            let is_whole = async { answer.ok()?.bytes().await.ok().filter(|body| body.len() as u64 == PIECE) };
            if is_whole.await.is_some() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let flow = async {
        let Ok(mut answer) = lab.client().get(site.url("/?pieces=6000&pause=100")).send().await else { return 0 };
        let mut bytes = 0;
        while let Ok(Some(piece)) = answer.chunk().await {
            bytes += piece.len() as u64;
        }
        bytes
    };
    let kill = async {
        tokio::time::sleep(Duration::from_secs(16)).await;
        tokio::task::block_in_place(|| {
            let containers = lab.docker(&["ps", "-q", "--filter", &format!("name={}-router", lab.prefix())]);
            lab.docker(&["kill", containers.trim()]);
            let begun = Instant::now();
            until(Duration::from_secs(60), "it serves again", || site.serves());
            println!("the router was away for {:?}", begun.elapsed());
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (flowed, ..) = tokio::join!(flow, visit, kill);
    let (answered, tried) = (answered.into_inner(), tried.into_inner());
    // The aborted one and the flow.
    let least = answered + 1;
    until(Duration::from_secs(60), "it is accounted", || of(&accounted(site), "requests") >= least);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let usage = accounted(site);
    println!("{tried} tried, {answered} answered, {flowed} bytes flowed before the kill: {usage:?}");
    // `serves` asks, too.
    assert!((least..tried + 2 + 120).contains(&of(&usage, "requests")), "{usage:?}");
    // What flowed in the last ten seconds before the kill is known to nobody.
    let sent = of(&usage, "sent") - aborted - answered * PIECE;
    assert!(
        sent + 10 * 10 * PIECE >= flowed.min(160 * PIECE) && sent <= flowed + (16 << 20),
        "{sent} {flowed} {usage:?}"
    );
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn nobody_counts_for_somebody_else() {
    let lab = Lab::get();
    let (own, other) = (Site::new(&lab, "own-meter"), Site::new(&lab, "other-meter"));
    for site in [&own, &other] {
        site.file("magrathea.yml", "proxy: {kind: none}\n").file("index.php", "<?php echo 'ok';");
        site.deploy().ok();
    }
    let before = of(&accounted(&other), "requests");
    let slug = other.slug();
    let ask = |head: String| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", lab.http)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).chars().skip(9).take(3).collect::<String>()
    };
    let host = own.host();
    let forged = format!("X-Magrathea-Instance: {slug}\r\nX-Forwarded-Host: {}\r\n", other.host());
    let evil = format!("User-Agent: \", \"slug\": \"{slug}\", \"sent\": 999999999}}\\u0000\r\n");
    for line in [&forged, &evil] {
        let answer = ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{line}Connection: close\r\n\r\n"));
        assert_eq!(answer, "200", "{line}");
    }
    let long = "x".repeat(64 << 10);
    assert_eq!(ask(format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")), "400");
    until(Duration::from_secs(30), "they are counted", || of(&accounted(&own), "requests") >= 2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let usage = accounted(&own);
    assert_eq!((of(&usage, "requests"), of(&usage, "status_2xx")), (2, 2));
    assert!(of(&usage, "sent") < 2000);
    assert_eq!(of(&accounted(&other), "requests"), before);

    // What people see: a table, its parts, and what is asked for in the wrong way.
    let table = own.td(&["usage"]).ok();
    assert!(table.stdout.contains("own-meter") && table.stdout.contains("REQUESTS"), "{table:?}");
    let csv = own.td(&["usage", "--csv", "--by", "day"]).ok().stdout;
    // An app of this name that an earlier run has destroyed is there too.
    assert!(csv.lines().count() >= 2 && csv.starts_with("from,until,organisation,app,label"), "{csv}");
    let top = own.td(&["usage", "top", "-n", "1", "--every", "500ms"]).ok();
    assert!(top.stdout.contains("SENT/S"), "{top:?}");
    for (wrong, says) in [(vec!["usage", "--from", "soon"], "is no time"), (vec!["usage", "--org", "nobody"], "nobody")]
    {
        let ended = own.td(&wrong);
        assert!(ended.code != 0 && ended.stderr.contains(says), "{ended:?}");
    }
    // What was destroyed stays in the books.
    let name = own.name.clone();
    drop(own);
    let report = lab.td(&lab.home, &["usage", "--app", &name, "--json"]).ok().json();
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["destroyed"] == true && row["usage"]["requests"] == 2), "{rows:?}");
}
