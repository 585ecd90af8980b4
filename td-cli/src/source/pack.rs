//! The archive that is uploaded: tar, compressed with zstd while it is being sent. Nothing is written to disk.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use futures_util::stream;
use tokio::sync::mpsc;

use super::{Kind, git, tree};

/// Speed before size: an upload is compressed once and read once.
const LEVEL: i32 = 1;
const BLOCK: usize = 512;

/// How much was sent, as it grows.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<AtomicU64>);

impl Sent {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of an upload. What goes wrong while packing is told through `failed` and breaks the upload off, so that
/// the gateway never takes half a source for a whole one.
pub fn archive(kind: &Kind, sent: Sent, failed: mpsc::Sender<anyhow::Error>) -> reqwest::Body {
    let (sender, mut receiver) = mpsc::channel(8);
    let kind = kind.clone();
    tokio::task::spawn_blocking(move || {
        let pipe = Pipe { sender: sender.clone(), sent };
        if let Err(error) = pack(&kind, pipe) {
            let _ = failed.try_send(error);
            let _ = sender.blocking_send(Err(io::Error::other("the source could not be read")));
        }
    });
    reqwest::Body::wrap_stream(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

fn pack(kind: &Kind, pipe: Pipe) -> anyhow::Result<()> {
    let mut encoder = zstd::Encoder::new(pipe, LEVEL)?;
    match kind {
        Kind::Commit { folder, commit } => pack_commit(folder, commit, &mut encoder)?,
        Kind::Folder { folder, repository } => tree::pack(folder, *repository, &mut encoder)?,
    }
    encoder.finish()?;
    Ok(())
}

/// `git archive` run in the app's folder archives that folder alone, honouring `export-ignore`.
fn pack_commit(folder: &Path, commit: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let mut git = git::command(folder)
        .args(["archive", "--format=tar", commit])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("git cannot be started")?;
    let mut tar = git.stdout.take().context("git has no stdout")?;
    let copied = copy_without_global_header(&mut tar, out)?;
    drop(tar);
    let end = git.wait_with_output()?;
    // Older gits refuse to archive a folder that the commit does not know, newer ones make an empty archive.
    let error = String::from_utf8_lossy(&end.stderr);
    if end.status.success() && copied == 0 || error.contains("current working directory is untracked") {
        bail!("{} has no files in the commit; commit them, or send the folder with --dirty", folder.display());
    }
    if !end.status.success() {
        bail!("git archive: {}", error.trim());
    }
    Ok(())
}

/// Git opens an archive with a pax header that holds the commit's id. It travels in the query; left out, equal trees
/// give equal archives. Tells how many bytes there were, 0 for an archive without entries.
fn copy_without_global_header(tar: &mut impl Read, out: &mut impl Write) -> io::Result<u64> {
    let Some(mut header) = read_block(tar)? else { return Ok(0) };
    let parsed = tar::Header::from_byte_slice(&header);
    if parsed.entry_type().is_pax_global_extensions() {
        let padded = parsed.entry_size()?.next_multiple_of(BLOCK as u64);
        io::copy(&mut tar.take(padded), &mut io::sink())?;
        match read_block(tar)? {
            Some(next) => header = next,
            None => return Ok(0),
        }
    }
    // An archive ends with blocks of zeros.
    let empty = header.iter().all(|byte| *byte == 0);
    out.write_all(&header)?;
    let rest = io::copy(tar, out)?;
    Ok(if empty { 0 } else { rest + BLOCK as u64 })
}

fn read_block(tar: &mut impl Read) -> io::Result<Option<[u8; BLOCK]>> {
    let mut block = [0; BLOCK];
    match tar.read_exact(&mut block) {
        Ok(()) => Ok(Some(block)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Hands blocks to the upload; blocks while the network is slower than the disk.
struct Pipe {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    sent: Sent,
}

impl Write for Pipe {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        self.sender.blocking_send(Ok(block.to_vec())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent.0.fetch_add(block.len() as u64, Ordering::Relaxed);
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
