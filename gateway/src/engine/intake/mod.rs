//! Takes an app's source in: an untrusted archive becomes a checked, normalised, content-addressed blob.

mod entry;
mod limits;
mod normalise;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

pub use entry::IntakeError;
pub use normalise::{Packing, Source};

/// Receives an archive as it arrives and stores it in `folder`. Nothing stays there when it fails.
pub async fn receive<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    packing: Packing,
    folder: PathBuf,
) -> Result<Source, IntakeError>
where
    E: std::fmt::Display,
{
    let (sender, receiver) = mpsc::channel(16);
    let blocking = tokio::task::spawn_blocking(move || {
        normalise::take_in(Pieces { receiver, current: Bytes::new() }, packing, &folder, &limits::LIMITS)
    });
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| std::io::Error::other(format!("the upload broke off: {e}")));
        // The reader is gone when it has refused the archive: its answer says why.
        if sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    match blocking.await {
        Ok(result) => result,
        Err(panic) => Err(IntakeError::Store(std::io::Error::other(panic))),
    }
}

/// The contents of some files of a stored archive, by path.
pub async fn read_texts(archive: PathBuf, paths: BTreeSet<String>) -> std::io::Result<BTreeMap<String, String>> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    match tokio::task::spawn_blocking(move || stored::read_texts(&archive, &paths)).await {
        Ok(result) => result,
        Err(panic) => Err(std::io::Error::other(panic)),
    }
}

/// A mark of each file of a stored archive, which differs where the file differs; none when it is not kept any more.
pub async fn list_files(archive: PathBuf) -> std::io::Result<Option<BTreeMap<String, String>>> {
    match tokio::task::spawn_blocking(move || stored::list_files(&archive)).await {
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Ok(result) => result.map(Some),
        Err(panic) => Err(std::io::Error::other(panic)),
    }
}

/// Where a blob is kept.
pub fn blob_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(sha256)
}

/// The pieces of a body, read as one stream from a blocking thread.
struct Pieces {
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), self.current.get(..n)) {
            to.copy_from_slice(from);
        }
        self.current.advance(n);
        Ok(n)
    }
}
