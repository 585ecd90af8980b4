//! A health check that is a program run in the replica. It is ended with all that it started when its time is up, when
//! nobody waits for it any more, and, by the next agent, when this one is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use magrathea_core::wire::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::probe::{Answer, start_of};
use crate::engine::Program;
use crate::node::NodeAgent;
use crate::streams::{StreamIo, exec};

/// Of what it says the end is kept.
const MOST_OUTPUT: usize = 4 << 10;

pub(super) async fn ask(
    agent: &Arc<NodeAgent>,
    container: &str,
    command: &[String],
    title: &str,
    limit: Duration,
) -> Answer {
    let (to, mut output) = mpsc::channel(8);
    let (input, from) = mpsc::channel(1);
    let ended = CancellationToken::new();
    // Dropped with this future, whatever the reason.
    let _guard = ended.clone().drop_guard();
    let io = StreamIo { to, from, ended: ended.clone() };
    let (node, container, command) = (Arc::clone(agent), container.to_owned(), command.to_vec());
    // A task of its own: ending the program takes a moment that a dropped future does not have.
    let task = agent.tasks.spawn(async move {
        let program = Program { command: &command, tty: None, env: &BTreeMap::new() };
        exec::run_in(&node, &container, &program, io).await
    });
    let work = async {
        let _ = input.send(Frame::Eof).await;
        let mut said = Vec::new();
        while let Some(frame) = output.recv().await {
            if let Frame::Data(bytes) | Frame::Error(bytes) = frame {
                said.extend_from_slice(&bytes);
                said.drain(..said.len().saturating_sub(MOST_OUTPUT));
            }
        }
        (task.await, said)
    };
    match tokio::time::timeout(limit, work).await {
        Ok((Ok(Ok(0)), _)) => Answer::Well,
        Ok((Ok(Ok(code)), said)) => {
            let said = start_of(&String::from_utf8_lossy(&said));
            let colon = if said.is_empty() { "" } else { ": " };
            Answer::Wrong(format!("`{title}` ended with exit status {code}{colon}{said}"))
        }
        // The replica is not up yet, or has just ended.
        Ok((Ok(Err(error)), _)) => Answer::None(format!("`{title}` could not run: {error}")),
        Ok((Err(error), _)) => Answer::None(format!("`{title}` could not run: {error}")),
        Err(_) => Answer::Wrong(format!("`{title}` was killed: it took longer than {} s", limit.as_secs_f32())),
    }
}
