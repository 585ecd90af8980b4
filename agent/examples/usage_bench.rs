//! How many lines of the router's log the ledger counts per second on one core; beside it, when it is installed, what
//! goaccess takes for the same file.
//!
//! `scripts/bench.sh usage` runs it, built for release.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use magrathea_agent::logs::Tail;
use magrathea_agent::usage::Ledger;

const LINES: u64 = 1_000_000;
const INSTANCES: u64 = 500;

/// What goaccess is told about the same lines; it knows no microseconds and no status before the date.
const FORMAT: &str = r#"{"at":"%x","status":"%s","sent":"%b","address":"%h","method":"%m","host":"%v","path":"%U","protocol":"%H","agent":"%u","referrer":"%R"}"#;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("access.log");
    let bytes = write(&log)?;
    let mut best = Duration::MAX;
    for round in 0..3 {
        let ledger = Ledger::open(folder.path().join(format!("usage-{round}.json")), Duration::from_secs(60));
        let (mut tail, began) = (Tail::new(&log, None), Instant::now());
        while let Some(lines) = tail.read()? {
            ledger.count(&lines);
        }
        best = best.min(began.elapsed());
        anyhow::ensure!(ledger.live().len() as u64 == INSTANCES, "not every instance was counted");
    }
    let rate = LINES as f64 / best.as_secs_f64() / 1e6;
    let mean = bytes / LINES;
    let (reference, ratio) = match goaccess(&log) {
        Some(time) => {
            let other = LINES as f64 / time.as_secs_f64() / 1e6;
            (format!("{other:.2} million/s (goaccess)"), format!("{:.2}", rate / other))
        }
        None => ("goaccess is not installed".to_owned(), String::new()),
    };
    #[expect(clippy::print_stdout, reason = "a figure")]
    {
        println!(
            "| lines of {mean} bytes counted per second and core | {rate:.2} million/s | {reference} | {ratio} | ≥ 1 million/s |"
        );
    }
    Ok(())
}

fn write(log: &Path) -> std::io::Result<u64> {
    let mut file = BufWriter::new(std::fs::File::create(log)?);
    for n in 0..LINES {
        let instance = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % INSTANCES;
        let at = 1_795_262_095_833_360 + n * 50;
        writeln!(
            file,
            r#"{{"layer": "routing", "slug": "i{instance:012x}", "worker": 1795262000000000, "at": {at}, "status": {}, "sent": {}, "received": {}, "ms": {}, "cache": "{}", "tls": {}, "release": "12", "address": "203.0.113.{}", "method": "GET", "host": "www{instance}.example.com", "path": "/products/{}?page={}", "protocol": "HTTP/2.0", "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "referrer": "https://www{instance}.example.com/products"}}"#,
            if n % 5 == 4 { 404 } else { 200 },
            500 + n % 60_000,
            90 + n % 400,
            n % 300,
            if n % 3 == 0 { "MISS" } else { "HIT" },
            n % 4 != 0,
            n % 250,
            n % 1000,
            n % 40,
        )?;
    }
    file.flush()?;
    Ok(std::fs::metadata(log)?.len())
}

fn goaccess(log: &Path) -> Option<Duration> {
    let began = Instant::now();
    let mut command = Command::new("goaccess");
    command.arg(log).args(["--log-format", FORMAT, "--date-format", "%f", "--time-format", "%f", "--no-global-config"]);
    command.args(["-o", "json", "--no-progress"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok().filter(|status| status.success()).map(|_| began.elapsed())
}
