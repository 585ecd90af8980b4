//! One service for one client: may they, on which repository, and the process that does it, from its start to the end of
//! its whole group. What bytes travel is git's matter.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use magrathea_core::names::AppName;
use magrathea_core::people::Verb;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::bounds::{Bounds, Meter, Room, find_room};
use super::command::git;
use super::push::{Push, Stage};
use super::repository::Repository;
use super::request::{GitRequest, Service};
use super::update::Refusal;
use super::{desk, limits};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::App;
use crate::doors::{Door, DoorKind, NewDoor};
use crate::lock::locked;
use crate::services::access::{Reach, find_app};
use crate::state::State;

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;

/// How long a process may take to end by itself, before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// The exit status of what was stopped; git's own for what it cannot do.
const STOPPED: i32 = 128;

/// How long a refused push may take to tell its client why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The client's ends.
pub struct GitIo {
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Cancelled by the transport when the client is gone. A failed write to it counts as well.
    pub gone: CancellationToken,
}

/// How git is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Both ways on one connection, as over SSH.
    Connected,
    /// What there is, for a client that then asks in requests of their own.
    Advertise,
    /// One such request.
    Request,
}

/// Serves a client to its end, and tells git's exit status. What goes wrong before git starts is told on `stderr`.
pub async fn serve(state: &Arc<State>, actor: &Actor, request: GitRequest, mut io: GitIo) -> anyhow::Result<i32> {
    match open(state, actor, request.service, &request.app, request.protocol).await {
        Ok(session) => session.run(Mode::Connected, io).await,
        Err(error) => {
            if error.status().is_server_error() {
                let cause = error.cause.as_ref().map(|cause| format!("{cause:#}")).unwrap_or_default();
                tracing::error!(code = error.code.as_str(), cause, "git is not served: {error}");
            }
            let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            let _ = io.stderr.write_all(format!("error: {error}\n{hint}").as_bytes()).await;
            let _ = io.stderr.shutdown().await;
            Ok(1)
        }
    }
}

/// What somebody may do with a repository that is ready for it.
pub struct Session {
    state: Arc<State>,
    actor: Actor,
    app: App,
    service: Service,
    protocol: Option<String>,
    repository: Arc<Repository>,
    slot: OwnedSemaphorePermit,
    /// For a push.
    room: Option<Room>,
}

/// Opens an app's repository for somebody who may; makes it when it is the first time.
pub async fn open(
    state: &Arc<State>,
    actor: &Actor,
    service: Service,
    app: &AppName,
    protocol: Option<String>,
) -> Result<Session, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "the gateway is about to end; try again soon"));
    }
    let verb = match service {
        Service::ReceivePack => Verb::Deploy,
        Service::UploadPack => Verb::Look,
    };
    let app = find_app(&state.db.conn().await?, actor, app, verb, Reach::Some).await?;
    let slots = Arc::clone(&state.git.slots);
    let slot = match tokio::time::timeout(limits::TURN, slots.acquire_owned()).await {
        Ok(Ok(slot)) => slot,
        _ => {
            return Err(ApiError::new(Code::StoreUnavailable, "too much is pushed and cloned at once; try again soon"));
        }
    };
    let repository = state.git.repository(app.id).await?;
    let room = match service {
        Service::ReceivePack => Some(find_room(state, &repository).await?),
        Service::UploadPack => None,
    };
    let (state, actor) = (Arc::clone(state), actor.clone());
    Ok(Session { state, actor, app, service, protocol, repository, slot, room })
}

impl Session {
    /// Runs git for the client; its exit status. The work ends, one way or another, also when nobody awaits it any more.
    pub async fn run(self, mode: Mode, io: GitIo) -> anyhow::Result<i32> {
        let _left = io.gone.clone().drop_guard();
        let tasks = self.state.tasks.clone();
        tasks.spawn(self.work(mode, io)).await.context("serving git")?
    }

    async fn work(self, mode: Mode, io: GitIo) -> anyhow::Result<i32> {
        let door = match mode {
            Mode::Advertise => None,
            Mode::Connected | Mode::Request => Some(self.open_door().await?),
        };
        let push = (self.service == Service::ReceivePack && mode != Mode::Advertise)
            .then(|| Registered::new(&self, io.gone.clone()))
            .transpose()?;
        let ended = self.attend(mode, io, door.as_ref(), push.as_ref()).await;
        let outcome = match (&ended, &push) {
            (Ok(0), Some(push)) => push.push.told(),
            (Ok(status), Some(push)) => format!("git ended with {status}: {}", push.push.told()),
            (Ok(status), None) => format!("git ended with {status}"),
            (Err(error), _) => format!("{error:#}"),
        };
        let pushed = push.as_ref().is_some_and(|push| push.push.stage() == Stage::Decided);
        // The turn is over: references have moved.
        drop(push);
        if let Some(door) = door {
            door.close(&outcome).await;
        }
        if pushed && !self.state.shutdown.is_cancelled() {
            let tidy = Arc::clone(&self.repository).tidy(self.state.git.base().to_owned());
            let shutdown = self.state.shutdown.clone();
            self.state.tasks.spawn(async move {
                if let Some(Err(error)) = shutdown.run_until_cancelled(tidy).await {
                    tracing::warn!("{error:#}");
                }
            });
        }
        drop(self.slot);
        ended
    }

    async fn open_door(&self) -> Result<Door, ApiError> {
        let (kind, verb) = match self.service {
            Service::ReceivePack => (DoorKind::Push, Verb::Deploy),
            Service::UploadPack => (DoorKind::Fetch, Verb::Look),
        };
        let new = NewDoor { actor: &self.actor, kind, app: Some(&self.app), label: None, verb, detail: "" };
        self.state.doors.open(&self.state, new).await
    }

    /// Starts git and stays with it until all of it has ended.
    async fn attend(
        &self,
        mode: Mode,
        io: GitIo,
        door: Option<&Door>,
        push: Option<&Registered<'_>>,
    ) -> anyhow::Result<i32> {
        let GitIo { stdin: from_client, stdout: mut to_client, stderr: mut words_to_client, gone } = io;
        let inside = self.repository.enter();
        let mut child = self.spawn(mode, push)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (received, sent) = (Meter::new(self.room), Meter::new(None));
        let input = async {
            if let Some(to) = stdin {
                forward(from_client, to, &received, None).await;
            }
            std::future::pending::<()>().await
        };
        let output = async {
            if let Some(from) = stdout {
                forward(from, &mut to_client, &sent, Some(&gone)).await;
            }
        };
        let words = async {
            if let Some(from) = stderr {
                forward(from, &mut words_to_client, &sent, Some(&gone)).await;
            }
        };
        let work = async {
            tokio::select! {
                ((), ()) = async { tokio::join!(output, words) } => {}
                () = input => {}
            }
            child.wait().await
        };
        let mut work = Box::pin(work);
        let (state, push) = (&*self.state, push.map(|push| &*push.push));
        let bounds = Bounds { state, door, push, room: self.room, gone: &gone, received: &received, sent: &sent };
        let why = tokio::select! {
            status = &mut work => return Ok(status.context("waiting for git")?.code().unwrap_or(128)),
            why = bounds.reached() => why,
        };
        tracing::info!(app = %self.app.name, person = self.actor.name, %why, "ending git");
        if let Some(push) = push {
            push.stop(why.clone());
            push.note(why.message.clone());
            // A push that is being decided is refused now, and git passes the reason on.
            if push.stage() != Stage::Receiving && tokio::time::timeout(LAST_WORDS, &mut work).await.is_ok() {
                return Ok(STOPPED);
            }
        }
        drop(work);
        let words = why.tell();
        let told = async {
            words_to_client.write_all(words.as_bytes()).await?;
            // Over HTTPS there is only the answer. Git said nothing in it yet.
            match (mode, push.map(Push::stage)) {
                (Mode::Request, Some(Stage::Receiving)) => to_client.write_all(&fatal(&words)).await,
                _ => Ok(()),
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
        end(&mut child).await;
        // Git takes its quarantine away when it is told to end, unless one of its processes still writes there.
        inside.spoil();
        Ok(STOPPED)
    }

    fn spawn(&self, mode: Mode, push: Option<&Registered<'_>>) -> anyhow::Result<Child> {
        let name = self.service.as_str().trim_start_matches("git-");
        let most = format!("receive.maxInputSize={}", self.room.map_or(0, |room| room.bytes));
        let mut command = git(self.state.git.base(), &["-c", &most, name]);
        command.args(match mode {
            Mode::Connected => &[][..],
            Mode::Advertise => &["--stateless-rpc", "--advertise-refs"],
            Mode::Request => &["--stateless-rpc"],
        });
        if self.service == Service::UploadPack {
            command.args(["--strict", "--timeout=600"]);
        }
        command.arg(&self.repository.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(protocol) = &self.protocol {
            command.env("GIT_PROTOCOL", protocol);
        }
        // Written to reflogs.
        command
            .env("GIT_COMMITTER_NAME", &self.actor.name)
            .env("GIT_COMMITTER_EMAIL", format!("{}@magrathea.invalid", self.actor.person));
        if let Some(push) = push {
            command.env("MAGRATHEA_PUSH", &push.id);
            command.env("MAGRATHEA_PUSH_SOCKET", self.state.git.base().join(desk::SOCKET));
        }
        command.spawn().context("cannot run git")
    }
}

/// A push that hooks can ask about, until it is dropped.
struct Registered<'a> {
    id: String,
    push: Arc<Push>,
    session: &'a Session,
}

impl<'a> Registered<'a> {
    fn new(session: &'a Session, gone: CancellationToken) -> anyhow::Result<Self> {
        let mut bits = [0; 16];
        aws_lc_rs::rand::fill(&mut bits).map_err(|_| anyhow::anyhow!("no randomness"))?;
        let id = hex::encode(bits);
        let push = Push::new(session.actor.clone(), session.app.clone(), Arc::clone(&session.repository), gone);
        let push = Arc::new(push);
        locked(&session.state.git.pushes).insert(id.clone(), Arc::clone(&push));
        Ok(Registered { id, push, session })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        locked(&self.session.state.git.pushes).remove(&self.id);
        self.push.stop(Refusal::new("the push is over"));
        self.push.release();
    }
}

/// A packet that ends the client's command with these words: band 3 of the sideband that every client has agreed to since
/// git 1.7 (gitprotocol-pack).
fn fatal(words: &str) -> Vec<u8> {
    format!("{:04x}\x03{words}", words.len() + 5).into_bytes()
}

/// Moves bytes until either side ends. A writer that fails is noted in `gone` and the rest thrown away, so that git comes to
/// its own end.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Meter,
    gone: Option<&CancellationToken>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut open = true;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        moved.add(count);
        let piece = buffer.get(..count).unwrap_or_default();
        if !open {
            continue;
        }
        let written = async {
            to.write_all(piece).await?;
            to.flush().await
        };
        if written.await.is_ok() {
            moved.beat();
            continue;
        }
        match gone {
            Some(gone) => gone.cancel(),
            None => return,
        }
        open = false;
    }
    let _ = to.shutdown().await;
}

/// Ends a process and all that it started.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    for signal in [Signal::TERM, Signal::KILL] {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_ok() {
            break;
        }
    }
    // Those who ignored the first signal.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}
