//! One connection of one agent: calls go out, progress and results come back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::lock::locked;
use magrathea_core::wire::{Action, ActionError, GatewayFrame, Progress};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Frames that wait to be sent; an agent that does not read so many is given up.
const OUTBOX: usize = 256;

/// Progress that waits for its caller; more is dropped rather than holding up the other calls of the node.
const INBOX: usize = 4096;

type CallResult = Result<serde_json::Value, ActionError>;

/// A connection, as the rest of the hub sees it.
pub struct Session {
    outbox: mpsc::Sender<GatewayFrame>,
    calls: Mutex<HashMap<u64, Pending>>,
    closed: CancellationToken,
}

/// A call that has no result yet.
struct Pending {
    progress: mpsc::Sender<Progress>,
    result: oneshot::Sender<CallResult>,
}

impl Session {
    /// A session, and the frames that its connection has to send.
    pub fn new() -> (Self, mpsc::Receiver<GatewayFrame>) {
        let (outbox, frames) = mpsc::channel(OUTBOX);
        (Session { outbox, calls: Mutex::default(), closed: CancellationToken::new() }, frames)
    }

    /// Makes a call; none when the connection was lost before its result came.
    pub async fn call(
        &self,
        id: u64,
        action: Action,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Option<CallResult> {
        let (progress, mut progresses) = mpsc::channel(INBOX);
        let (result, mut results) = oneshot::channel();
        self.calls().insert(id, Pending { progress, result });
        let _cancel = CancelOnDrop { session: self, id };
        let call = GatewayFrame::Call { id, action: Box::new(action) };
        tokio::select! {
            sent = self.outbox.send(call) => sent.ok()?,
            () = self.closed.cancelled() => return None,
        }
        loop {
            tokio::select! {
                biased;
                Some(progress) = progresses.recv() => on_progress(progress),
                result = &mut results => {
                    while let Ok(progress) = progresses.try_recv() {
                        on_progress(progress);
                    }
                    return result.ok();
                }
                () = self.closed.cancelled() => return None,
            }
        }
    }

    /// Hands progress to its caller. Of a call that nobody waits for any more nothing is kept.
    pub fn progress(&self, id: u64, progress: Progress) {
        if let Some(pending) = self.calls().get(&id) {
            let _ = pending.progress.try_send(progress);
        }
    }

    /// Hands a result to its caller.
    pub fn result(&self, id: u64, result: CallResult) {
        if let Some(pending) = self.calls().remove(&id) {
            let _ = pending.result.send(result);
        }
    }

    /// Sends a frame, or gives the connection up when the agent does not read.
    pub fn send(&self, frame: GatewayFrame) {
        if self.outbox.try_send(frame).is_err() {
            self.close();
        }
    }

    /// Ends the connection; calls under way learn that it is lost.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Resolves when the connection is to end.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        locked(&self.calls)
    }
}

/// Tells the agent when the caller went away before the result.
struct CancelOnDrop<'a> {
    session: &'a Session,
    id: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let unfinished = self.session.calls().remove(&self.id).is_some();
        if unfinished && !self.session.closed.is_cancelled() {
            self.session.send(GatewayFrame::Cancel { id: self.id });
        }
    }
}
