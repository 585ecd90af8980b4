//! Release images: the source on top of the stack's image, after the build's commands ran on it.

mod blob;
mod commands;
mod disk;
mod image;
mod lines;
mod tree;

use magrathea_core::units::{ByteSize, size};
use magrathea_core::wire::{ActionErrorKind, Build, Built};
use tokio_util::sync::CancellationToken;

pub use blob::Blobs;
pub use lines::Lines;

use crate::engine::Engine;
use crate::fail::{Outcome, fail, with_hint};
use crate::folders::Folders;
use crate::reporter::Reporter;

/// With less than this, nothing is built.
const LEFT_FREE: ByteSize = ByteSize::mib(512);

/// Makes a release image.
pub async fn build(
    engine: &Engine,
    folders: &Folders,
    blobs: &Blobs,
    wanted: &Build,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Outcome<Built> {
    check_room(folders)?;
    let source = blobs.fetch(&folders.builds(), &wanted.source).await?;
    if wanted.commands.is_empty() {
        image::from_source(engine, wanted, source, reporter).await
    } else {
        commands::build(engine, folders, wanted, source, reporter, cancel).await
    }
}

/// What serves writes logs and files: a build is not to take the last of the disk.
fn check_room(folders: &Folders) -> Outcome<()> {
    let free = folders.disk()?.free;
    match free < LEFT_FREE.bytes() {
        true => Err(with_hint(
            fail(ActionErrorKind::DiskFull, format!("the node's disk is nearly full: {} is free", size(free))),
            "tell whoever runs the node; what serves goes on, and rollbacks work",
        )),
        false => Ok(()),
    }
}

/// At a start: what an agent before this one left half-done goes; caches stay.
pub async fn tidy(engine: &Engine, folders: &Folders) -> Outcome<()> {
    for kind in ["build", "seed", "check"] {
        engine.remove_one_offs(kind).await?;
    }
    engine.remove_half_made().await?;
    disk::release_all(&folders.builds()).await?;
    blob::remove_all(&folders.builds())
}

/// Unmounts the disks of builds.
pub async fn release_disks(folders: &Folders) -> Outcome<()> {
    disk::release_all(&folders.builds()).await
}
