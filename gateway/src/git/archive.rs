//! A commit's files as a tar, while its objects may still be in quarantine. The real `git archive`, as td uses it, so that a
//! push and `td app deploy` make the same release.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use git2::Oid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio_util::io::ReaderStream;

use super::command::git;

/// Bytes read at once.
const CHUNK: usize = 128 << 10;

/// The commit's files; the stream ends with an error when git fails.
pub fn export(
    base: &Path,
    repository: &Path,
    quarantine: Option<&Path>,
    commit: Oid,
) -> anyhow::Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>> {
    let mut command = git(base, &["archive", "--format=tar"]);
    command.arg(commit.to_string()).env("GIT_DIR", repository).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(quarantine) = quarantine {
        command.env("GIT_OBJECT_DIRECTORY", quarantine);
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", repository.join("objects"));
    }
    let mut child = command.spawn().context("cannot run git archive")?;
    let output = child.stdout.take().context("git archive has an output")?;
    let running = Some((child, ReaderStream::with_capacity(output, CHUNK)));
    Ok(Box::pin(stream::unfold(running, step)))
}

type Running = Option<(Child, ReaderStream<ChildStdout>)>;

async fn step(running: Running) -> Option<(std::io::Result<Bytes>, Running)> {
    let (mut child, mut output) = running?;
    if let Some(piece) = output.next().await {
        return Some((piece, Some((child, output))));
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut said).await;
    }
    match child.wait().await {
        Ok(status) if status.success() => None,
        Ok(status) => {
            Some((Err(std::io::Error::other(format!("git archive ended with {status}: {}", said.trim()))), None))
        }
        Err(error) => Some((Err(error), None)),
    }
}
