//! A constant, bounded load that remembers every answer: for the promise that no request is lost.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::run;

/// One request's outcome.
#[derive(Debug, Clone)]
pub struct Answer {
    pub started: Instant,
    pub ended: Instant,
    /// The body on 200, otherwise what went wrong.
    pub outcome: Result<String, String>,
}

/// A load under way, on a thread and a runtime of its own: tests block theirs while td runs.
pub struct Load {
    answers: Arc<Mutex<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts `rate` requests a second on keep-alive connections, for at most `limit`.
    pub fn start(client: reqwest::Client, url: String, rate: u32, limit: Duration) -> Load {
        Load::cycle(client, vec![url], rate, limit)
    }

    /// The same, asking for one after the other of these.
    pub fn cycle(client: reqwest::Client, urls: Vec<String>, rate: u32, limit: Duration) -> Load {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (answers.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(send(client, urls, rate, limit, seen, stopped));
        });
        Load { answers, stop, thread }
    }

    /// How many answers have come so far.
    pub fn count(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    /// Ends the load and gives all answers, by start.
    pub fn finish(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let mut answers = std::mem::take(&mut *self.answers.lock().unwrap());
        answers.sort_by_key(|answer| answer.started);
        answers
    }
}

async fn send(
    client: reqwest::Client,
    urls: Vec<String>,
    rate: u32,
    limit: Duration,
    seen: Arc<Mutex<Vec<Answer>>>,
    stopped: Arc<AtomicBool>,
) {
    let end = Instant::now() + limit;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut requests = tokio::task::JoinSet::new();
    let mut urls = urls.into_iter().cycle();
    while Instant::now() < end && !stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (client, url, seen) = (client.clone(), urls.next().unwrap(), seen.clone());
        requests.spawn(async move {
            let started = Instant::now();
            let outcome = fetch(&client, &url).await;
            seen.lock().unwrap().push(Answer { started, ended: Instant::now(), outcome });
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if status == 200 {
        Ok(body)
    } else {
        Err(format!("status {status}: {}", body.chars().take(200).collect::<String>()))
    }
}

/// The answers that were not a 200.
pub fn failures(answers: &[Answer]) -> Vec<String> {
    answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect()
}

/// One load of so many seconds; requests a second. Panics when a response was not a 2xx.
pub fn wrk(seconds: u32, url: &str, host: Option<&str>, script: Option<&Path>, header: Option<&str>) -> f64 {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c16", &format!("-d{seconds}s")]);
    if let Some(host) = host {
        command.arg("-H").arg(format!("Host: {host}"));
    }
    if let Some(header) = header {
        command.arg("-H").arg(header);
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let said = run(command.arg(url)).ok().stdout;
    assert!(!said.contains("Non-2xx"), "{url}: {said}");
    let line = said.lines().find(|line| line.starts_with("Requests/sec:")).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How much of a processor a process has taken since it began, in seconds.
pub fn processor_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // The kernel counts in hundredths.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
