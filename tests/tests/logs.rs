//! What instances say: at once, in order, once, for as long as it is kept, harmlessly, and to sinks elsewhere.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use magrathea_tests::{Lab, site::Site, until};
use serde_json::Value;

/// Writes `count` lines `NAME N` past everything that could cut them, at once or over some time.
const SPEAKER: &str = r#"<?php
header('Cache-Control: no-store');
// PHP itself cannot open a pipe by this name.
$out = popen('cat > /proc/1/fd/1', 'w');
if (isset($_GET['raw'])) { fwrite($out, base64_decode($_GET['raw'])); }
$pad = str_repeat('x', (int) ($_GET['pad'] ?? 0));
$lead = str_repeat('x', (int) ($_GET['lead'] ?? 0));
for ($n = 0; $n < (int) ($_GET['count'] ?? 0); $n++) {
    fwrite($out, "$lead{$_GET['name']} $n $pad\n");
    if (isset($_GET['pause'])) { usleep((int) $_GET['pause']); }
}
if (isset($_GET['noise'])) {
    for ($n = 0; $n < (int) $_GET['noise']; $n++) { fwrite($out, bin2hex(random_bytes(400)) . "\n"); }
}
pclose($out);
echo getenv('MAGRATHEA_RELEASE'), ' ', gethostname();
"#;

fn speaker(lab: &Lab, name: &str, manifest: &str) -> Site {
    let site = Site::new(lab, name);
    site.file("index.php", SPEAKER).file("magrathea.yml", format!("app: {name}\nproxy: {{kind: none}}\n{manifest}"));
    site.deploy().ok();
    site
}

fn logs(site: &Site, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["app", "logs", "--json"];
    all.extend(args);
    site.td(&all).ok().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(records: &[Value]) -> Vec<String> {
    records.iter().filter_map(|record| record["text"].as_str()).map(str::to_owned).collect()
}

/// The requests whose lines match; notices pass every filter.
fn requests(site: &Site, pattern: &str) -> usize {
    let told = logs(site, &["--layer", "routing", "--since", "1h", "--grep", pattern]);
    told.iter().filter(|record| record["access"].is_object()).count()
}

/// The numbers said under a name, in the order told.
fn numbers(texts: &[String], name: &str) -> Vec<u64> {
    let own = texts.iter().filter_map(|text| text.strip_prefix(name)?.strip_prefix(' '));
    own.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// `td app logs -f --json`, line by line.
struct Follower {
    td: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(site: &Site, args: &[&str]) -> Self {
        let mut all = vec!["app", "logs", "-f", "--json", "--app", &site.name];
        all.extend(args);
        let mut command = site.lab.td_command(site.path(), &all);
        let mut td = command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(td.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Follower { td, lines }
    }

    fn wait_for(&self, what: &str, limit: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let left = limit.checked_sub(began.elapsed()).unwrap_or_else(|| panic!("not within {limit:?}: {what}"));
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(what) => return began.elapsed(),
                Ok(_) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.td.kill();
        let _ = self.td.wait();
    }
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn lines_are_told_within_a_second_and_requests_too() {
    let lab = Lab::get();
    let site = speaker(&lab, "herald", "");
    let follower = Follower::start(&site, &["-n", "0"]);
    // Until the follower is there, its first lines may be before it.
    std::thread::sleep(Duration::from_secs(1));
    for n in 0..5 {
        let (status, _) = site.get(&format!("/?name=tick{n}&count=1")).await;
        assert_eq!(status, 200);
        let took = follower.wait_for(&format!("tick{n} 0"), Duration::from_secs(5));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    site.get("/?name=asked&count=0").await;
    follower.wait_for("\"path\":\"/?name=asked", Duration::from_secs(1));
    let routing = logs(&site, &["--layer", "routing", "--grep", "name=asked"]);
    let access = &routing[0]["access"];
    assert_eq!((access["status"].as_u64(), access["cache"].as_str()), (Some(200), Some("bypass")), "{access}");
    assert!(access["sent"].as_u64() > Some(50) && access["ms"].is_u64(), "{access}");
    assert!(logs(&site, &["--layer", "build"]).iter().all(|record| record["layer"] == "build"));
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn replicas_are_merged_and_lines_outlive_containers_and_deploys() {
    let lab = Lab::get();
    let site = speaker(&lab, "chorus", "app_layer: {replicas: 2}\n");
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (client, url) = (lab.client(), site.url(&format!("/?name=part{n}&count=200&pause=2000")));
        requests.spawn(async move { client.get(url).send().await.unwrap().text().await.unwrap() });
    }
    let answers = requests.join_all().await;
    site.file("note.txt", "another release");
    site.deploy().ok();
    site.get("/?name=later&count=1").await;
    until(Duration::from_secs(5), "the new release is heard", || {
        texts(&logs(&site, &["--layer", "app"])).iter().any(|text| text.starts_with("later 0"))
    });
    let all = logs(&site, &["--layer", "app", "-n", "10000"]);
    let said = texts(&all);
    for n in 0..4 {
        assert_eq!(numbers(&said, &format!("part{n}")), (0..200).collect::<Vec<_>>(), "part{n}");
    }
    // The engine itself takes the times of a container's two outputs apart.
    let of_one_output = |record: &&Value| record["text"].as_str().is_some_and(|text| text.starts_with("part"));
    let parsed: Vec<_> =
        all.iter().filter(of_one_output).map(|record| parse(record["time"].as_str().unwrap())).collect();
    assert!(parsed.is_sorted(), "not in the order of time");
    let mut hosts: Vec<&String> = answers.iter().collect();
    hosts.sort();
    hosts.dedup();
    if hosts.len() == 2 {
        let mut replicas: Vec<&str> = all
            .iter()
            .filter(|record| record["text"].as_str().is_some_and(|text| text.starts_with("part")))
            .filter_map(|record| record["replica"].as_str())
            .collect();
        replicas.sort_unstable();
        replicas.dedup();
        assert_eq!(replicas, ["web.1", "web.2"]);
    }
    let old = logs(&site, &["--release", "v1", "--grep", "^part0 7 "]);
    assert_eq!((old.len(), old[0]["release"].as_u64()), (1, Some(1)));
}

/// Seconds and nanoseconds: what RFC 3339 has after the dot differs in length.
fn parse(time: &str) -> (String, u64) {
    let (seconds, part) = time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), "0"));
    (seconds.to_owned(), format!("{part:0<9}").parse().unwrap())
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn an_agent_killed_in_between_loses_and_doubles_nothing() {
    let lab = Lab::get();
    let site = speaker(&lab, "phoenix", "");
    let follower = Follower::start(&site, &["-n", "0"]);
    let (client, url) = (lab.client(), site.url("/?name=count&count=12000&pause=300"));
    let request = tokio::spawn(async move { client.get(url).send().await.unwrap().text().await.unwrap() });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        lab.kill("magrathea-agent");
        for n in 0..20 {
            assert_eq!(site.get(&format!("/?name=visit{n}")).await.0, 200);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        lab.local("up").ok();
    }
    request.await.unwrap();
    site.get("/?name=end&count=1").await;
    follower.wait_for("end 0", Duration::from_secs(60));
    let said = texts(&logs(&site, &["--since", "10m", "--layer", "app"]));
    assert_eq!(numbers(&said, "count"), (0..12_000).collect::<Vec<_>>());
    assert_eq!(requests(&site, "name=visit"), 40, "requests while the agent was away");
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn rotation_under_load_loses_nothing() {
    let lab = Lab::get();
    let site = speaker(&lab, "mill", "");
    // 60 MB: three of the engine's files.
    site.get("/?name=grain&count=60000&pad=900").await;
    site.get("/?name=end&count=1").await;
    let done = || logs(&site, &["-n", "1", "--layer", "app", "--grep", "^end 0"]).len() == 1;
    until(Duration::from_secs(60), "all is taken over", done);
    let said = texts(&logs(&site, &["--since", "10m", "--layer", "app", "--grep", "^grain"]));
    let numbers = numbers(&said, "grain");
    assert_eq!(numbers.len(), 60_000);
    assert!(numbers.into_iter().eq(0..60_000));
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn hostile_lines_do_no_harm() {
    let lab = Lab::get();
    let site = speaker(&lab, "gorgon", "");
    let raw = |bytes: &[u8]| format!("/?raw={}", base64(bytes));
    site.get(&raw(b"\x1b[2J\x1b]0;title\x07\xff\xfe\x9b31m\r\x08 \xe2\x80\xae mark\n")).await;
    // A megabyte without an end, which is then given one.
    site.get("/?name=long&count=1&pad=1000000").await;
    site.get(&raw(b"no end, and then the container goes")).await;
    let client = lab.client();
    let request = client.get(site.url("/agent")).header("user-agent", &b"evil\x1b[31m\xff\"x"[..] as &[u8]);
    let _ = request.send().await;
    std::thread::sleep(Duration::from_secs(1));
    for args in [&["app", "logs"][..], &["app", "logs", "--json"], &["app", "logs", "--since", "1h"]] {
        let shown = site.td(args).ok().stdout;
        let acts = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!shown.chars().any(acts), "{args:?}");
    }
    let said = texts(&logs(&site, &["--since", "1h", "--layer", "app"]));
    assert!(said.iter().any(|text| text.contains("\u{1b}[2J") && text.contains("mark")), "{said:?}");
    let long: usize = said.iter().map(|text| text.matches('x').count()).sum();
    assert!(long >= 1_000_000, "{long}");
    site.file("note.txt", "so that the container goes");
    site.deploy().ok();
    // What was not ended is a line once its container has gone, a moment after the deploy.
    until(Duration::from_secs(20), "the line without an end is told", || {
        let said = texts(&logs(&site, &["--since", "1h", "--layer", "app", "--release", "v1"]));
        said.iter().any(|text| text.contains("no end, and then"))
    });
    let error = site.td(&["app", "logs", "--grep", "("]);
    assert_ne!(error.code, 0);
    assert!(error.stderr.contains("grep is not a pattern"), "{}", error.stderr);
}

fn base64(bytes: &[u8]) -> String {
    use std::process::Command;
    let mut encode = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    encode.stdin.take().unwrap().write_all(bytes).unwrap();
    let text = String::from_utf8(encode.wait_with_output().unwrap().stdout).unwrap();
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn a_log_stays_within_its_bounds_and_goes_with_its_instance() {
    let lab = Lab::get();
    let site = speaker(&lab, "hoarder", "support: {logs: {size: 1MiB, keep: 1h}}\n");
    let folder = lab.home.join("agent/logs").join(site.slug());
    for _ in 0..6 {
        site.get("/?noise=2000").await;
    }
    site.get("/?name=end&count=1").await;
    let size = || -> u64 {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    until(Duration::from_secs(20), "the newest line is there", || {
        logs(&site, &["-n", "1", "--grep", "^end 0"]).len() == 1
    });
    until(Duration::from_secs(10), "it is within its bounds", || size() < 1_300_000);
    site.file("magrathea.yml", "app: hoarder\nsupport: {logs: {size: 1TiB}}\n");
    let refused = site.deploy();
    assert!(refused.stderr.contains("more than the cluster keeps"), "{}", refused.stderr);
    drop(site);
    assert!(!folder.exists(), "the log outlives its instance");
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn secrets_are_hidden() {
    let lab = Lab::get();
    let site = speaker(&lab, "sphinx", "");
    let mut set = lab.td_command(site.path(), &["config", "set", "RIDDLE=four-two-three-legs", "--app", "sphinx"]);
    magrathea_tests::run(&mut set).ok();
    site.get("/?name=four-two-three-legs&count=1").await;
    std::thread::sleep(Duration::from_millis(800));
    let shown = site.td(&["app", "logs", "--json"]).ok().stdout;
    assert!(shown.contains("[secret] 0") && shown.contains("/?name=[secret]"), "{shown}");
    assert!(!shown.contains("four-two-three-legs"), "{shown}");
    // The engine hands on 16 KiB at a time: twice with the secret in two of its pieces, within a line of 100 KiB.
    for lead in [(16 << 10) - 8, (64 << 10) - 8] {
        site.get(&format!("/?name=four-two-three-legs&count=1&lead={lead}&pad={}", (100 << 10) - lead)).await;
        let line = format!("{}[secret] 0 {}", "x".repeat(lead), "x".repeat((100 << 10) - lead));
        until(Duration::from_secs(5), "the long line is told as one", || {
            texts(&logs(&site, &["--layer", "app"])).contains(&line)
        });
    }
    assert!(!site.td(&["app", "logs", "--json"]).ok().stdout.contains("legs"));
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn requests_are_told_once_after_the_router_started_again() {
    let lab = Lab::get();
    let site = speaker(&lab, "mule", "");
    let told = |what: &str| requests(&site, what);
    for turn in 0..3 {
        site.get(&format!("/?name=turn{turn}")).await;
        until(Duration::from_secs(5), "a request is told", || told(&format!("name=turn{turn}")) == 1);
        let router = lab.docker(&["ps", "-q", "--filter", &format!("name={}-router", lab.prefix())]);
        lab.docker(&["kill", router.trim()]);
        let again = Instant::now();
        while lab.client().get(site.url("/")).send().await.is_err() {
            assert!(again.elapsed() < Duration::from_secs(60), "the router does not start again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        lab.kill("magrathea-agent");
        lab.local("up").ok();
    }
    for turn in 0..3 {
        assert_eq!(told(&format!("name=turn{turn}")), 1);
    }
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn requests_for_which_there_was_no_room_are_told_as_missing() {
    let lab = Lab::get();
    let site = speaker(&lab, "camel", "");
    site.get("/?name=before").await;
    until(Duration::from_secs(5), "the request before is told", || requests(&site, "name=before") == 1);
    lab.kill("magrathea-agent");
    let path = lab.home.join("agent/node/admin/access.log");
    let before = std::fs::metadata(&path).unwrap().len();
    for n in 0..20 {
        site.get(&format!("/?name=lost{n}&{}", "x".repeat(4000))).await;
    }
    // As `bound-log` does it; that it does is seen below, with a smaller file.
    let mut free = std::process::Command::new("fallocate");
    let length = (before + 40_000) / 4096 * 4096;
    free.args(["--punch-hole", "--offset", "4096", "--length", &length.to_string()]).arg(&path);
    magrathea_tests::run(&mut free).ok();
    site.get("/?name=after").await;
    lab.local("up").ok();
    until(Duration::from_secs(60), "the newest request is told", || requests(&site, "name=after") == 1);
    let mut gaps = logs(&site, &["--layer", "routing", "--since", "1h"]);
    gaps.retain(|record| record["stream"] == "notice");
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert!(gap["text"].as_str().unwrap().contains("may be missing here"), "{gap}");
    let left = requests(&site, "name=lost");
    assert!((1..19).contains(&left), "{left}");
}

/// A program that ends with its test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_routers_file_takes_no_more_than_its_room() {
    const ROOM: u64 = 2 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let line = format!("{}\n", "x".repeat(999));
    let mut file = std::fs::File::create(&path).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../layers/images/router/bound-log");
    let mut bound = std::process::Command::new(script);
    let null = Stdio::null;
    bound.arg(&path).arg("2").stdin(null()).stdout(null()).stderr(null());
    let _bound = Ending(bound.spawn().unwrap());
    let held = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512;
    for _ in 0..2 {
        file.write_all(line.repeat(4_000).as_bytes()).unwrap();
        until(Duration::from_secs(30), "the oldest lines go", || (ROOM / 2..=ROOM).contains(&held()));
    }
    let text = std::fs::read(&path).unwrap();
    assert!(text.len() == 8_000_000 && text.starts_with(line.as_bytes()) && text.ends_with(line.as_bytes()));
}

/// A sink over HTTP that keeps what it is sent, and does as it is told.
struct HttpSink {
    port: u16,
    lines: Arc<Mutex<Vec<Value>>>,
    pause: Arc<Mutex<Duration>>,
}

impl HttpSink {
    fn start(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let pause = Arc::new(Mutex::new(Duration::ZERO));
        let sink = HttpSink { port, lines: lines.clone(), pause: pause.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (lines, pause) = (lines.clone(), pause.clone());
                std::thread::spawn(move || serve(stream, &lines, &pause));
            }
        });
        sink
    }

    fn numbers(&self, name: &str) -> Vec<u64> {
        numbers(&texts(&self.lines.lock().unwrap()), name)
    }
}

fn serve(stream: TcpStream, lines: &Mutex<Vec<Value>>, pause: &Mutex<Duration>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let wait = *pause.lock().unwrap();
        std::thread::sleep(wait);
        let parsed = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.lock().unwrap().extend(parsed.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        if writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn a_drain_waits_for_a_dead_sink_and_a_slow_one() {
    let lab = Lab::get();
    let site = speaker(&lab, "danube", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/in?token=hidden");
    let made = site.td(&["drain", "add", &url, "--layer", "app", "--json"]).ok().json();
    assert_eq!(made["target"], format!("http://127.0.0.1:{port}/in?***"));
    assert_eq!(site.get("/?name=drop&count=500").await.0, 200);
    until(Duration::from_secs(20), "the dead sink is told of", || {
        let listed = site.td(&["drain", "list", "--json"]).ok().json();
        listed[0]["error"].as_str().is_some_and(|error| error.contains("refused"))
    });
    let sink = HttpSink::start(TcpListener::bind(("127.0.0.1", port)).unwrap());
    assert_eq!(sink.port, port);
    until(Duration::from_secs(60), "what waited has come", || sink.numbers("drop").len() >= 500);
    *sink.pause.lock().unwrap() = Duration::from_millis(400);
    let began = Instant::now();
    assert_eq!(site.get("/?name=slow&count=20000&pad=100").await.0, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "the app waits for the sink: {:?}", began.elapsed());
    until(Duration::from_secs(60), "the slow sink has it all", || sink.numbers("slow").len() >= 20_000);
    for (name, count) in [("drop", 500), ("slow", 20_000)] {
        assert_eq!(sink.numbers(name), (0..count).collect::<Vec<_>>());
    }
    let id = site.td(&["drain", "list", "--json"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
    site.td(&["drain", "remove", &id]).ok();
    assert_eq!(site.td(&["drain", "list", "--json"]).ok().json().as_array().map(Vec::len), Some(0));
    let refused = site.td(&["drain", "add", "http://169.254.169.254/"]);
    assert!(refused.stderr.contains("may not lead to"), "{}", refused.stderr);
}

#[tokio::test]
#[ignore = "needs the laboratory"]
async fn a_drain_speaks_syslog() {
    let lab = Lab::get();
    let site = speaker(&lab, "rhine", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    site.td(&["drain", "add", &format!("syslog://127.0.0.1:{port}"), "--layer", "app"]).ok();
    site.get("/?name=message&count=3").await;
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("message 2") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    let (length, rest) = text.split_once(' ').unwrap();
    let first: &str = &rest[..length.parse::<usize>().unwrap()];
    assert!(first.starts_with("<134>1 20") && first.contains(" rhine.default rhine web.1 app - "), "{first}");
}
