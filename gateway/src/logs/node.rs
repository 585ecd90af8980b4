//! One node's part of a log: read over a stream that is opened again where it broke off, so that who follows neither
//! misses a line nor sees one twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use magrathea_core::logs::{LogQuery, Mark};
use magrathea_core::wire::{Frame, StreamSpec};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Said;
use crate::hub::{NodeRef, StreamHandle};
use crate::state::State;

/// Between tries to reach a node.
const RETRY: Duration = Duration::from_secs(1);
/// Longer than any line.
const MAX_LINE: usize = 16 << 20;
/// How a mark's line begins.
const MARK: &[u8] = b"{\"mark\"";

/// Reads until the log ends, or for ever.
pub async fn read(state: Arc<State>, node: NodeRef, mut query: LogQuery, said: mpsc::Sender<Said>) {
    let mut told = false;
    let mut since_mark = 0;
    loop {
        let opened = state.hub.open_stream(&node, StreamSpec::Logs(query.clone())).await;
        let ended = match opened {
            Ok(stream) => {
                told = false;
                let mut part = Part { said: &said, query: &mut query, skip: since_mark, since_mark: &mut since_mark };
                part.read(stream).await
            }
            Err(error) => Ended::Away(error.to_string()),
        };
        let why = match ended {
            Ended::Done => return,
            Ended::Away(why) => why,
        };
        if !told {
            let goes_on = if query.follow { "; its lines come when it is back" } else { "; its lines are missing" };
            let notice = Said::Notice(format!("{node} cannot be read: {why}{goes_on}"));
            if said.send(notice).await.is_err() {
                return;
            }
            told = true;
        }
        if !query.follow {
            return;
        }
        tokio::select! {
            () = said.closed() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

enum Ended {
    Done,
    Away(String),
}

/// One connection.
struct Part<'a> {
    said: &'a mpsc::Sender<Said>,
    query: &'a mut LogQuery,
    /// Lines that were told by the connection before, after its last mark.
    skip: usize,
    since_mark: &'a mut usize,
}

impl Part<'_> {
    async fn read(&mut self, mut stream: StreamHandle) -> Ended {
        let mut buffer = BytesMut::new();
        loop {
            let frame = tokio::select! {
                () = self.said.closed() => return Ended::Done,
                frame = stream.from.recv() => frame,
            };
            match frame {
                Some(Frame::Data(data)) => {
                    buffer.extend_from_slice(&data);
                    if buffer.len() > MAX_LINE {
                        return Ended::Away("it sends what is no log".into());
                    }
                    let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else { continue };
                    let lines = buffer.split_to(end + 1).freeze();
                    if self.tell(lines).await.is_err() {
                        return Ended::Done;
                    }
                }
                Some(Frame::Exit { .. }) => return Ended::Done,
                Some(Frame::Failed(error)) => return Ended::Away(error.message),
                Some(_) => {}
                None => return Ended::Away("the connection was lost".into()),
            }
        }
    }

    /// Hands on lines, and takes the marks out from among them.
    async fn tell(&mut self, lines: Bytes) -> Result<(), mpsc::error::SendError<Said>> {
        let (mut start, mut at) = (0, 0);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let (before, after) = (at, at + line.len());
            at = after;
            if line.starts_with(MARK) {
                self.flush(lines.slice(start..before)).await?;
                start = after;
                self.mark(line).await?;
            } else if self.skip > 0 {
                self.skip -= 1;
                start = after;
            } else {
                *self.since_mark += 1;
            }
        }
        self.flush(lines.slice(start..)).await
    }

    async fn flush(&self, lines: Bytes) -> Result<(), mpsc::error::SendError<Said>> {
        if lines.is_empty() { Ok(()) } else { self.said.send(Said::Lines(lines)).await }
    }

    async fn mark(&mut self, line: &[u8]) -> Result<(), mpsc::error::SendError<Said>> {
        #[derive(Deserialize)]
        struct Marked {
            mark: Mark,
        }
        let Ok(Marked { mark }) = serde_json::from_slice(line) else { return Ok(()) };
        if let Ok(cursor) = mark.cursor.parse() {
            self.query.after = Some(cursor);
            (*self.since_mark, self.skip) = (0, 0);
        }
        self.said.send(Said::Mark(mark)).await
    }
}
