//! A program in a container at a stream's end. When the stream ends first, the program is ended with all that it
//! started; the engine by itself would leave it running.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use magrathea_core::wire::stream::{CHUNK, lost};
use magrathea_core::wire::{ExecSpec, Frame, Signal, Size};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::StreamIo;
use super::process::Process;
use crate::engine::{Attached, Engine, Kind, Output, Program, Standing};
use crate::fail::{Outcome, node, with_hint};
use crate::folders;
use crate::node::NodeAgent;

/// Once a program has ended, its output ends when nothing has come for so long: what it left behind may hold it open.
const LINGER: Duration = Duration::from_millis(500);
/// How long the engine may take to say how a program stands.
const SETTLE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const MOST_PAUSE: Duration = Duration::from_secs(1);

/// Runs a program in a replica that was chosen until it or the stream ends. Gives its status.
pub async fn run(agent: &NodeAgent, spec: &ExecSpec, io: StreamIo) -> Outcome<i32> {
    let container = spec.container.as_deref().unwrap_or_default();
    let program = Program { command: &spec.command, tty: spec.tty.as_ref(), env: &spec.env };
    run_in(agent, container, &program, io).await
}

/// The replica that is meant: it must be one of the service's, and running.
pub async fn choose(engine: &Engine, spec: &ExecSpec) -> Outcome<String> {
    let mut running = engine.running(&spec.service).await?.into_iter().map(|running| running.container);
    let chosen = match &spec.container {
        // An empty or a very short start would be anybody's.
        Some(wanted) => running.find(|container| wanted.len() >= 4 && container.starts_with(wanted)),
        None => running.next(),
    };
    chosen.ok_or_else(|| with_hint(node("no such replica runs"), "see td status; td app run needs no running replica"))
}

/// Runs a program in a container until it or the stream ends.
pub async fn run_in(agent: &NodeAgent, container: &str, program: &Program<'_>, io: StreamIo) -> Outcome<i32> {
    let engine = &agent.engine;
    let StreamIo { to, from, ended } = io;
    let Attached { id, output, input } = engine.attach(container, program).await?;
    let _note = Note::write(agent, &id, container)?;
    let process = started(engine, &id).await?.pid.and_then(|pid| Process::open(pid, container));
    if let Some(tty) = program.tty {
        resize(engine, &id, tty.size).await;
    }
    let feed = feed(engine, &id, process.as_ref(), from, input);
    let pass = pass(output, &to, process.as_ref());
    let passed = tokio::select! {
        () = ended.cancelled() => Err(lost("the gateway")),
        passed = pass => passed,
        never = feed => match never {},
    };
    let code = match passed {
        // A program that has closed its output may go on.
        Ok(()) => tokio::select! {
            () = ended.cancelled() => Err(lost("the gateway")),
            code = status(engine, &id) => code,
        },
        Err(error) => Err(error),
    };
    // Also after its own end: what it left behind has nobody any more.
    if let Some(process) = &process {
        process.end_all().await;
    }
    code
}

/// A program on disk, for as long as it runs: an agent that is killed leaves it running, and the next one ends it.
#[derive(Serialize, Deserialize)]
struct Noted {
    id: String,
    container: String,
}

/// Takes the note away when it is dropped.
struct Note(PathBuf);

impl Note {
    fn write(agent: &NodeAgent, id: &str, container: &str) -> Outcome<Self> {
        let path = agent.folders.state("programs").join(format!("{id}.json"));
        folders::store(&path, &Noted { id: id.to_owned(), container: container.to_owned() })?;
        Ok(Note(path))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = folders::remove_file(&self.0);
    }
}

/// Ends the programs that an agent before this one left running.
pub async fn end_abandoned(agent: &NodeAgent) -> Outcome<()> {
    let folder = agent.folders.state("programs");
    for noted in folders::load_all::<Noted>(&folder) {
        // An engine that was restarted knows nothing of it, and nothing of it runs.
        if let Ok(Standing { running: true, pid: Some(pid), .. }) = agent.engine.standing(&noted.id).await
            && let Some(process) = Process::open(pid, &noted.container)
        {
            process.end_all().await;
        }
        folders::remove_file(&folder.join(format!("{}.json", noted.id)))?;
    }
    Ok(())
}

/// Waits until a program has ended.
async fn status(engine: &Engine, id: &str) -> Outcome<i32> {
    let mut pause = POLL;
    loop {
        let standing = engine.standing(id).await?;
        if let (false, Some(code)) = (standing.running, standing.code) {
            return Ok(code);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MOST_PAUSE);
    }
}

/// The engine starts a program a moment after it has handed over the connection.
async fn started(engine: &Engine, id: &str) -> Outcome<Standing> {
    let settled = async {
        loop {
            let standing = engine.standing(id).await?;
            if standing.pid.is_some() || standing.code.is_some() {
                return Ok(standing);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(SETTLE, settled).await.map_err(|_| node("the engine did not start the program in time"))?
}

/// Hands output on until it ends.
async fn pass(mut output: Output, to: &mpsc::Sender<Frame>, process: Option<&Process>) -> Outcome<()> {
    let mut buffer = vec![0; CHUNK];
    let mut over = false;
    loop {
        let next = async {
            let mut next = std::pin::pin!(output.read(&mut buffer));
            loop {
                tokio::select! {
                    biased;
                    piece = &mut next => return piece.unwrap_or_default(),
                    () = exited(process), if !over => over = true,
                    () = tokio::time::sleep(LINGER), if over => return None,
                }
            }
        };
        let Some((kind, count)) = next.await else { return Ok(()) };
        let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        let frame = if kind == Kind::Error { Frame::Error(bytes) } else { Frame::Data(bytes) };
        to.send(frame).await.map_err(|_| lost("the gateway"))?;
    }
}

async fn exited(process: Option<&Process>) {
    if let Some(process) = process {
        process.exited().await;
    }
}

/// Hands on what comes from the gateway. Never ends: that the stream ends is seen elsewhere.
async fn feed(
    engine: &Engine,
    id: &str,
    process: Option<&Process>,
    mut from: mpsc::Receiver<Frame>,
    mut input: tokio::io::WriteHalf<impl tokio::io::AsyncWrite + Send>,
) -> std::convert::Infallible {
    let mut open = true;
    while let Some(frame) = from.recv().await {
        match frame {
            // A program that no longer reads loses what is sent to it.
            Frame::Data(bytes) if open => open = input.write_all(&bytes).await.is_ok() && input.flush().await.is_ok(),
            Frame::Eof => {
                open = false;
                let _ = input.shutdown().await;
            }
            Frame::Resize(size) => resize(engine, id, size).await,
            Frame::Signal(signal) => send_signal(process, signal),
            _ => {}
        }
    }
    std::future::pending().await
}

fn send_signal(process: Option<&Process>, signal: Signal) {
    if let Some(process) = process {
        process.signal(signal);
    }
}

async fn resize(engine: &Engine, id: &str, size: Size) {
    if let Err(error) = engine.resize(id, size).await {
        tracing::debug!(%error, "a terminal was not resized");
    }
}
