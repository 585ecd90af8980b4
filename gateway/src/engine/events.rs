//! A deploy's events: numbered by one recorder, written in batches off the deploy's own way, and followed by any
//! number of readers, who read the store and are only woken from memory. So a reader sees no gap, also when the
//! gateway restarts in between.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{Stream, stream};
use magrathea_core::api::{DeployEvent, DeployEventKind, Phase};
use magrathea_core::names::DeployId;
use magrathea_core::wire::Progress;
use tokio::sync::{Notify, watch};

use crate::db::{DbError, deploys};
use crate::lock::locked;
use crate::state::State;

/// Log lines of one deploy that are kept; beyond it they are dropped, with a warning.
const MAX_LINES: u64 = 20_000;
/// Bytes of one log line that are kept.
const MAX_LINE: usize = 4096;
/// Log lines that a failure shows.
const TAIL: usize = 40;
/// Events read at once.
const PAGE: i64 = 500;
/// How often a reader looks without being woken: another gateway may run the deploy.
const LOOK: Duration = Duration::from_secs(1);
/// How often a writer looks whether it is the last to know its deploy, once the gateway is to end.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Numbers and writes the events of a deploy that this process runs.
pub struct Recorder {
    state: Arc<State>,
    id: DeployId,
    inner: Mutex<Inner>,
    wake: Notify,
    written: watch::Sender<u64>,
}

struct Inner {
    last: u64,
    pending: Vec<DeployEvent>,
    phase: Phase,
    since: Instant,
    lines: u64,
    tail: VecDeque<String>,
}

impl Recorder {
    /// Goes on after the deploy's last event. Its writer ends when the recorder is dropped and all is written.
    pub async fn open(state: &Arc<State>, id: DeployId, phase: Phase) -> Result<Arc<Self>, DbError> {
        let last = deploys::last_event(&state.db.conn().await?, id).await?;
        let inner = Inner { last, pending: Vec::new(), phase, since: Instant::now(), lines: 0, tail: VecDeque::new() };
        let recorder = Arc::new(Recorder {
            state: Arc::clone(state),
            id,
            inner: Mutex::new(inner),
            wake: Notify::new(),
            written: watch::channel(last).0,
        });
        state.tasks.spawn(write_events(Arc::clone(&recorder)));
        Ok(recorder)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    pub fn emit(&self, event: DeployEventKind) {
        let mut inner = self.inner();
        inner.last += 1;
        let event = DeployEvent { sequence: inner.last, at: jiff::Timestamp::now(), event };
        inner.pending.push(event);
        drop(inner);
        self.wake.notify_one();
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.emit(DeployEventKind::Warning { message: message.into() });
    }

    /// Takes in what an action tells while it runs.
    pub fn progress(&self, progress: Progress) {
        match progress {
            Progress::Log { line, .. } => self.log(line),
            Progress::Warning { message } => self.warn(message),
        }
    }

    fn log(&self, line: String) {
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').take(MAX_LINE).collect();
        let mut inner = self.inner();
        inner.lines += 1;
        if inner.tail.len() == TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line.clone());
        let (lines, phase) = (inner.lines, inner.phase);
        drop(inner);
        if lines <= MAX_LINES {
            self.emit(DeployEventKind::Log { phase, line });
        } else if lines == MAX_LINES + 1 {
            self.warn(format!("the log is longer than {MAX_LINES} lines; the rest is left out"));
        }
    }

    /// The phase that is under way.
    pub fn phase(&self) -> Phase {
        self.inner().phase
    }

    /// The last lines of the log.
    pub fn tail(&self) -> Vec<String> {
        self.inner().tail.iter().cloned().collect()
    }

    /// Begins the first phase that this recorder sees.
    pub async fn begin(&self, phase: Phase) -> Result<(), DbError> {
        self.inner().since = Instant::now();
        deploys::enter_phase(&self.state.db.conn().await?, self.id, None, Some(phase)).await?;
        self.inner().phase = phase;
        self.emit(DeployEventKind::PhaseStarted { phase });
        Ok(())
    }

    /// Ends the current phase, telling what it came to, and begins the next.
    pub async fn enter(&self, next: Phase, detail: &str) -> Result<(), DbError> {
        let ended = self.end(detail);
        deploys::enter_phase(&self.state.db.conn().await?, self.id, Some((ended, detail)), Some(next)).await?;
        let mut inner = self.inner();
        (inner.phase, inner.since) = (next, Instant::now());
        drop(inner);
        self.emit(DeployEventKind::PhaseStarted { phase: next });
        Ok(())
    }

    /// Ends the last phase.
    pub async fn leave(&self, detail: &str) -> Result<(), DbError> {
        let ended = self.end(detail);
        deploys::enter_phase(&self.state.db.conn().await?, self.id, Some((ended, detail)), None).await
    }

    fn end(&self, detail: &str) -> Phase {
        let inner = self.inner();
        let (phase, milliseconds) = (inner.phase, inner.since.elapsed().as_millis());
        drop(inner);
        let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        self.emit(DeployEventKind::PhaseFinished { phase, milliseconds, detail: detail.to_owned() });
        phase
    }

    fn put_back(&self, pending: Vec<DeployEvent>) {
        let mut inner = self.inner();
        let newer = std::mem::replace(&mut inner.pending, pending);
        inner.pending.extend(newer);
    }

    /// Waits until all that was emitted can be read.
    pub async fn flush(&self) {
        let last = self.inner().last;
        // Fails only when the sender is gone, which `self` holds.
        let _ = self.written.subscribe().wait_for(|written| *written >= last).await;
    }
}

/// Writes what is pending until nobody else holds the recorder. A store that is away is tried again.
async fn write_events(recorder: Arc<Recorder>) {
    let mut retry = false;
    loop {
        let pending = std::mem::take(&mut recorder.inner().pending);
        if pending.is_empty() {
            // Whoever still holds it may yet say something, and wait until that is written; also while the gateway ends.
            if Arc::strong_count(&recorder) == 1 {
                return;
            }
            let look = if recorder.state.shutdown.is_cancelled() { LAST_LOOK } else { LOOK };
            let _ = tokio::time::timeout(look, recorder.wake.notified()).await;
            continue;
        }
        let written = async { deploys::insert_events(&recorder.state.db.conn().await?, recorder.id, &pending).await };
        match written.await {
            Ok(()) => {
                retry = false;
                if let Some(last) = pending.last() {
                    recorder.written.send_replace(last.sequence);
                }
                recorder.state.engine.announce(recorder.id);
            }
            Err(error) => {
                if !retry {
                    tracing::warn!(deploy = %recorder.id, %error, "cannot write events; trying again");
                }
                retry = true;
                recorder.put_back(pending);
                if recorder.state.shutdown.is_cancelled() {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// The events of a deploy after the given number, until it is over or the gateway ends. The last is always
/// [`DeployEventKind::Finished`], also when the gateway that ran the deploy was killed before it wrote one.
pub fn follow(state: Arc<State>, id: DeployId, after: u64) -> impl Stream<Item = DeployEvent> + Send + 'static {
    let topic = state.engine.topic(id);
    let reader = Reader { state, id, after, topic, page: VecDeque::new(), done: false };
    stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((event, reader))
    })
}

struct Reader {
    state: Arc<State>,
    id: DeployId,
    after: u64,
    topic: watch::Receiver<()>,
    page: VecDeque<DeployEvent>,
    done: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<DeployEvent> {
        while !self.done {
            if let Some(event) = self.page.pop_front() {
                self.after = event.sequence;
                self.done = matches!(event.event, DeployEventKind::Finished { .. });
                return Some(event);
            }
            self.topic.borrow_and_update();
            match self.read().await {
                Ok(true) => {}
                Ok(false) => tokio::select! {
                    () = self.state.shutdown.cancelled() => return None,
                    // The topic goes when a later reader of the same deploy is the last; looking goes on.
                    _ = tokio::time::timeout(LOOK, self.topic.changed()) => {}
                },
                Err(error) => {
                    tracing::warn!(deploy = %self.id, %error, "cannot read events; trying again");
                    tokio::select! {
                        () = self.state.shutdown.cancelled() => return None,
                        () = tokio::time::sleep(LOOK) => {}
                    }
                }
            }
        }
        None
    }

    /// Reads the next page; false when there is nothing new yet.
    async fn read(&mut self) -> Result<bool, DbError> {
        let conn = self.state.db.conn().await?;
        // Asked before the events, so that a final state means that they are all there.
        let deploy = deploys::load_deploy(&conn, self.id).await?;
        self.page = deploys::load_events(&conn, self.id, self.after, PAGE).await?.into();
        if !self.page.is_empty() {
            return Ok(true);
        }
        let Some(deploy) = deploy else {
            self.done = true;
            return Ok(true);
        };
        if deploy.info.status.is_final() && self.is_abandoned(&deploy.info) {
            let event = DeployEventKind::Finished { deploy: Box::new(deploy.info) };
            self.page.push_back(DeployEvent { sequence: self.after + 1, at: jiff::Timestamp::now(), event });
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether its last event will never come: the one who ends a deploy writes it within moments.
    fn is_abandoned(&self, deploy: &magrathea_core::api::DeployInfo) -> bool {
        let now = jiff::Timestamp::now();
        deploy.finished.is_none_or(|finished| now.duration_since(finished).as_secs() >= 3)
    }
}
