//! Sources, fetched from the gateway and checked by their hash.

use std::path::Path;

use futures_util::StreamExt;
use magrathea_core::wire::{ActionErrorKind, Blob};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::fail::{Doing, Outcome, fail, internal, node};

const START: &str = "source-";

/// Where blobs come from.
#[derive(Debug, Clone)]
pub enum Blobs {
    /// `https://HOST:PORT` of the gateway's agent listener, with a client that shows the agent's certificate.
    Gateway { client: reqwest::Client, base: String },
    /// A folder of files named by their hash: for tests.
    Folder(std::path::PathBuf),
}

impl Blobs {
    /// Fetches a blob into a file of the folder, which goes when it is dropped.
    pub async fn fetch(&self, into: &Path, blob: &Blob) -> Outcome<NamedTempFile> {
        if blob.sha256.len() != 64 || !blob.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(internal("a blob's name is not a hash"));
        }
        let doing = || "fetching the source".to_owned();
        let file = tempfile::Builder::new().prefix(START).tempfile_in(into).doing(doing)?;
        match self {
            Blobs::Folder(folder) => {
                std::fs::copy(folder.join(&blob.sha256), file.path()).doing(doing)?;
            }
            Blobs::Gateway { client, base } => {
                let url = format!("{base}/agent/v1/blobs/{}", blob.sha256);
                let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
                let mut stream = answer.map_err(|error| node(format!("fetching the source: {error}")))?.bytes_stream();
                let mut writer = tokio::fs::File::from_std(file.reopen().doing(doing)?);
                let (mut hasher, mut size) = (Sha256::new(), 0_u64);
                while let Some(chunk) = stream.next().await {
                    let chunk = chunk.map_err(|error| node(format!("fetching the source: {error}")))?;
                    size += chunk.len() as u64;
                    if size > blob.size {
                        return Err(node("fetching the source: more came than was announced"));
                    }
                    hasher.update(&chunk);
                    writer.write_all(&chunk).await.map_err(|error| match error.kind() {
                        std::io::ErrorKind::StorageFull => fail(ActionErrorKind::Node, "the node's disk is full"),
                        _ => node(format!("fetching the source: {error}")),
                    })?;
                }
                writer.flush().await.doing(doing)?;
                if hex::encode(hasher.finalize()) != blob.sha256.to_ascii_lowercase() || size != blob.size {
                    return Err(node("fetching the source: what came is not what was announced"));
                }
            }
        }
        Ok(file)
    }
}

/// Removes sources and images on their way that an agent before this one left.
pub fn remove_all(folder: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(START) || name.starts_with(crate::images::START) {
            crate::folders::remove_file(&entry.path())?;
        }
    }
    Ok(())
}
