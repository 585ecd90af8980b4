//! Somebody reads an instance's log.

use magrathea_core::logs::LogQuery;
use magrathea_core::wire::Frame;
use magrathea_core::wire::stream::CHUNK;
use tokio::sync::mpsc;

use super::StreamIo;
use crate::fail::Outcome;
use crate::logs::Logs;

/// Pieces that wait; what is not taken stays in the log's files.
const QUEUE: usize = 2;

/// Sends lines until there are no more, or the stream has ended.
pub async fn run(logs: &Logs, query: LogQuery, io: StreamIo) -> Outcome<i32> {
    let (out, mut pieces) = mpsc::channel(QUEUE);
    let follow = logs.follow(query, out);
    let send = async {
        while let Some(mut piece) = pieces.recv().await {
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(CHUNK));
                tokio::select! {
                    () = io.ended.cancelled() => return,
                    sent = io.to.send(Frame::Data(part)) => if sent.is_err() { return },
                }
            }
        }
    };
    tokio::select! {
        () = io.ended.cancelled() => Ok(0),
        (outcome, ()) = futures_util::future::join(follow, send) => outcome.map(|()| 0),
    }
}
