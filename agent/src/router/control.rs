//! HAProxy's sockets: the worker's runtime API and the master's command line, with the parts of their answers that are
//! read here (HAProxy 3.0, management.txt section 9).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use magrathea_core::plan::NodeFolder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::hold::Holds;
use super::render::{ACTIVE, map_path};
use crate::engine::is_slug;
use crate::fail::{Doing, Outcome, node};
use crate::folders::Folders;
use crate::usage::{Sums, Told};

/// A reload waits for the new worker to be ready.
const LIMIT: Duration = Duration::from_secs(20);
/// The same for a worker that is ending.
const ENDING_LIMIT: Duration = Duration::from_secs(2);
/// What a process counted: the variable that tells when it began, how it stands, and the table in which it counts. The
/// configuration names them.
pub(super) const USAGE_QUESTIONS: &str = "get var proc.began;show info;show table usage";
const BEGAN: &str = "proc.began";

/// The router's sockets.
#[derive(Debug, Clone)]
pub struct Control {
    admin: PathBuf,
}

/// One of the router's processes that answer visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    Current,
    /// It runs what a reload has replaced, until its last connection ends.
    Ending(u32),
}

impl std::fmt::Display for Worker {
    /// The master's own way of addressing it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Worker::Current => f.write_str("@1"),
            Worker::Ending(pid) => write!(f, "@!{pid}"),
        }
    }
}

/// A server as the router has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    pub backend: String,
    pub name: String,
    pub address: Option<SocketAddr>,
    /// Taken out by hand.
    pub out: bool,
    /// 0 stopped, 1 starting, 2 running, 3 stopping.
    pub operation: u8,
}

/// How many requests a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLoad {
    pub backend: String,
    pub name: String,
    pub requests: u32,
}

impl Control {
    pub fn new(folders: &Folders) -> Self {
        Control { admin: folders.node(NodeFolder::RouterAdmin) }
    }

    /// Conversations with the workers.
    pub fn holds(&self) -> Holds {
        Holds::new(&self.admin)
    }

    /// Whether a worker answers.
    pub async fn answers(&self) -> bool {
        self.worker(Worker::Current, "show info").await.is_ok_and(|info| info.contains("Pid:"))
    }

    /// Gives commands, separated by semicolons, to a worker. They go through the master: on the workers' own socket an
    /// ending one may still be the one that answers.
    pub async fn worker(&self, worker: Worker, commands: &str) -> Outcome<String> {
        let addressed: Vec<_> = commands.split(';').map(|command| format!("{worker} {command}")).collect();
        self.master(&addressed.join(";")).await
    }

    /// The workers that still answer visitors on connections from before a reload.
    pub async fn ending_workers(&self) -> Outcome<Vec<Worker>> {
        let (_, old) = parse_workers(&self.master("show proc").await?);
        Ok(old.into_iter().map(Worker::Ending).collect())
    }

    /// Gives a command to the master.
    pub async fn master(&self, command: &str) -> Outcome<String> {
        let doing =
            || format!("asking the router ({})", command.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        let work = async {
            let mut stream = UnixStream::connect(self.admin.join("master.sock")).await?;
            stream.write_all(command.as_bytes()).await?;
            stream.write_all(b"\n").await?;
            // The master answers one command and then waits for the next, unless there can be none.
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        // A worker that ends in this moment may leave the question lying; nobody is to wait long for it.
        let limit = if command.starts_with("@!") { ENDING_LIMIT } else { LIMIT };
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer.doing(doing),
            Err(_) => Err(node(format!("{}: no answer after {} s", doing(), limit.as_secs()))),
        }
    }

    /// Loads the configuration on disk into a new worker; the old one ends when its requests have. The error is what
    /// HAProxy says.
    pub async fn reload(&self) -> Outcome<Result<(), String>> {
        let answer = self.master("reload").await?;
        if !answer.starts_with("Success=1") {
            return Ok(Err(answer
                .lines()
                .skip(1)
                .filter(|line| *line != "--" && !line.starts_with("[NOTICE]"))
                .collect::<Vec<_>>()
                .join("\n")));
        }
        // For a moment both workers accept. A visitor who comes to the old one still meets what is being replaced, so go
        // on only when the new one has the doors for itself.
        let give_up = tokio::time::Instant::now() + LIMIT;
        loop {
            let (_, old) = parse_workers(&self.master("show proc").await?);
            if self.answers().await && !self.any_accepts(&old).await {
                return Ok(Ok(()));
            }
            if tokio::time::Instant::now() > give_up {
                return Err(node("the router's old worker does not let go"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether one of the ending workers still takes new connections of visitors.
    async fn any_accepts(&self, workers: &[u32]) -> bool {
        for pid in workers {
            // A worker that does not answer has ended.
            let frontend = self.master(&format!("@!{pid} show stat public 1 -1")).await.unwrap_or_default();
            if frontend.lines().any(|line| line.starts_with("public,") && line.contains(",OPEN,")) {
                return true;
            }
        }
        false
    }

    /// A map as the worker has it.
    pub async fn read_map(&self, worker: Worker, path: &str) -> Outcome<BTreeMap<String, String>> {
        Ok(parse_map(&self.worker(worker, &format!("show map {path}")).await?))
    }

    /// The servers of a backend, or of all.
    pub async fn read_servers(&self, worker: Worker, backend: &str) -> Outcome<Vec<ServerState>> {
        Ok(parse_servers(&self.worker(worker, format!("show servers state {backend}").trim()).await?))
    }

    /// Ends what a backend has in flight, on the current worker and those that are ending.
    pub async fn cut(&self, backend: &str) -> Outcome<()> {
        let ending = self.ending_workers().await?;
        for worker in std::iter::once(Worker::Current).chain(ending) {
            let servers = self.read_servers(worker, backend).await.unwrap_or_default();
            let cuts = servers.iter().map(|server| format!("shutdown sessions server {backend}/{}", server.name));
            let cuts: Vec<_> = cuts.collect();
            // A worker may have ended, and its requests with it.
            if let Err(error) = self.worker(worker, &cuts.join(";")).await {
                tracing::debug!(%error, %worker, backend, "requests were not cut");
            }
        }
        Ok(())
    }

    /// What decides, and each server's requests, in flight and queued, over the current worker and those that are ending.
    pub async fn read_load(&self) -> Outcome<(BTreeMap<String, String>, Vec<ServerLoad>)> {
        const SERVERS: &str = "show stat -1 4 -1 no-maint";
        let active = map_path(ACTIVE);
        // One connection for all three: it is asked every second.
        let text = self.master(&format!("show proc;@1 show map {active};@1 {SERVERS}")).await?;
        let mut servers = parse_server_loads(&text);
        for pid in parse_workers(&text).1 {
            // It may have ended meanwhile; then nothing of it is in flight.
            let ending = self.master(&format!("@!{pid} {SERVERS}")).await.unwrap_or_default();
            servers.extend(parse_server_loads(&ending));
        }
        Ok((parse_map(&text), servers))
    }

    /// What each of the processes counted since it began, by instance.
    pub async fn read_usage(&self) -> Outcome<Vec<Told>> {
        let mut workers = self.ending_workers().await?;
        workers.push(Worker::Current);
        let mut all = Vec::with_capacity(workers.len());
        for worker in workers {
            let asked = jiff::Timestamp::now().as_microsecond();
            // One that has ended meanwhile has told before.
            let text = self.worker(worker, USAGE_QUESTIONS).await.unwrap_or_default();
            all.extend(parse_usage(&text, asked));
        }
        Ok(all)
    }

    /// Requests that a backend has in flight or queued, over the current worker and those that are ending.
    pub async fn requests_in_flight(&self, backend: &str) -> Outcome<u32> {
        let (current, old) = parse_workers(&self.master("show proc").await?);
        let mut count = 0;
        for pid in current.into_iter().chain(old) {
            // A worker may end between the two questions; then nothing of it is in flight.
            let answer = self.master(&format!("@!{pid} show stat {backend} 2 -1")).await.unwrap_or_default();
            count += parse_in_flight(&answer, backend);
        }
        Ok(count)
    }
}

/// The current worker, and those that are ending.
fn parse_workers(text: &str) -> (Option<u32>, Vec<u32>) {
    let mut ending = false;
    let (mut current, mut old) = (None, Vec::new());
    for line in text.lines() {
        ending |= line.starts_with("# old workers");
        if line.starts_with("# programs") {
            break;
        }
        let mut fields = line.split_whitespace();
        let (Some(pid), Some("worker")) = (fields.next(), fields.next()) else { continue };
        match pid.parse() {
            Ok(pid) if ending => old.push(pid),
            Ok(pid) => current = Some(pid),
            Err(_) => {}
        }
    }
    (current, old)
}

/// Lines of `ADDRESS KEY VALUE`.
fn parse_map(text: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    text.lines().filter(|line| line.starts_with("0x")).filter_map(entry).collect()
}

/// The server state file format, version 1.
fn parse_servers(text: &str) -> Vec<ServerState> {
    let server = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let field = |n: usize| fields.get(n).copied();
        let admin: u8 = field(6)?.parse().ok()?;
        let address = field(4)?.parse().ok().zip(field(18)?.parse().ok()).map(|(ip, port)| SocketAddr::new(ip, port));
        Some(ServerState {
            backend: field(1)?.to_owned(),
            name: field(3)?.to_owned(),
            address,
            out: admin & 0x01 != 0,
            operation: field(5)?.parse().ok()?,
        })
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(server).collect()
}

/// `NAME: type=sint value=<NUMBER>`, `DroppedLogs: NUMBER`, and lines of `ADDRESS: key=SLUG … COUNTER=NUMBER …`.
pub(super) fn parse_usage(text: &str, asked: i64) -> Option<Told> {
    let value = |line: &str| line.strip_prefix(BEGAN)?.split_once("value=<")?.1.strip_suffix('>')?.parse().ok();
    let mut told = Told { began: text.lines().find_map(value)?, asked, ..Told::default() };
    for line in text.lines() {
        if let Some(dropped) = line.strip_prefix("DroppedLogs: ") {
            told.dropped = dropped.trim().parse().unwrap_or_default();
        }
        let mut fields = line.split_whitespace().skip(1);
        let Some(slug) = fields.next().and_then(|key| key.strip_prefix("key=")).filter(|slug| is_slug(slug)) else {
            continue;
        };
        let mut sums = Sums::default();
        for (name, number) in fields.filter_map(|field| field.split_once('=')) {
            let number = number.parse().unwrap_or_default();
            match name {
                "http_req_cnt" => sums.requests = number,
                "bytes_in_cnt" => sums.received = number,
                "bytes_out_cnt" => sums.sent = number,
                _ => {}
            }
        }
        told.sums.insert(slug.to_owned(), sums);
    }
    Some(told)
}

/// `qcur` and `scur` of each server's line; other lines are passed over.
fn parse_server_loads(csv: &str) -> Vec<ServerLoad> {
    let load = |line: &str| {
        let mut fields = line.split(',');
        let (backend, name) = (fields.next()?, fields.next()?);
        let queued: u32 = fields.next()?.parse().ok()?;
        let current: u32 = fields.nth(1)?.parse().ok()?;
        let is_server = !matches!(name, "BACKEND" | "FRONTEND");
        is_server.then(|| ServerLoad { backend: backend.into(), name: name.into(), requests: queued + current })
    };
    csv.lines().filter(|line| !line.starts_with('#')).filter_map(load).collect()
}

/// `qcur` and `scur` of a backend's line (CSV, fields 2 and 4 after the names).
fn parse_in_flight(csv: &str, backend: &str) -> u32 {
    let count = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        if fields.first() != Some(&backend) || fields.get(1) != Some(&"BACKEND") {
            return None;
        }
        let number = |n: usize| fields.get(n).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
        Some(number(2) + number(4))
    };
    csv.lines().find_map(count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let proc = "#<PID>          <type>          <reloads>       <uptime>        <version>\n\
                    1               master          1               0d00h00m10s     3.0.11\n\
                    # workers\n\
                    31              worker          0               0d00h00m02s     3.0.11\n\
                    # old workers\n\
                    20              worker          1               0d00h00m10s     3.0.11\n# programs\n";
        assert_eq!(parse_workers(proc), (Some(31), vec![20]));
        let servers = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n\
                       4 i0_a 1 r1 172.18.0.3 2 0 1 1 5 6 3 4 6 0 0 0 - 8080 - 0 0 - - 0\n\
                       4 i0_a 2 r2 127.0.0.1 0 5 1 1 5 1 0 0 14 0 0 0 - 1 - 0 0 - - 0\n";
        let servers = parse_servers(servers);
        assert_eq!(
            servers.iter().map(|s| (s.name.as_str(), s.out, s.operation)).collect::<Vec<_>>(),
            [("r1", false, 2), ("r2", true, 0)]
        );
        assert_eq!(servers[0].address, Some(([172, 18, 0, 3], 8080).into()));
        assert_eq!(parse_map("0x55d i0 i0_a,1\n0x56 i1 i1_b,22\n\n")["i1"], "i1_b,22");
        let csv = "# pxname,svname,qcur,qmax,scur,smax\ni0_a,r1,1,0,3,9\ni0_a,BACKEND,0,0,3,9\n0x55d i0 i0_a,1\n";
        let load = ServerLoad { backend: "i0_a".into(), name: "r1".into(), requests: 4 };
        assert_eq!(parse_server_loads(&format!("{proc}{csv}")), [load]);
        let usage = "proc.began: type=sint value=<1795262095833360>\n\nName: HAProxy\nDroppedLogs: 3\n\n\
                     # table: usage, type: string, size:102400, used:1\n\
                     0x7f0c: key=i0123456789ab use=1 exp=0 shard=0 http_req_cnt=7 bytes_in_cnt=900 bytes_out_cnt=12345\n\
                     0x7f0d: key=other use=1 exp=0 shard=0 http_req_cnt=7 bytes_in_cnt=1 bytes_out_cnt=1\n";
        let told = parse_usage(usage, 5).unwrap();
        assert_eq!((told.began, told.asked, told.dropped), (1_795_262_095_833_360, 5, 3));
        let sums = Sums { requests: 7, received: 900, sent: 12345 };
        assert_eq!(told.sums, [("i0123456789ab".to_owned(), sums)].into());
        assert_eq!(parse_usage("Unknown command\n", 5), None);
        assert_eq!(parse_in_flight("# pxname,svname,qcur,qmax,scur,smax\ni0_a,BACKEND,1,0,3,9\n", "i0_a"), 4);
    }
}
