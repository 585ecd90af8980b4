//! A stream that fails once a token is cancelled: whatever a protocol does with it, waiting to read or stuck in a write
//! to somebody who takes nothing, ends at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The stream and its end. A reader and a writer may be two tasks, so each waits for the end by itself.
pub struct Guarded<S> {
    stream: S,
    reading: End,
    writing: End,
}

type End = Pin<Box<WaitForCancellationFutureOwned>>;

impl<S> Guarded<S> {
    pub fn new(stream: S, end: CancellationToken) -> Self {
        Guarded { stream, reading: Box::pin(end.clone().cancelled_owned()), writing: Box::pin(end.cancelled_owned()) }
    }
}

fn check(end: &mut End, cx: &mut Context<'_>) -> io::Result<()> {
    match end.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        Poll::Pending => Ok(()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        check(&mut self.reading, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told() {
        let (near, _far) = tokio::io::duplex(4);
        let end = CancellationToken::new();
        let (mut read, mut write) = tokio::io::split(Guarded::new(near, end.clone()));
        let tasks = tokio_util::task::TaskTracker::new();
        let reading = tasks.spawn(async move { read.read_u8().await });
        let writing = tasks.spawn(async move { write.write_all(b"more than fits").await });
        tokio::task::yield_now().await;
        end.cancel();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
