//! Between a channel and a stream to a node.

use bytes::Bytes;
use magrathea_core::wire::Frame;
use magrathea_core::wire::stream::{Signal, Size};
use tokio::io::AsyncWriteExt;

use super::inbox::{Inbox, Incoming};
use super::output::Output;
use super::session::small;
use crate::hub::StreamHandle;

/// Ctrl-D.
const END_OF_INPUT: Bytes = Bytes::from_static(&[4]);

/// How a stream ended.
pub enum End {
    /// The program's exit status.
    Exit(i32),
    /// There is none, and why.
    Failed(String),
    /// The client went.
    Left,
}

/// Carries frames both ways until the program or the client ends. Dropped early, the program on the node ends too.
pub async fn carry(stream: StreamHandle, mut inbox: Inbox, output: &mut Output) -> End {
    let StreamHandle { to, mut from } = stream;
    let raw = output.raw;
    let up = async {
        while let Some(incoming) = inbox.next().await {
            let Some(frame) = frame_of(incoming, raw) else { continue };
            if to.send(frame).await.is_err() {
                // The stream has ended; its last frame says how.
                return std::future::pending().await;
            }
        }
        End::Left
    };
    let down = async {
        while let Some(frame) = from.recv().await {
            let written = match frame {
                Frame::Data(data) => output.stdout.write_all(&data).await,
                Frame::Error(data) => output.stderr.write_all(&data).await,
                Frame::Eof => {
                    output.ending().eof().await;
                    Ok(())
                }
                Frame::Exit { code } => return End::Exit(code),
                Frame::Failed(error) => return End::Failed(error.message),
                _ => Ok(()),
            };
            if written.is_err() {
                return End::Left;
            }
        }
        End::Failed("the connection to the node was lost".to_owned())
    };
    tokio::select! {
        end = up => end,
        end = down => end,
    }
}

/// On a terminal the end of what is typed is a character; the terminal itself stays, for what is still shown.
fn frame_of(incoming: Incoming, raw: bool) -> Option<Frame> {
    match incoming {
        Incoming::Data(data) => Some(Frame::Data(data)),
        Incoming::Eof if raw => Some(Frame::Data(END_OF_INPUT)),
        Incoming::Eof => Some(Frame::Eof),
        Incoming::Resize { cols, rows } => Some(Frame::Resize(Size { cols: small(cols), rows: small(rows) })),
        Incoming::Signal(name) => name.parse::<Signal>().ok().map(Frame::Signal),
        Incoming::Terminal { .. } | Incoming::Variable { .. } | Incoming::Start(_) => None,
    }
}
