//! Release images out of an archive that is made while the engine reads it.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use magrathea_core::wire::{Build, Built};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::tree::{Release, TreeError};
use crate::engine::Engine;
use crate::fail::{Doing, Outcome, internal, refused};
use crate::reporter::Reporter;

const CHUNK: usize = 256 << 10;

/// Makes the image straight from the source archive.
pub async fn from_source(
    engine: &Engine,
    wanted: &Build,
    source: NamedTempFile,
    reporter: &Reporter,
) -> Outcome<Built> {
    let file = source.reopen().doing(|| "reading the source".into())?;
    if wanted.output.is_some() {
        return Err(internal("a build without commands has no output folder"));
    }
    stream_image(engine, wanted, reporter, move |release, seen| release.append_archive(file, seen)).await
}

/// Makes the image from a folder.
pub async fn from_folder(engine: &Engine, wanted: &Build, folder: PathBuf, reporter: &Reporter) -> Outcome<Built> {
    stream_image(engine, wanted, reporter, move |release, seen| release.append_tree(&folder, seen)).await
}

async fn stream_image<F>(engine: &Engine, wanted: &Build, reporter: &Reporter, fill: F) -> Outcome<Built>
where
    F: FnOnce(&mut Release<ChunkWriter>, &mut dyn FnMut(&Path)) -> Result<(), TreeError> + Send + 'static,
{
    let (chunks, mut files) = mpsc::channel::<std::io::Result<Bytes>>(8);
    let mounts: Vec<PathBuf> = wanted.hidden_by_mounts.iter().map(PathBuf::from).collect();
    let in_memory = wanted.in_memory.iter().map(|path| path.trim_start_matches("./").into()).collect();
    let writer = tokio::task::spawn_blocking(move || {
        let mut hidden: Vec<usize> = vec![0; mounts.len()];
        let write = || {
            let out = ChunkWriter { chunks: chunks.clone(), open: BytesMut::new() };
            let mut release = Release::begin(out, in_memory)?;
            fill(&mut release, &mut |path| {
                for (count, mount) in hidden.iter_mut().zip(&mounts) {
                    *count += usize::from(path.starts_with(mount));
                }
            })?;
            release.finish()?.flush()?;
            Ok(())
        };
        let outcome: Result<(), TreeError> = write();
        if outcome.is_err() {
            // The engine must not take the part for the whole.
            let _ = chunks.blocking_send(Err(std::io::Error::other("the source could not be read")));
        }
        outcome.map(|()| mounts.into_iter().zip(hidden).filter(|(_, count)| *count > 0).collect::<Vec<_>>())
    });
    let stream = futures_util::stream::poll_fn(move |cx| files.poll_recv(cx));
    let built = engine.make_image(&wanted.runtime_image, stream, &wanted.labels).await;
    let hidden = match writer.await.map_err(|error| internal(format!("packing the release: {error}")))? {
        Ok(hidden) => hidden,
        // The engine's complaint about the broken stream says less.
        Err(error) if built.is_ok() || !is_closed(&error) => return Err(refused(error.to_string())),
        Err(_) => Vec::new(),
    };
    let built = built?;
    for (mount, count) in hidden {
        let files = magrathea_core::units::count(count, "file");
        reporter.warn(format!(
            "{files} of the release below {} only fill the storage once; later changes to them are hidden by the mount",
            mount.display()
        ));
    }
    Ok(built)
}

/// Whether the engine stopped reading: then it says why itself.
fn is_closed(error: &TreeError) -> bool {
    matches!(error, TreeError::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Hands what is written on to the engine, in chunks.
pub struct ChunkWriter {
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
    open: BytesMut,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.open.extend_from_slice(bytes);
        if self.open.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let closed = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.chunks.blocking_send(Ok(self.open.split().freeze())).map_err(closed)
    }
}
