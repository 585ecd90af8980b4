//! `td app logs`: what an instance says, once or as it comes, over lost connections.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use magrathea_core::api::AppInfo;
use magrathea_core::logs::{LogLayer, LogRecord, LogStream, shown};
use tokio::time::{Instant, sleep, timeout};

use super::Named;
use crate::client::{Client, Query};
use crate::command::instances;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::{Look, Printer};

/// The gateway breaks its silence well within this.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a lost gateway is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Longer than any line.
const MAX_LINE: usize = 16 << 20;
/// Lines after the last mark that are remembered, so that they are not shown again after a lost connection.
const REMEMBERED: usize = 100_000;
/// Lines that are shown when nothing says which.
const LAST: u32 = 100;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Not before this: 15m, 2h, 3d ago, or a time as in 2026-11-21T10:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Before this: a span ago, or a time
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// So many of the newest lines; 100 without --since
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<u32>,
    /// Only these layers: app, proxy, routing, db, cron, build
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    layer: Vec<LogLayer>,
    /// Only this replica, as in web.1, or of this process type, as in queue
    #[arg(long, visible_alias = "process", value_name = "REPLICA")]
    replica: Option<String>,
    /// Only this release
    #[arg(long, value_name = "NUMBER", value_parser = release)]
    release: Option<u32>,
    /// Only lines in which this regular expression is found; (?i) first ignores case
    #[arg(short, long, value_name = "PATTERN")]
    grep: Option<String>,
}

fn release(text: &str) -> Result<u32, String> {
    text.trim_start_matches('v').parse().map_err(|_| format!("{text:?} is not a release, as in v12"))
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(arguments.named.name.as_deref())?;
    let client = context.client()?;
    let label = match &context.globals.label {
        Some(label) => label.clone(),
        None => {
            let info: AppInfo = client.get(&["apps", app.as_str()], &Query::new()).await?;
            instances::choose(&info.instances, app.as_str(), context.wanted())?.label.clone()
        }
    };
    let mut reading = Reading {
        client: &client,
        path: ["apps", app.as_str(), "instances", &label, "logs"],
        cluster: context.on_cluster(),
        arguments,
        view: View::new(context.printer, context.globals.json),
        cursor: None,
        recent: Recent::default(),
    };
    tokio::select! {
        read = reading.read() => read,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    }
}

struct Reading<'a> {
    client: &'a Client,
    path: [&'a str; 5],
    cluster: Query,
    arguments: &'a Arguments,
    view: View<'a>,
    cursor: Option<String>,
    recent: Recent,
}

/// How one connection ended.
enum Ended {
    /// There is no more.
    Done,
    /// Nobody reads any more, as after `| head`.
    Unread,
    Lost,
}

impl Reading<'_> {
    async fn read(&mut self) -> Result<Exit, Failure> {
        let (mut heard, mut wait) = (Instant::now(), BACKOFF.0);
        loop {
            let error = match self.client.stream(&self.path, &self.query()).await {
                Ok(response) => {
                    let before = Instant::now();
                    match self.read_lines(response?).await? {
                        Ended::Done if !self.arguments.follow => {
                            if !self.view.shown {
                                self.view.printer.note("no lines: nothing was said, or nothing that is asked for");
                            }
                            return Ok(Exit::Done);
                        }
                        Ended::Unread => return Ok(Exit::Done),
                        Ended::Done | Ended::Lost => {}
                    }
                    if before.elapsed() > BACKOFF.1 {
                        (heard, wait) = (Instant::now(), BACKOFF.0);
                    }
                    None
                }
                Err(error) => Some(error),
            };
            if !self.arguments.follow || heard.elapsed() > PATIENCE {
                return Err(match error {
                    Some(error) => self.client.unreachable(&error),
                    None => Failure::say(Exit::Unreachable, "the gateway broke the log off"),
                });
            }
            self.recent.replay();
            sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    fn query(&self) -> Query {
        let Arguments { follow, since, until, lines, layer, replica, release, grep, .. } = self.arguments;
        let mut query = self.cluster.clone();
        let mut add = |name: &str, value: Option<String>| query.extend(value.map(|value| (name.to_owned(), value)));
        add("follow", follow.then(|| "true".to_owned()));
        let layers = layer.iter().map(|layer| layer.as_str()).collect::<Vec<_>>().join(",");
        add("layer", Some(layers).filter(|layers| !layers.is_empty()));
        add("until", until.clone());
        add("replica", replica.clone());
        add("release", release.map(|number| number.to_string()));
        add("grep", grep.clone());
        match &self.cursor {
            Some(cursor) => add("after", Some(cursor.clone())),
            None => {
                let last = lines.or_else(|| since.is_none().then_some(LAST));
                add("last", last.map(|lines| lines.to_string()));
                add("since", since.clone());
            }
        }
        query
    }

    async fn read_lines(&mut self, mut response: reqwest::Response) -> Result<Ended, Failure> {
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let chunk = match timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) if buffer.is_empty() => return Ok(Ended::Done),
                _ => return Ok(Ended::Lost),
            };
            buffer.extend_from_slice(&chunk);
            if let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') {
                let rest = buffer.split_off(end + 1);
                let lines = std::mem::replace(&mut buffer, rest);
                let mut out = String::with_capacity(lines.len());
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    self.take(line, &mut out)?;
                }
                if !self.view.print(&out) {
                    return Ok(Ended::Unread);
                }
            }
            if buffer.len() > MAX_LINE {
                return Err(Failure::say(Exit::Failed, "the gateway sends a line without an end"));
            }
        }
    }

    fn take(&mut self, line: &[u8], out: &mut String) -> Result<(), Failure> {
        if line.starts_with(b"{\"time\"") {
            if self.recent.is_new(line) {
                self.view.show(line, out)?;
            }
            return Ok(());
        }
        let value: serde_json::Value = serde_json::from_slice(line).map_err(Failure::not_understood)?;
        if let Some(cursor) = value.pointer("/mark/cursor").and_then(serde_json::Value::as_str) {
            self.cursor = Some(cursor.to_owned());
            self.recent = Recent::default();
        }
        match value.get("end").and_then(serde_json::Value::as_str) {
            Some("access was taken away") => Err(Failure::say(Exit::NotAllowed, "access to this log was taken away")),
            _ => Ok(()),
        }
    }
}

/// The lines since the last mark: after a lost connection they come again.
#[derive(Default)]
struct Recent {
    shown: VecDeque<Box<[u8]>>,
    /// Those that have not come again yet.
    awaited: HashMap<Box<[u8]>, usize>,
}

impl Recent {
    fn is_new(&mut self, line: &[u8]) -> bool {
        if let Some(count) = self.awaited.get_mut(line).filter(|count| **count > 0) {
            *count -= 1;
            return false;
        }
        if self.shown.len() == REMEMBERED {
            self.shown.pop_front();
        }
        self.shown.push_back(line.into());
        true
    }

    fn replay(&mut self) {
        self.awaited.clear();
        for line in &self.shown {
            *self.awaited.entry(line.clone()).or_default() += 1;
        }
    }
}

/// How lines look.
struct View<'a> {
    printer: &'a Printer,
    json: bool,
    /// Each replica's colour, in the order in which they first spoke.
    looks: Vec<String>,
    /// Whether there was a line.
    shown: bool,
}

const LOOKS: [Look; 6] = [Look::Cyan, Look::Magenta, Look::Blue, Look::Yellow, Look::Green, Look::Bold];

impl<'a> View<'a> {
    fn new(printer: &'a Printer, json: bool) -> Self {
        View { printer, json, looks: Vec::new(), shown: false }
    }

    /// Says whether anybody still reads.
    fn print(&self, lines: &str) -> bool {
        lines.is_empty() || self.printer.raw(lines)
    }

    fn show(&mut self, line: &[u8], out: &mut String) -> Result<(), Failure> {
        self.shown = true;
        if self.json {
            json_line(line, out);
            return Ok(());
        }
        let record: LogRecord = serde_json::from_slice(line).map_err(Failure::not_understood)?;
        let source = match (&record.replica, record.layer) {
            (Some(replica), LogLayer::App | LogLayer::Db) => replica.clone(),
            (Some(replica), layer) => format!("{layer}.{replica}"),
            (None, layer) => layer.to_string(),
        };
        let source = shown(&source).into_owned();
        let time = record.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let look = self.look(&source);
        let text = record.line();
        let text = shown(&text);
        let text = match record.stream {
            Some(LogStream::Notice) => self.printer.on_stdout(Look::Dim, &text),
            Some(LogStream::Stderr) => self.printer.on_stdout(Look::Red, &text),
            _ => text.clone(),
        };
        out.push_str(&self.printer.on_stdout(Look::Dim, &time));
        out.push(' ');
        out.push_str(&self.printer.on_stdout(look, &format!("{source:<8}")));
        out.push(' ');
        out.push_str(&text);
        if record.more {
            out.push_str(&self.printer.on_stdout(Look::Dim, " …"));
        }
        out.push('\n');
        Ok(())
    }

    fn look(&mut self, source: &str) -> Look {
        let known = self.looks.iter().position(|known| known == source);
        let n = known.unwrap_or_else(|| {
            self.looks.push(source.to_owned());
            self.looks.len() - 1
        });
        LOOKS.get(n % LOOKS.len()).copied().unwrap_or(Look::Bold)
    }
}

/// The record as it came, but for characters that JSON may leave as they are and a terminal acts on.
fn json_line(line: &[u8], out: &mut String) {
    for c in String::from_utf8_lossy(line).chars() {
        if magrathea_core::logs::is_harmless(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Terminal;

    fn record(text: &str) -> LogRecord {
        LogRecord {
            replica: Some("web.1".into()),
            stream: Some(LogStream::Stdout),
            ..LogRecord::notice(jiff::Timestamp::UNIX_EPOCH, LogLayer::App, text)
        }
    }

    #[test]
    fn nothing_hostile_reaches_a_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}31m\r\u{202e}b\u{7}";
        for colour in [true, false] {
            let terminal = Terminal { stdout_colour: colour, stderr_colour: false, stderr_live: false };
            let printer = Printer::new(&terminal, false);
            for json in [true, false] {
                let mut out = String::new();
                let line = serde_json::to_vec(&record(hostile)).unwrap();
                View::new(&printer, json).show(&line, &mut out).unwrap();
                let ours = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"];
                let rest = ours.iter().fold(out.trim_end().to_owned(), |rest, code| rest.replace(code, ""));
                assert!(rest.chars().all(magrathea_core::logs::is_harmless), "{rest:?}");
                if json {
                    assert_eq!(serde_json::from_str::<LogRecord>(&out).unwrap(), record(hostile));
                }
            }
        }
    }

    #[test]
    fn lines_come_once_over_a_lost_connection() {
        let mut recent = Recent::default();
        assert!([b"a", b"b", b"a"].iter().all(|line| recent.is_new(*line)));
        recent.replay();
        let again: Vec<bool> = [b"a", b"b", b"a", b"a", b"c"].iter().map(|line| recent.is_new(*line)).collect();
        assert_eq!(again, [false, false, false, true, true]);
    }
}
