//! Where hooks come to ask: a socket in a private folder. Each names its push by the one-time id that only this push's
//! processes know, and waits for the verdict.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::decide::decide;
use super::hook::{Answer, Hello};
use super::push::{Push, Stage};
use super::update::{Refusal, parse_updates};
use super::{Git, limits};
use crate::state::State;

/// The socket's name in git's folder.
pub const SOCKET: &str = "socket";

/// How long a hook may take to ask.
const ASK: Duration = Duration::from_secs(10);

/// The hook hears something at least this often.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Lines that may wait to be told.
const WAITING: usize = 64;

/// Tells the client something, a line at a time.
#[derive(Clone)]
pub struct Say(mpsc::Sender<String>);

impl Say {
    /// Sends text line by line, without what could play tricks on a terminal.
    pub async fn line(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            let clean = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            // Nobody listens any more when the client has left.
            let _ = self.0.send(clean).await;
        }
    }
}

/// Answers hooks until the gateway ends.
pub fn start(state: &Arc<State>) -> anyhow::Result<()> {
    let listener = bind(state.git.base()).context("cannot listen for git's hooks")?;
    let task = Arc::clone(state);
    state.tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = task.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let state = Arc::clone(&task);
                    task.tasks.spawn(async move {
                        if let Err(error) = answer(&state, stream).await {
                            tracing::warn!("a hook of git's was not answered: {error:#}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a hook of git's");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

/// Binds through the folder's descriptor: a socket's path may have 107 bytes only.
fn bind(folder: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(folder.join(SOCKET)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let open = std::fs::File::open(folder)?;
    Ok(UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))?)
}

async fn answer(state: &Arc<State>, stream: UnixStream) -> anyhow::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    let (hello, lines) = tokio::time::timeout(ASK, read(&mut input)).await.context("it does not ask")??;
    let Some(push) = state.git.push(&hello.push) else { bail!("it names no push that is under way") };
    push.enter(Stage::Deciding);
    let (sender, mut said) = mpsc::channel(WAITING);
    let deciding = judge(state, &push, hello.quarantine, lines, Say(sender));
    let mut deciding = std::pin::pin!(deciding);
    let mut rest = [0; 1];
    let accepted = loop {
        tokio::select! {
            biased;
            Some(line) = said.recv() => write(&mut output, &Answer::Say(line)).await,
            accepted = &mut deciding => break accepted,
            // The hook has nothing more to say: this is its end, and nobody is told anything any more.
            _ = input.read(&mut rest) => {
                push.gone.cancel();
                said.close();
                break deciding.await;
            }
            () = tokio::time::sleep(KEEPALIVE) => write(&mut output, &Answer::Say(String::new())).await,
        }
    };
    while let Ok(line) = said.try_recv() {
        write(&mut output, &Answer::Say(line)).await;
    }
    push.enter(Stage::Decided);
    write(&mut output, &Answer::Verdict(accepted)).await;
    Ok(())
}

async fn judge(state: &Arc<State>, push: &Arc<Push>, quarantine: Option<String>, lines: Vec<String>, say: Say) -> bool {
    let judged = async {
        if lines.len() > limits::UPDATES {
            let message = format!("{} branches and tags in one push; the limit is {}", lines.len(), limits::UPDATES);
            return Err(Refusal::new(message).hint("push fewer at once"));
        }
        let updates = parse_updates(lines.iter().map(String::as_str))?;
        let quarantine = quarantine.map(|path| Git::check_quarantine(&push.repository.path, &path)).transpose()?;
        decide(state, push, quarantine, updates, &say).await
    };
    let judged = tokio::select! {
        judged = judged => judged,
        () = push.stop.cancelled() => Err(push.why_stopped()),
    };
    let Err(refusal) = judged else { return true };
    push.note(format!("refused: {refusal}"));
    say.line(refusal.tell()).await;
    false
}

async fn read(input: &mut (impl AsyncBufReadExt + Unpin)) -> anyhow::Result<(Hello, Vec<String>)> {
    let mut input = input.take(limits::UPDATE_BYTES + 4096);
    let mut line = String::new();
    input.read_line(&mut line).await?;
    let hello = serde_json::from_str(&line)?;
    let mut lines = Vec::new();
    loop {
        line.clear();
        if input.read_line(&mut line).await? == 0 {
            bail!("its question is cut off or too long");
        }
        match line.trim_end_matches('\n') {
            "" => return Ok((hello, lines)),
            update => lines.push(update.to_owned()),
        }
    }
}

async fn write(output: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) {
    let Ok(mut line) = serde_json::to_string(answer) else { return };
    line.push('\n');
    // A hook that is gone is noticed by its end of input.
    let _ = output.write_all(line.as_bytes()).await;
}

impl Git {
    /// The quarantine that a hook names must be its repository's.
    fn check_quarantine(repository: &Path, named: &str) -> Result<PathBuf, Refusal> {
        let path = PathBuf::from(named);
        let is_ours = path.parent().is_some_and(|parent| parent == repository.join("objects"));
        let plain = path.file_name().is_some_and(|name| !name.is_empty());
        if is_ours && plain { Ok(path) } else { Err(Refusal::new("the new objects are not where git puts them")) }
    }
}
