//! The measured promises: `scripts/bench.sh` brings up a release-built laboratory and runs this.
//!
//! Every figure stands beside a reference taken in the same run, and is printed with its target; nothing here fails for
//! being slow.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use magrathea_tests::load::{Answer, Load, failures, processor_seconds, wrk};
use magrathea_tests::readers::Readers;
use magrathea_tests::ssh::Ssh;
use magrathea_tests::typing::type_into;
use magrathea_tests::{Lab, billing, cutover, disk, push, run, site::Site, usage};

#[tokio::main]
async fn main() {
    let lab = Lab::get();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = wanted.is_empty();
    println!("| what | measured | reference | ratio | target |\n|---|---|---|---|---|");
    if all || wanted.iter().any(|w| w == "deploy") {
        deploys(&lab).await;
    }
    if all || wanted.iter().any(|w| w == "request") {
        requests(&lab);
    }
    let measures: [(&str, Measure); 6] = [
        ("billing", billing::measure),
        ("push", push::measure),
        ("changes", cutover::measure_changes),
        ("all", cutover::measure_all),
        ("disk", disk::measure_disk),
        ("counting", usage::measure_counting),
    ];
    for (name, measure) in measures {
        if all || wanted.iter().any(|w| w == name) {
            for (what, measured, reference, ratio, target) in measure(&lab) {
                row(&what, measured, reference, ratio, target);
            }
        }
    }
    if all || wanted.iter().any(|w| w == "idle") {
        idle(&lab);
    }
    if all || wanted.iter().any(|w| w == "shell") {
        shells(&lab);
    }
    if all || wanted.iter().any(|w| w == "logs") {
        logs(&lab).await;
    }
}

type Measure = fn(&Lab) -> Vec<push::Figure>;

fn row(what: &str, measured: String, reference: String, ratio: String, target: &str) {
    println!("| {what} | {measured} | {reference} | {ratio} | {target} |");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One change of what serves, from one version to another.
struct Turn {
    from: usize,
    to: usize,
    started: Instant,
}

/// Redeploys of a one-line change, then rollbacks, under a steady load.
async fn deploys(lab: &Lab) {
    let site = Site::new(lab, "bench-deploy");
    let page = |n: usize| format!("<?php header('Cache-Control: no-store'); echo 'version {n}';");
    site.file("index.php", page(0));
    site.deploy().ok();
    let image = lab.docker(&["images", "magrathea/php", "--format", "{{.Repository}}:{{.Tag}}"]);
    let image = image.lines().next().unwrap().to_owned();
    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(300));
    let (mut turns, mut references) = (Vec::new(), Vec::new());
    for n in 1..=10 {
        site.file("index.php", page(n));
        turns.push(Turn { from: n - 1, to: n, started: Instant::now() });
        site.deploy().ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
        references.push(bare_service(lab, &image, n));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let reference = median(&mut references);
    report("redeploy", &turns, &load.finish(), reference);

    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(300));
    let mut turns = Vec::new();
    for n in 0..10 {
        // Version n is release n + 1: between the last two, there and back.
        let (from, to) = if n % 2 == 0 { (10, 9) } else { (9, 10) };
        turns.push(Turn { from, to, started: Instant::now() });
        site.td(&["release", "rollback", &format!("v{}", to + 1)]).ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    report("rollback", &turns, &load.finish(), reference);
}

fn report(what: &str, turns: &[Turn], answers: &[Answer], reference: f64) {
    let version = |answer: &Answer| {
        answer.outcome.as_ref().ok().and_then(|body| body.strip_prefix("version ")?.parse::<usize>().ok())
    };
    let (mut first, mut gaps) = (Vec::new(), Vec::new());
    for (n, Turn { from, to, started }) in turns.iter().enumerate() {
        let until = turns.get(n + 1).map(|next| next.started);
        let mine = || answers.iter().filter(|a| a.ended > *started && until.is_none_or(|until| a.started < until));
        let seconds = |at: Instant| at.duration_since(*started).as_secs_f64();
        let new = mine().filter(|a| version(a) == Some(*to)).map(|a| seconds(a.ended)).fold(f64::INFINITY, f64::min);
        let old = mine().filter(|a| version(a) == Some(*from)).map(|a| seconds(a.ended)).fold(0.0, f64::max);
        first.push(new);
        gaps.push((old - new).max(0.0));
    }
    let (typical, worst) = (median(&mut first), first.iter().copied().fold(0.0, f64::max));
    row(
        &format!("{what}: td to first new response, median of 10"),
        format!("{typical:.2} s"),
        format!("{reference:.2} s (bare Swarm service to HTTP-ready)"),
        format!("{:.2}", typical / reference),
        "≤ 1.5 s",
    );
    row(&format!("{what}: worst of 10"), format!("{worst:.2} s"), String::new(), String::new(), "≤ 2.5 s");
    row(
        &format!("{what}: first new to last old response, worst of 10"),
        format!("{:.0} ms", gaps.iter().copied().fold(0.0, f64::max) * 1000.0),
        String::new(),
        String::new(),
        "≤ 100 ms",
    );
    let failed = failures(answers);
    row(
        &format!("{what}: failed requests"),
        failed.len().to_string(),
        format!("{} requests", answers.len()),
        String::new(),
        "0",
    );
    for failure in failed.iter().take(5) {
        println!("    {failure}");
    }
}

/// Seconds from `docker service create` until its page answers.
fn bare_service(lab: &Lab, image: &str, n: usize) -> f64 {
    // A name of its own: the one before is still ending.
    let name = format!("{}-bench-bare-{n}", lab.prefix());
    let started = Instant::now();
    lab.docker(&[
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        &name,
        "--endpoint-mode",
        "dnsrr",
        "--entrypoint",
        "sh",
        image,
        "-c",
        "cd /tmp && echo '<?php echo 1;' > index.php && exec php8.4 -S 0.0.0.0:8080",
    ]);
    let filter = format!("label=com.docker.swarm.service.name={name}");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "the reference does not answer");
        let id = run(Command::new("docker").args(["ps", "-q", "--filter", &filter])).stdout;
        if !id.trim().is_empty() {
            let address =
                run(Command::new("docker").args(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", id.trim()])).stdout;
            let address = address.trim();
            if !address.is_empty() && std::net::TcpStream::connect(format!("{address}:8080")).is_ok() {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let spent = started.elapsed().as_secs_f64();
    lab.docker(&["service", "rm", &name]);
    spent
}

/// Requests a second through all layers, beside the same programs configured by hand, interleaved.
fn requests(lab: &Lab) {
    let bench = lab.repository.join("tests/bench");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("reference");
    let reference = |verb: &str| run(Command::new(bench.join("reference.sh")).arg(verb).arg(&folder));
    reference("start").ok();
    let site = Site::new(lab, "bench-way");
    site.file("page.php", std::fs::read(bench.join("site/page.php")).unwrap())
        .file("magrathea.yml", "app_layer: {memory: 512MiB, health: {path: /page.php, expect: 200}}\n");
    site.deploy().ok();
    let host = site.host();
    let unique = bench.join("unique.lua");
    let ours = format!("http://127.0.0.1:{}/page.php", lab.http);
    struct Case<'a> {
        what: &'a str,
        by_hand: &'a str,
        script: Option<&'a Path>,
        header: Option<&'a str>,
        target: &'a str,
    }
    let (cached, direct) = ("http://127.0.0.1:18180/page.php", "http://127.0.0.1:18183/page.php");
    let cases = [
        Case { what: "Varnish hit", by_hand: cached, script: None, header: None, target: "≥ 0.9" },
        Case { what: "cacheable miss", by_hand: cached, script: Some(&unique), header: None, target: "≥ 0.85" },
        Case {
            what: "uncacheable",
            by_hand: direct,
            script: None,
            header: Some("Cookie: session=1"),
            target: "≥ 0.85",
        },
    ];
    for Case { what, by_hand, script, header, target } in cases {
        let (mut measured, mut compared) = (Vec::new(), Vec::new());
        // Many short rounds: what else the machine does comes and goes within seconds.
        for _ in 0..12 {
            compared.push(wrk(2, by_hand, None, script, header));
            measured.push(wrk(2, &ours, Some(&host), script, header));
        }
        let (measured, compared) = (median(&mut measured), median(&mut compared));
        row(
            what,
            format!("{measured:.0}/s"),
            format!("{compared:.0}/s by hand"),
            format!("{:.2}", measured / compared),
            target,
        );
    }
    reference("stop").ok();
}

/// Milliseconds from a key to its echo with 200 shells open over SSH, each typed into once a second; beside it, a plain
/// `docker exec` of the same shell in the same replica with nothing else open.
fn shells(lab: &Lab) {
    const SHELLS: usize = 200;
    let site = Site::new(lab, "bench-shell");
    site.file("index.php", "<?php echo 'hello';").file("magrathea.yml", "app_layer: {memory: 4GiB}\n");
    site.deploy().ok();
    let replica = lab.docker(&["ps", "-q", "--filter", &format!("name={}-web", site.slug())]);
    let exec = format!("docker exec -it {} bash --norc", replica.trim());
    // docker wants a terminal of its own.
    let plain = || {
        let mut command = Command::new("script");
        command.args(["-qfec", &exec, "/dev/null"]).env("PS1", "$ ");
        command
    };
    let mut reference = type_into(vec![plain()], 100, Duration::from_millis(100));
    let ssh = Ssh::new(lab);
    let before = rss(lab);
    let opened = (0..SHELLS).map(|_| ssh.ssh("bench-shell", &["-tt", "--"])).collect();
    let mut measured = type_into(opened, 20, Duration::from_secs(1));
    let after = rss(lab);
    reference.extend(type_into(vec![plain()], 100, Duration::from_millis(100)));
    let (typical, plain) = (median(&mut measured), median(&mut reference));
    row(
        "200 shells over SSH: key press to echo, median",
        format!("{typical:.1} ms"),
        format!("{plain:.1} ms (plain docker exec, alone)"),
        format!("+{:.1} ms", typical - plain),
        "≤ +20 ms",
    );
    let worst = measured.get(measured.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    row(
        "200 shells over SSH: key press to echo, 99th percentile",
        format!("{worst:.1} ms"),
        String::new(),
        String::new(),
        "",
    );
    row(
        "memory of gateway + agent after 200 shells",
        format!("{after:.1} MiB"),
        format!("{before:.1} MiB before"),
        String::new(),
        "",
    );
}

/// Resident memory of gateway and agent together, in MiB.
fn rss(lab: &Lab) -> f64 {
    mib(lab, "magrathea-gateway") + mib(lab, "magrathea-agent")
}

fn mib(lab: &Lab, process: &str) -> f64 {
    status(lab, process, "VmRSS:")
}

/// Resident memory of gateway and agent after a quiet while.
fn idle(lab: &Lab) {
    std::thread::sleep(Duration::from_secs(20));
    let (gateway, agent) = (mib(lab, "magrathea-gateway"), mib(lab, "magrathea-agent"));
    row(
        "idle memory, gateway + agent",
        format!("{:.1} MiB", gateway + agent),
        format!("{gateway:.1} + {agent:.1}"),
        String::new(),
        "≤ 60 MB",
    );
}

/// Says `rate` lines a second for so many seconds, in steps of 20 ms.
const TALKER: &str = "<?php $out = popen('cat > /proc/1/fd/1', 'w'); $rate = (int) $_GET['rate']; $n = 0;
$end = (int) $_GET['seconds'] * 50; $began = hrtime(true); $pad = str_repeat('x', 80);
for ($step = 1; $step <= $end; $step++) {
    for ($text = ''; $n < intdiv($rate * $step, 50); $n++) { $text .= \"talk $n $pad\\n\"; }
    fwrite($out, $text);
    $left = $step * 20000 - intdiv(hrtime(true) - $began, 1000);
    if ($left > 0) { usleep($left); }
}
fwrite($out, \"done $rate\\n\"); pclose($out); echo $n;";

/// What following costs, and whether all of it comes: one reader of much, and many readers of little.
async fn logs(lab: &Lab) {
    let site = Site::new(lab, "bench-logs");
    site.file("magrathea.yml", "proxy: {kind: none}\n").file("index.php", TALKER);
    site.deploy().ok();
    for (readers, rate, seconds) in [(1, 20_000, 15), (200, 50, 10)] {
        let done = format!("done {rate}");
        let following = Readers::start(lab, &site.name, readers, &done, Duration::from_secs(100)).await;
        let before = processor(lab);
        let began = Instant::now();
        let said =
            lab.client().get(site.url(&format!("/?rate={rate}&seconds={seconds}"))).timeout(Duration::from_secs(90));
        let said: u64 = said.send().await.unwrap().text().await.unwrap().trim().parse().unwrap();
        let heard = following.finish().await;
        let took = began.elapsed().as_secs_f64();
        let cores: Vec<f64> =
            processor(lab).iter().zip(&before).map(|(after, before)| (after - before) / took).collect();
        let lost = heard.iter().map(|heard| said.saturating_sub(heard.lines)).sum::<u64>();
        let worst = heard.iter().map(|heard| heard.worst).max().unwrap_or_default();
        for heard in heard.iter().filter(|heard| heard.cut.is_some()) {
            eprintln!("a reader was cut: {heard:?}");
        }
        row(
            &format!("log, {rate} lines/s, {readers} readers: cores of gateway + agent"),
            format!("{:.2}", cores.iter().sum::<f64>()),
            format!("{:.2} + {:.2} over {took:.1} s", cores[0], cores[1]),
            String::new(),
            if readers == 1 { "< 1" } else { "" },
        );
        row(
            &format!("log, {rate} lines/s, {readers} readers: lines lost, latest line"),
            format!("{lost} of {}, {:.2} s", said * readers as u64, worst.as_secs_f64()),
            String::new(),
            String::new(),
            "0, ≤ 1 s",
        );
    }
    let peak: Vec<f64> = ["magrathea-gateway", "magrathea-agent"].map(|process| status(lab, process, "VmHWM:")).into();
    row(
        "log: most memory, gateway + agent",
        format!("{:.0} MiB", peak.iter().sum::<f64>()),
        format!("{:.0} + {:.0}", peak[0], peak[1]),
        String::new(),
        "bounded",
    );
}

/// Seconds of processor time of gateway and agent.
fn processor(lab: &Lab) -> Vec<f64> {
    ["magrathea-gateway", "magrathea-agent"].map(|process| processor_seconds(&lab.pid(process))).into()
}

/// A line of a process's status, in MiB.
fn status(lab: &Lab, process: &str, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid(process))).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
