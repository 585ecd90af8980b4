//! What a client sends on one channel, on its way to the task that serves it.
//!
//! russh grants the client more data as soon as it has handed some on, and reads nothing at all while a callback waits.
//! So a full inbox holds up the whole connection, which is right as long as the channel's program only works slowly. When
//! the program waits to be read itself, the client's next message may be the one that lets it write on: then the inbox
//! takes more, up to a limit at which the channel is given up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::target::Start;

/// Bytes that wait before the client is held up, and the most that ever wait.
const ROOM: usize = 1 << 20;
const MOST: usize = 32 << 20;

/// What a message costs beside its data.
const MESSAGE: usize = 64;

/// Variables that a client may set, and the length of their values.
const MAX_VARIABLES: usize = 32;
const MAX_VALUE: usize = 256;

/// What git's clients say of the protocol; for git alone.
pub const GIT_PROTOCOL: &str = "GIT_PROTOCOL";

/// One thing that a client says on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Terminal {
        term: String,
        cols: u32,
        rows: u32,
    },
    Variable {
        name: String,
        value: String,
    },
    Start(Start),
    Data(Bytes),
    Resize {
        cols: u32,
        rows: u32,
    },
    /// Without `SIG`.
    Signal(String),
    Eof,
}

/// The end that the connection puts things in.
pub struct Inlet {
    queue: mpsc::UnboundedSender<(usize, Incoming)>,
    gauge: Arc<Gauge>,
    waits: watch::Receiver<bool>,
    _gone: DropGuard,
    started: bool,
    variables: usize,
}

/// The end that the channel's task takes things from. None follows once the client closed the channel.
pub struct Inbox {
    queue: mpsc::UnboundedReceiver<(usize, Incoming)>,
    gauge: Arc<Gauge>,
    /// Cancelled once the client closed the channel or is gone, whether or not somebody takes things out.
    pub gone: CancellationToken,
}

/// Told by the channel's output whether it waits for the client to take what was written.
#[derive(Clone)]
pub struct Waits(watch::Sender<bool>);

struct Gauge {
    room: Semaphore,
    held: AtomicUsize,
}

/// The client sent more than can be kept.
#[derive(Debug, thiserror::Error)]
#[error("the client sent more than the program takes, and does not read what it writes")]
pub struct Overrun;

/// An empty inbox of a connection that ends with `end`.
pub fn inbox(end: &CancellationToken) -> (Inlet, Inbox, Waits) {
    let gone = end.child_token();
    let (sender, receiver) = mpsc::unbounded_channel();
    let (waits, waited) = watch::channel(false);
    let gauge = Arc::new(Gauge { room: Semaphore::new(ROOM), held: AtomicUsize::new(0) });
    let inlet = Inlet {
        queue: sender,
        gauge: Arc::clone(&gauge),
        waits: waited,
        _gone: gone.clone().drop_guard(),
        started: false,
        variables: 0,
    };
    (inlet, Inbox { queue: receiver, gauge, gone }, Waits(waits))
}

impl Inlet {
    /// Puts something in as soon as there is room; false when it is refused.
    pub async fn put(&mut self, incoming: Incoming) -> Result<bool, Overrun> {
        if !self.is_welcome(&incoming) {
            return Ok(false);
        }
        let cost = MESSAGE + if let Incoming::Data(data) = &incoming { data.len() } else { 0 };
        if self.gauge.held.load(Ordering::Relaxed) + cost > MOST {
            return Err(Overrun);
        }
        let wanted = u32::try_from(cost.min(ROOM)).unwrap_or(u32::MAX);
        let taken = tokio::select! {
            biased;
            permit = self.gauge.room.acquire_many(wanted) => {
                permit.map(tokio::sync::SemaphorePermit::forget).ok();
                cost.min(ROOM)
            }
            // Gone altogether when the task has ended: then nothing is kept any more.
            _ = self.waits.wait_for(|waits| *waits) => 0,
            () = self.queue.closed() => 0,
        };
        self.gauge.held.fetch_add(cost, Ordering::Relaxed);
        Ok(self.queue.send((taken, incoming)).is_ok())
    }

    /// The protocol's order: one start, and what prepares it before.
    fn is_welcome(&mut self, incoming: &Incoming) -> bool {
        match incoming {
            Incoming::Terminal { .. } => !self.started,
            Incoming::Variable { name, value } => {
                let known = name == "LANG" || name == GIT_PROTOCOL || name.strip_prefix("LC_").is_some_and(is_category);
                let harmless = value.len() <= MAX_VALUE && value.bytes().all(|b| b.is_ascii_graphic());
                self.variables += 1;
                !self.started && known && harmless && self.variables <= MAX_VARIABLES
            }
            Incoming::Start(_) => !std::mem::replace(&mut self.started, true),
            Incoming::Data(_) | Incoming::Resize { .. } | Incoming::Signal(_) | Incoming::Eof => true,
        }
    }
}

fn is_category(name: &str) -> bool {
    (1..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

impl Inbox {
    pub async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let Some((taken, incoming)) = ready!(self.queue.poll_recv(cx)) else { return Poll::Ready(None) };
        let cost = MESSAGE + if let Incoming::Data(data) = &incoming { data.len() } else { 0 };
        self.gauge.held.fetch_sub(cost, Ordering::Relaxed);
        self.gauge.room.add_permits(taken);
        Poll::Ready(Some(incoming))
    }

    /// The data alone, for a program that wants nothing else.
    pub fn into_reader(self) -> Reader {
        Reader { inbox: self, rest: Bytes::new(), ended: false }
    }
}

/// Reads an inbox's data up to its end.
pub struct Reader {
    inbox: Inbox,
    rest: Bytes,
    ended: bool,
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            match ready!(self.inbox.poll_next(cx)) {
                Some(Incoming::Data(data)) => self.rest = data,
                Some(Incoming::Eof) | None => self.ended = true,
                Some(_) => {}
            }
        }
        let some = self.rest.len().min(buf.remaining());
        buf.put_slice(self.rest.get(..some).unwrap_or_default());
        self.rest.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl Waits {
    pub fn set(&self, waits: bool) {
        self.0.send_if_modified(|old| std::mem::replace(old, waits) != waits);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;

    fn data(length: usize) -> Incoming {
        Incoming::Data(vec![b'x'; length].into())
    }

    async fn is_held_up(inlet: &mut Inlet) -> bool {
        tokio::time::timeout(Duration::from_millis(50), inlet.put(data(1000))).await.is_err()
    }

    #[tokio::test]
    async fn a_slow_program_holds_the_client_up() {
        let (mut inlet, mut inbox, _waits) = inbox(&CancellationToken::new());
        inlet.put(data(ROOM - MESSAGE)).await.unwrap();
        assert!(is_held_up(&mut inlet).await);
        assert_eq!(inbox.next().await, Some(data(ROOM - MESSAGE)));
        assert!(!is_held_up(&mut inlet).await);
    }

    #[tokio::test]
    async fn a_program_that_waits_to_be_read_does_not_up_to_a_limit() {
        let (mut inlet, mut inbox, waits) = inbox(&CancellationToken::new());
        inlet.put(data(ROOM)).await.unwrap();
        waits.set(true);
        for _ in 0..(MOST / ROOM) - 2 {
            assert!(inlet.put(data(ROOM)).await.unwrap());
        }
        assert!(inlet.put(data(2 * ROOM)).await.is_err());
        while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(20), inbox.next()).await {}
        assert_eq!(inbox.gauge.held.load(Ordering::Relaxed), 0);
        assert_eq!(inbox.gauge.room.available_permits(), ROOM);
    }

    #[tokio::test]
    async fn the_order_of_the_protocol_is_kept() {
        let (mut inlet, _inbox, _waits) = inbox(&CancellationToken::new());
        let variable = |name: &str, value: &str| Incoming::Variable { name: name.into(), value: value.into() };
        for (incoming, welcome) in [
            (variable("LANG", "de_DE.UTF-8"), true),
            (variable("LC_ALL", "C"), true),
            (variable("GIT_PROTOCOL", "version=2"), true),
            (variable("LC_", "C"), false),
            (variable("LD_PRELOAD", "/x"), false),
            (variable("LC_ALL", "a\nb"), false),
            (variable("LANG", &"x".repeat(MAX_VALUE + 1)), false),
            (Incoming::Start(Start::Shell), true),
            (Incoming::Start(Start::Shell), false),
            (variable("LANG", "C"), false),
            (Incoming::Terminal { term: "vt100".into(), cols: 80, rows: 24 }, false),
            (Incoming::Resize { cols: 80, rows: 24 }, true),
        ] {
            assert_eq!(inlet.put(incoming.clone()).await.unwrap(), welcome, "{incoming:?}");
        }
        for _ in 0..MAX_VARIABLES {
            let _ = inlet.put(variable("LANG", "C")).await;
        }
    }

    #[tokio::test]
    async fn data_is_read_up_to_its_end() {
        let (mut inlet, inbox, _waits) = inbox(&CancellationToken::new());
        for incoming in [data(3), Incoming::Resize { cols: 1, rows: 1 }, data(2), Incoming::Eof, data(9)] {
            inlet.put(incoming).await.unwrap();
        }
        let mut read = Vec::new();
        inbox.into_reader().read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"xxxxx");
    }
}
