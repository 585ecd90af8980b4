//! One conversation with each of the router's processes, for as long as it lives. A process that a reload has replaced ends when
//! the last of its connections does, and this is one: so none ends before it has told what it counted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::control::{USAGE_QUESTIONS, parse_usage};
use crate::usage::Told;

/// A process answers at once, or something is wrong with it.
const LIMIT: Duration = Duration::from_secs(2);
/// What an interactive conversation shows when the answer is whole.
const PROMPT: &[u8] = b"\n> ";
/// No answer is longer: 100,000 instances, and some.
const MOST: usize = 64 << 20;

/// The conversations that are open.
#[derive(Debug)]
pub struct Holds {
    socket: PathBuf,
    held: Vec<Hold>,
}

#[derive(Debug)]
struct Hold {
    pid: u32,
    /// It has told everything, and may go.
    is_done: bool,
    stream: UnixStream,
}

/// What a process says of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    pid: u32,
    is_ending: bool,
    connections: u64,
}

impl Holds {
    /// With the sockets in a folder.
    pub(super) fn new(admin: &Path) -> Self {
        Holds { socket: admin.join("stats.sock"), held: Vec::new() }
    }

    /// Takes hold of a process that has come, and gives what those have counted that have answered their last request. They
    /// stay until they are let go.
    pub async fn look(&mut self) -> Vec<Told> {
        let mut last = Vec::new();
        let mut is_current_held = false;
        for mut hold in std::mem::take(&mut self.held) {
            // One that does not answer has ended, or is let go: it is not to stay for our sake.
            let Ok(condition) = hold.condition().await else { continue };
            is_current_held |= !condition.is_ending;
            if condition.is_ending && condition.connections == 0 {
                let Ok(told) = hold.usage().await else { continue };
                last.extend(told);
                hold.is_done = true;
            }
            self.held.push(hold);
        }
        if !is_current_held && let Ok(hold) = Hold::take(&self.socket).await {
            // In the moment of a reload the one that answers may be the one that is replaced.
            if self.held.iter().all(|held| held.pid != hold.pid) {
                self.held.push(hold);
            }
        }
        last
    }

    /// What they told is kept: they may end.
    pub fn let_go(&mut self) {
        self.held.retain(|hold| !hold.is_done);
    }
}

impl Hold {
    async fn take(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let mut hold = Hold { pid: 0, is_done: false, stream };
        hold.ask("prompt").await?;
        hold.pid = hold.condition().await?.pid;
        Ok(hold)
    }

    async fn condition(&mut self) -> io::Result<Condition> {
        parse_condition(&self.ask("show info").await?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn usage(&mut self) -> io::Result<Option<Told>> {
        let asked = jiff::Timestamp::now().as_microsecond();
        let mut answers = String::new();
        // Each answer has a prompt of its own.
        for question in USAGE_QUESTIONS.split(';') {
            answers += &self.ask(question).await?;
        }
        Ok(parse_usage(&answers, asked))
    }

    async fn ask(&mut self, command: &str) -> io::Result<String> {
        let work = async {
            self.stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(PROMPT) {
                if self.stream.read_buf(&mut answer).await? == 0 || answer.len() > MOST {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            answer.truncate(answer.len() - PROMPT.len());
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        tokio::time::timeout(LIMIT, work).await.map_err(io::Error::from)?
    }
}

/// Lines of `NAME: VALUE`.
fn parse_condition(info: &str) -> Option<Condition> {
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Condition {
        pid: value("Pid")?.parse().ok()?,
        is_ending: value("Stopping")? != "0",
        connections: value("CurrConns")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;
    use tokio::net::UnixListener;

    use super::*;

    fn info(pid: u32, stopping: u8, connections: u64) -> String {
        format!("Name: HAProxy\nPid: {pid}\nCurrConns: {connections}\nCumConns: 9\nStopping: {stopping}\nJobs: 2\n")
    }

    /// Answers like a process, and tells when the conversation is over.
    async fn speak(stream: UnixStream, answers: &[(&str, String)]) -> usize {
        let (read, mut write) = stream.into_split();
        let mut lines = tokio::io::BufReader::new(read).lines();
        for (n, (question, answer)) in answers.iter().enumerate() {
            let Some(line) = lines.next_line().await.unwrap() else { return n };
            assert_eq!(line, *question);
            // In two pieces: an answer has no length.
            let (one, two) = answer.split_at(answer.len() / 2);
            write.write_all(one.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            write.write_all(format!("{two}\n> ").as_bytes()).await.unwrap();
        }
        assert_eq!(lines.next_line().await.unwrap(), None);
        answers.len()
    }

    #[test]
    fn a_process_says_whether_it_ends() {
        let condition = Condition { pid: 7, is_ending: true, connections: 3 };
        assert_eq!(parse_condition(&info(7, 1, 3)), Some(condition));
        assert_eq!(parse_condition("Pid: 7\n"), None);
    }

    #[tokio::test]
    async fn a_process_that_ends_is_asked_when_its_last_request_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut holds = Holds::new(folder.path());
        let listener = UnixListener::bind(&holds.socket).unwrap();
        let table = "# table: usage, type: string\n\
                     0x1: key=i0123456789ab use=0 exp=0 shard=0 http_req_cnt=3 bytes_in_cnt=4 bytes_out_cnt=5\n";
        let process = async {
            let old = [
                ("prompt", String::new()),
                ("show info", info(7, 0, 2)),
                ("show info", info(7, 0, 2)),
                ("show info", info(7, 1, 2)),
                ("show info", info(7, 1, 0)),
                ("get var proc.began", "proc.began: type=sint value=<5>\n".into()),
                ("show info", "DroppedLogs: 1\n".into()),
                ("show table usage", table.into()),
            ];
            let new = [("prompt", String::new()), ("show info", info(8, 0, 0)), ("show info", info(8, 0, 0))];
            let first = listener.accept().await.unwrap().0;
            let next = async { speak(listener.accept().await.unwrap().0, &new).await };
            tokio::join!(speak(first, &old), next)
        };
        let keeper = async move {
            // It is taken hold of, is busy, is replaced while it still has a request.
            for held in [vec![7], vec![7], vec![7, 8]] {
                assert!(holds.look().await.is_empty());
                assert_eq!(holds.held.iter().map(|hold| hold.pid).collect::<Vec<_>>(), held);
            }
            let last = holds.look().await;
            assert_eq!(
                last.iter().map(|told| (told.began, told.dropped, told.sums.len())).collect::<Vec<_>>(),
                [(5, 1, 1)]
            );
            holds.let_go();
            assert_eq!(holds.held.iter().map(|hold| hold.pid).collect::<Vec<_>>(), [8]);
        };
        assert_eq!(tokio::join!(process, keeper).0, (8, 3));
    }
}
