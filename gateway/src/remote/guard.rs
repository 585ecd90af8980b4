//! Stands between a person and a stream: ends it when the door must close, and records how it went.

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::wire::stream::lost;
use magrathea_core::wire::{ActionError, ActionErrorKind, Frame};
use tokio::sync::mpsc;

use crate::doors::Door;
use crate::hub::StreamHandle;
use crate::state::State;

/// Frames that wait in each direction.
const QUEUE: usize = 8;

/// How long somebody may take to hear why their door is closed.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A stream that lasts for as long as the door is open. Its last frame always comes, also when the node was lost.
pub fn guard(state: &Arc<State>, door: Door, inner: StreamHandle) -> StreamHandle {
    let (to, outgoing) = mpsc::channel(QUEUE);
    let (incoming, from) = mpsc::channel(QUEUE);
    let shutdown = state.shutdown.clone();
    state.tasks.spawn(async move {
        let outcome = tokio::select! {
            outcome = relay(inner, outgoing, &incoming) => outcome,
            () = door.revoked() => say(&incoming, ended(door.reason())).await,
            () = shutdown.cancelled() => say(&incoming, ended("the gateway ends; try again in a moment")).await,
        };
        door.close(&outcome).await;
    });
    StreamHandle { to, from }
}

/// Passes frames both ways until either side ends. Tells how it went.
async fn relay(inner: StreamHandle, mut outgoing: mpsc::Receiver<Frame>, incoming: &mpsc::Sender<Frame>) -> String {
    let StreamHandle { to, mut from } = inner;
    let there = async {
        while let Some(frame) = outgoing.recv().await {
            if to.send(frame).await.is_err() {
                // The other direction tells how it ended.
                std::future::pending::<()>().await;
            }
        }
    };
    let back = async {
        while let Some(frame) = from.recv().await {
            let outcome = match &frame {
                Frame::Exit { code } => Some(format!("exit {code}")),
                Frame::Failed(error) => Some(format!("failed: {error}")),
                _ => None,
            };
            if incoming.send(frame).await.is_err() {
                return "left".to_owned();
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        say(incoming, Frame::Failed(lost("the node"))).await
    };
    tokio::select! {
        () = there => "left".to_owned(),
        () = incoming.closed() => "left".to_owned(),
        outcome = back => outcome,
    }
}

fn ended(why: &str) -> Frame {
    Frame::Failed(ActionError {
        kind: ActionErrorKind::Cancelled,
        message: why.to_owned(),
        hint: None,
        log_tail: Vec::new(),
    })
}

/// Sends the last frame. Tells what it says.
async fn say(incoming: &mpsc::Sender<Frame>, frame: Frame) -> String {
    let what = match &frame {
        Frame::Failed(error) => format!("ended: {error}"),
        _ => "ended".to_owned(),
    };
    let _ = tokio::time::timeout(LAST_WORD, incoming.send(frame)).await;
    what
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (StreamHandle, mpsc::Receiver<Frame>, mpsc::Sender<Frame>) {
        let (to, outgoing) = mpsc::channel(QUEUE);
        let (incoming, from) = mpsc::channel(QUEUE);
        (StreamHandle { to, from }, outgoing, incoming)
    }

    #[tokio::test]
    async fn how_it_went_is_told() {
        for (last, outcome) in [
            (Some(Frame::Exit { code: 3 }), "exit 3"),
            (Some(ended("no")), "failed: no"),
            (None, "ended: the connection to the node was lost"),
        ] {
            let (inner, _outgoing, node) = pair();
            let (person, to_node, to_person) = pair();
            if let Some(last) = last {
                node.send(last).await.unwrap();
            }
            drop(node);
            assert_eq!(relay(inner, to_node, &to_person).await, outcome);
            drop(person);
        }
        let (inner, _outgoing, _node) = pair();
        let (person, to_node, to_person) = pair();
        drop(person);
        assert_eq!(relay(inner, to_node, &to_person).await, "left");
    }
}
