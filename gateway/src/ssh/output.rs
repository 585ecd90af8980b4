//! What a channel's program says to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::inbox::Waits;
use super::server::Writing;

/// Both streams of a channel, and how the program ends.
pub struct Output {
    writing: Arc<Writing>,
    pub stdout: Writer,
    pub stderr: Writer,
    /// Whether the client shows it on a terminal that it put into raw mode.
    pub raw: bool,
}

/// Writes one stream. Notes whether it waits for the client: see [`super::inbox`].
pub struct Writer {
    stream: Pin<Box<dyn AsyncWrite + Send>>,
    waits: Waits,
}

/// Ends a channel.
pub struct Ending(Arc<Writing>);

impl Output {
    pub fn new(writing: Writing, waits: Waits) -> Self {
        let stdout = Writer { stream: Box::pin(writing.stdout()), waits: waits.clone() };
        let stderr = Writer { stream: Box::pin(writing.stderr()), waits };
        Output { writing: Arc::new(writing), stdout, stderr, raw: false }
    }

    /// Kept beside the streams by whoever gives them away.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.writing))
    }

    /// Says something to the person.
    pub async fn say(&mut self, text: &str) {
        let text = if self.raw { text.replace('\n', "\r\n") } else { text.to_owned() };
        let _ = self.stderr.write_all(text.as_bytes()).await;
    }
}

impl Ending {
    /// Says how the program ended, and closes the channel. What was written before arrives before.
    pub async fn exit(&self, code: i32) {
        self.0.eof().await;
        // Statuses are small; whatever is not one counts as a failure.
        self.0.exit_status(u32::try_from(code).unwrap_or(255)).await;
        self.0.close().await;
    }

    /// Says that no more comes; the client may still send.
    pub async fn eof(&self) {
        self.0.eof().await;
    }

    /// Closes a channel that has no program.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl Writer {
    fn note<T>(&self, poll: Poll<T>) -> Poll<T> {
        self.waits.set(poll.is_pending());
        poll
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let poll = self.stream.as_mut().poll_write(cx, buf);
        self.note(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let poll = self.stream.as_mut().poll_flush(cx);
        self.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // The channel ends with the program's status, not with one of its streams.
        let _ = &mut self;
        Poll::Ready(Ok(()))
    }
}
