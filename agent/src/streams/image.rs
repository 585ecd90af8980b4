//! A release image at a stream's end: sent to another node, or taken in from one. It lies in a file of the builds' folder
//! meanwhile, which goes whatever happens.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use bytes::Bytes;
use futures_util::StreamExt;
use magrathea_core::wire::stream::CHUNK;
use magrathea_core::wire::{Frame, SendImage, TakeImage};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::StreamIo;
use crate::engine::label;
use crate::fail::{Doing, Outcome, cancelled, node};
use crate::images::{check, pack, spool, unpack};
use crate::node::NodeAgent;

/// What a tar adds to its files, and files to their sum.
const SLACK: u64 = 256 << 20;

/// Pieces on their way to the engine.
const QUEUE: usize = 4;

/// Sends an image but its first layers.
pub async fn send(agent: &NodeAgent, spec: &SendImage, io: StreamIo) -> Outcome<i32> {
    let StreamIo { to, from: _from, ended } = io;
    // Only what is a release of this installation's leaves the node.
    if agent.engine.describe_release(&spec.id).await?.is_none() {
        return Err(node(format!("there is no release image {}", spec.id)));
    }
    let doing = || format!("sending image {}", spec.id);
    let sent = async {
        let file = spool(&agent.folders.builds())?;
        let mut writer = tokio::fs::File::from_std(file.reopen().doing(doing)?);
        let mut tar = std::pin::pin!(agent.engine.export_image(&spec.id));
        while let Some(bytes) = tar.next().await {
            writer.write_all(&bytes?).await.doing(doing)?;
        }
        writer.flush().await.doing(doing)?;
        let (tar, skip) = (file.reopen().doing(doing)?, spec.skip);
        let frames = Pieces {
            buffer: Vec::with_capacity(CHUNK),
            hand_on: move |bytes| to.blocking_send(Frame::Data(bytes)).is_ok(),
        };
        let packed = tokio::task::spawn_blocking(move || pack(tar, skip, frames)).await;
        packed.map_err(|error| node(error.to_string()))?.doing(doing)?;
        Ok(0)
    };
    tokio::select! {
        sent = sent => sent,
        () = ended.cancelled() => Err(cancelled()),
    }
}

/// Takes an image in. Nothing of it reaches the engine before all of it has come and is what was asked for.
pub async fn take(agent: &NodeAgent, spec: &TakeImage, io: StreamIo) -> Outcome<i32> {
    let StreamIo { to: _to, mut from, ended } = io;
    let doing = || format!("taking image {} in", spec.id);
    let taken = async {
        let file = spool(&agent.folders.builds())?;
        receive(&mut from, file.reopen().doing(doing)?, spec.size.saturating_mul(2).saturating_add(SLACK)).await?;
        let (id, skip, prefix) = (spec.id.clone(), spec.skip, agent.engine.prefix().as_str().to_owned());
        let mut tar = file.reopen().doing(doing)?;
        let checked = tokio::task::spawn_blocking(move || {
            let checked = check(&mut tar, &id, skip, (label::OWNER, &prefix))?;
            tar.seek(SeekFrom::Start(0))?;
            Ok::<_, io::Error>((tar, checked))
        });
        let (mut tar, checked) = checked.await.map_err(|error| node(error.to_string()))?.doing(doing)?;
        let (pieces, coming) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
        let unpacking = tokio::task::spawn_blocking(move || {
            let hand_on = |bytes| pieces.blocking_send(Ok(bytes)).is_ok();
            unpack(&mut tar, &checked, Pieces { buffer: Vec::with_capacity(CHUNK), hand_on })
        });
        let body = futures_util::stream::unfold(coming, async |mut coming| Some((coming.recv().await?, coming)));
        let imported = agent.engine.import_image(body).await;
        unpacking.await.map_err(|error| node(error.to_string()))?.doing(doing)?;
        imported?;
        match agent.engine.describe_release(&spec.id).await? {
            Some(_) => Ok(0),
            None => Err(node(format!("the engine has made something else of image {}", spec.id))),
        }
    };
    tokio::select! {
        taken = taken => taken,
        () = ended.cancelled() => Err(cancelled()),
    }
}

/// Writes what comes to a file, until the end is said.
async fn receive(from: &mut mpsc::Receiver<Frame>, file: File, most: u64) -> Outcome<()> {
    let doing = || "writing an image".to_owned();
    let mut writer = tokio::fs::File::from_std(file);
    let mut size = 0;
    loop {
        match from.recv().await {
            Some(Frame::Data(bytes)) => {
                size += bytes.len() as u64;
                if size > most {
                    return Err(node("the image that came is refused: it is larger than was announced"));
                }
                writer.write_all(&bytes).await.doing(doing)?;
            }
            Some(Frame::Eof) => return writer.flush().await.doing(doing),
            Some(_) => {}
            None => return Err(node("the image that came is refused: it broke off")),
        }
    }
}

/// Hands on what is written, in pieces.
struct Pieces<F: FnMut(Bytes) -> bool> {
    buffer: Vec<u8>,
    /// False when nobody wants more.
    hand_on: F,
}

impl<F: FnMut(Bytes) -> bool> Write for Pieces<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = CHUNK.saturating_sub(self.buffer.len());
        let part = data.get(..room.min(data.len())).unwrap_or_default();
        self.buffer.extend_from_slice(part);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        if (self.hand_on)(piece.into()) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}
