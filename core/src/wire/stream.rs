//! Streams: shells, files, tunnels and logs on their way between an agent, the gateway and td.
//!
//! A call of [`super::OpenStream`] names an id; the agent answers it with `POST /agent/v1/streams/ID` on the agent
//! listener, over HTTP/2. The request's body is what the agent sends, the response's what it receives: frames, each a
//! byte for the kind, the payload's length in four bytes (big-endian), and the payload. The last frame from the agent is
//! [`Frame::Exit`] or [`Frame::Failed`]; without one the node was lost. A stream whose end is dropped ends on the other
//! side too, and is never opened again by itself. Over a websocket (td and the API) a frame is one binary message, the
//! kind and the payload.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ActionError, ActionErrorKind};
use crate::plan::{MountSpec, ServiceSpec};
use crate::units::Span;

/// What senders put into one frame at most, in bytes: small enough that a key press is not held up for long.
pub const CHUNK: usize = 32 << 10;

/// The largest payload that a receiver accepts.
pub const MAX_PAYLOAD: usize = 256 << 10;

const HEAD: usize = 5;

/// What travels on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// To the node: standard input. From it: standard output, or everything a terminal shows.
    Data(Bytes),
    /// From the node: standard error.
    Error(Bytes),
    /// No more data comes in this direction.
    Eof,
    /// To the node: the terminal's new size.
    Resize(Size),
    /// To the node: a signal for the program.
    Signal(Signal),
    /// From the node, the last: the program's status; 128 and the signal's number when a signal ended it.
    Exit { code: i32 },
    /// From the node, the last: why there is no status.
    Failed(ActionError),
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

/// The terminal that a program is started on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// As in `xterm-256color`.
    pub term: String,
    pub size: Size,
}

macro_rules! signals {
    ($($name:ident = $text:literal, $number:literal;)*) => {
        /// Signals that a person may send to a program.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Signal { $($name,)* }

        impl Signal {
            pub const ALL: &'static [Signal] = &[$(Signal::$name,)*];

            /// Without `SIG`, as SSH names it.
            pub fn as_str(self) -> &'static str {
                match self { $(Signal::$name => $text,)* }
            }

            /// Linux's number.
            pub fn number(self) -> u8 {
                match self { $(Signal::$name => $number,)* }
            }
        }
    };
}

signals! {
    Hangup = "HUP", 1;
    Interrupt = "INT", 2;
    Quit = "QUIT", 3;
    Kill = "KILL", 9;
    User1 = "USR1", 10;
    User2 = "USR2", 12;
    Terminate = "TERM", 15;
}

impl FromStr for Signal {
    type Err = FrameError;
    fn from_str(text: &str) -> Result<Self, FrameError> {
        Signal::ALL.iter().copied().find(|signal| signal.as_str() == text).ok_or(FrameError::Payload)
    }
}

/// Why bytes are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame is of an unknown kind")]
    Kind,
    #[error("a frame is larger than {MAX_PAYLOAD} bytes")]
    Size,
    #[error("a frame's payload is malformed")]
    Payload,
}

impl Frame {
    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Frame::Exit { .. } | Frame::Failed(_))
    }

    /// The last frame of work that ended so.
    pub fn end(outcome: Result<i32, ActionError>) -> Self {
        match outcome {
            Ok(code) => Frame::Exit { code },
            Err(error) => Frame::Failed(error),
        }
    }

    /// As one message of a websocket.
    pub fn to_message(&self) -> Bytes {
        let payload = self.payload();
        let mut message = BytesMut::with_capacity(1 + payload.len());
        message.put_u8(self.kind());
        message.put_slice(&payload);
        message.freeze()
    }

    /// From one message of a websocket.
    pub fn from_message(mut message: Bytes) -> Result<Self, FrameError> {
        if !message.has_remaining() {
            return Err(FrameError::Kind);
        }
        let kind = message.get_u8();
        Frame::parse(kind, message)
    }

    /// As bytes of a body.
    pub fn to_bytes(&self) -> Bytes {
        let payload = self.payload();
        let mut bytes = BytesMut::with_capacity(HEAD + payload.len());
        bytes.put_u8(self.kind());
        bytes.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&payload);
        bytes.freeze()
    }

    fn kind(&self) -> u8 {
        match self {
            Frame::Data(_) => 1,
            Frame::Error(_) => 2,
            Frame::Eof => 3,
            Frame::Resize(_) => 4,
            Frame::Signal(_) => 5,
            Frame::Exit { .. } => 6,
            Frame::Failed(_) => 7,
        }
    }

    fn payload(&self) -> Bytes {
        match self {
            Frame::Data(data) | Frame::Error(data) => data.clone(),
            Frame::Eof => Bytes::new(),
            Frame::Resize(Size { cols, rows }) => {
                Bytes::copy_from_slice(&[cols.to_be_bytes(), rows.to_be_bytes()].concat())
            }
            Frame::Signal(signal) => Bytes::from_static(signal.as_str().as_bytes()),
            Frame::Exit { code } => Bytes::copy_from_slice(&code.to_be_bytes()),
            Frame::Failed(error) => serde_json::to_vec(error).unwrap_or_default().into(),
        }
    }

    fn parse(kind: u8, mut payload: Bytes) -> Result<Self, FrameError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(FrameError::Size);
        }
        let sized = |length| if payload.len() == length { Ok(()) } else { Err(FrameError::Payload) };
        Ok(match kind {
            1 => Frame::Data(payload),
            2 => Frame::Error(payload),
            3 => sized(0).map(|()| Frame::Eof)?,
            4 => {
                sized(4)?;
                Frame::Resize(Size { cols: payload.get_u16(), rows: payload.get_u16() })
            }
            5 => Frame::Signal(std::str::from_utf8(&payload).map_err(|_| FrameError::Payload)?.parse()?),
            6 => {
                sized(4)?;
                Frame::Exit { code: payload.get_i32() }
            }
            7 => Frame::Failed(serde_json::from_slice(&payload).map_err(|_| FrameError::Payload)?),
            _ => return Err(FrameError::Kind),
        })
    }
}

/// Cuts a body into frames, however its bytes are portioned.
#[derive(Debug, Default)]
pub struct Decoder {
    held: BytesMut,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame; none when more bytes must come first.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut head = self.held.get(..HEAD).unwrap_or_default();
        if head.len() < HEAD {
            return Ok(None);
        }
        let (kind, length) = (head.get_u8(), head.get_u32() as usize);
        if length > MAX_PAYLOAD {
            return Err(FrameError::Size);
        }
        if self.held.len() < HEAD + length {
            return Ok(None);
        }
        self.held.advance(HEAD);
        Frame::parse(kind, self.held.split_to(length).freeze()).map(Some)
    }
}

/// Asks for a stream. The reply comes when the agent goes about it; how it goes is told on the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenStream {
    pub id: Uuid,
    pub stream: StreamSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {}

/// What is at the agent's end of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stream", rename_all = "snake_case")]
pub enum StreamSpec {
    /// A program in a running replica, as the app's user and with its environment.
    Exec(ExecSpec),
    /// A program in a container of its own that goes with it.
    Run(RunSpec),
    /// A connection to one of the instance's own services.
    Connect(ConnectSpec),
    /// A program that sees an instance's writable paths and nothing else.
    Files(FilesSpec),
    /// An instance's log: records and marks, a JSON object a line, in pieces of any size.
    Logs(crate::logs::LogQuery),
    /// A release image from the node, as a tar: `config`, then `layers/N` for each layer that is wanted.
    SendImage(SendImage),
    /// The same to a node, which checks every digest before its engine sees anything; it ends with status 0.
    TakeImage(TakeImage),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SendImage {
    /// `sha256:…`
    pub id: String,
    /// So many layers, from the first on, are left out: the other node has them.
    pub skip: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TakeImage {
    pub id: String,
    pub skip: usize,
    /// Of all its layers, in bytes; what comes is bounded by it.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The service, by the plan's name.
    pub service: String,
    /// The start of the replica's container's id; any that runs when absent.
    pub container: Option<String>,
    /// Run in the release's folder; never empty.
    pub command: Vec<String>,
    /// Without one, output and errors come apart and all bytes pass unchanged.
    pub tty: Option<Tty>,
    /// Beside the app's own environment.
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Image, mounts, network, files and environment are taken from it; its name is the container's.
    pub service: Box<ServiceSpec>,
    pub secrets: BTreeMap<String, String>,
    pub command: Vec<String>,
    pub tty: Option<Tty>,
    /// Beside the service's own environment.
    pub env: BTreeMap<String, String>,
    /// The container goes after this long, whatever runs.
    pub timeout: Span,
}

/// Where a connection leads. The agent knows the address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum ConnectSpec {
    /// The node's database server.
    Database { port: u16 },
    /// A task of a service, by the plan's name.
    Service { service: String, port: u16 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilesSpec {
    pub slug: String,
    /// The id of an image with the programs.
    pub image: String,
    /// `uid:gid`
    pub user: String,
    /// Of an instance's storage alone.
    pub mounts: Vec<MountSpec>,
    pub command: Vec<String>,
}

/// What is told of a stream that its gateway or node left.
pub fn lost(who: &str) -> ActionError {
    ActionError {
        kind: ActionErrorKind::Node,
        message: format!("the connection to {who} was lost"),
        hint: None,
        log_tail: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            bytes().prop_map(Frame::Data),
            bytes().prop_map(Frame::Error),
            Just(Frame::Eof),
            any::<(u16, u16)>().prop_map(|(cols, rows)| Frame::Resize(Size { cols, rows })),
            prop::sample::select(Signal::ALL).prop_map(Frame::Signal),
            any::<i32>().prop_map(|code| Frame::Exit { code }),
            ".*".prop_map(|who| Frame::Failed(lost(&who))),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_portioning(frames in prop::collection::vec(frames(), 0..20), portion in 1_usize..700) {
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for part in bytes.chunks(portion) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn a_message_is_one_frame(frame in frames()) {
            prop_assert_eq!(Frame::from_message(frame.to_message()), Ok(frame));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Frame::from_message(bytes.clone().into());
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (bytes, error) in [
            (&b"\x09\0\0\0\0"[..], FrameError::Kind),
            (b"\x01\xff\xff\xff\xff", FrameError::Size),
            (b"\x01\0\x04\0\x01", FrameError::Size),
            (b"\x03\0\0\0\x01x", FrameError::Payload),
            (b"\x04\0\0\0\x03abc", FrameError::Payload),
            (b"\x05\0\0\0\x03FOO", FrameError::Payload),
            (b"\x07\0\0\0\x01{", FrameError::Payload),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.next_frame(), Err(error), "{bytes:?}");
        }
    }
}
