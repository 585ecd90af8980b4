//! Builds with commands: in a container of the builder image, as nobody in particular, on a disk of the app's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use magrathea_core::units::Span;
use magrathea_core::wire::{ActionError, ActionErrorKind, Build, BuildCommand, Built};
use tempfile::NamedTempFile;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::{BUILDER, Disk};
use super::{Lines, image, tree};
use crate::engine::{Ended, Engine, OneOff};
use crate::fail::{Doing, Outcome, cancelled, fail, internal, refused};
use crate::folders::Folders;
use crate::reporter::Reporter;

/// The size of a build's `/tmp`.
const TMP: u64 = 1 << 30;

/// Runs the commands, then makes the image. Disk and container are gone when this returns.
pub async fn build(
    engine: &Engine,
    folders: &Folders,
    wanted: &Build,
    source: NamedTempFile,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Outcome<Built> {
    let disk = Disk::mount(&folders.builds(), &wanted.cache, wanted.disk).await?;
    let outcome = tokio::select! {
        () = cancel.cancelled() => Err(cancelled()),
        outcome = build_on(engine, wanted, source, reporter, &disk) => outcome,
    };
    // A container that was cut off holds the disk.
    if cancel.is_cancelled() {
        engine.remove_one_offs_of("build", &wanted.cache).await?;
    }
    disk.release().await?;
    outcome
}

async fn build_on(
    engine: &Engine,
    wanted: &Build,
    source: NamedTempFile,
    reporter: &Reporter,
    disk: &Disk,
) -> Outcome<Built> {
    let file = source.reopen().doing(|| "reading the source".into())?;
    let work = disk.work.clone();
    let unpacked = tokio::task::spawn_blocking(move || {
        tree::unpack(file, &work)?;
        give_away(&work)?;
        Ok::<_, tree::TreeError>(())
    });
    if let Err(error) = unpacked.await.map_err(|error| internal(format!("unpacking the source: {error}")))? {
        return Err(if disk.is_full() { disk_full(wanted) } else { refused(error.to_string()) });
    }
    drop(source);
    let give_up = Instant::now() + wanted.timeout.0;
    for command in &wanted.commands {
        run(engine, wanted, command, reporter, disk, give_up).await?;
    }
    let output = output_folder(&disk.work, wanted.output.as_deref())?;
    image::from_folder(engine, wanted, output, reporter).await
}

async fn run(
    engine: &Engine,
    wanted: &Build,
    command: &BuildCommand,
    reporter: &Reporter,
    disk: &Disk,
    give_up: Instant,
) -> Outcome<()> {
    reporter.log(format!("$ {}", command.title));
    let network = if command.network { Some(engine.ensure_build_bridge().await?) } else { None };
    let mut env = wanted.env.clone();
    env.entry("HOME".into()).or_insert_with(|| "/cache/home".into());
    let one_off = OneOff {
        kind: "build",
        key: Some(wanted.cache.clone()),
        image: wanted.builder_image.clone(),
        command: ["/bin/sh", "-ec", &command.run].map(str::to_owned).to_vec(),
        user: Some(format!("{BUILDER}:{BUILDER}")),
        folder: Some("/app".into()),
        env,
        binds: vec![(disk.work.clone(), "/app".into(), false), (disk.cache.clone(), "/cache".into(), false)],
        tmpfs: vec![("/tmp".into(), TMP)],
        limits: wanted.limits.clone(),
        network,
    };
    let mut lines = Lines::default();
    let left = give_up.saturating_duration_since(Instant::now());
    let ended = engine.run_one_off(&one_off, left, |bytes| lines.push(bytes, |line| reporter.log(line))).await?;
    lines.finish(|line| reporter.log(line));
    let mut error = match ended {
        Ended::Exited { code: 0, .. } => return Ok(()),
        Ended::TimedOut => timed_out(wanted.timeout.0),
        Ended::Exited { out_of_memory: true, .. } => fail(ActionErrorKind::OutOfMemory, out_of_memory(command, wanted)),
        Ended::Exited { .. }
            if disk.is_full() || lines.tail().iter().any(|l| l.contains("No space left on device")) =>
        {
            disk_full(wanted)
        }
        Ended::Exited { code, .. } => {
            fail(ActionErrorKind::CommandFailed, format!("{} ended with status {code}", command.title))
        }
    };
    error.log_tail = lines.tail();
    Err(error)
}

fn timed_out(limit: Duration) -> ActionError {
    fail(ActionErrorKind::TimedOut, format!("the build took longer than {}", Span(limit)))
}

fn out_of_memory(command: &BuildCommand, wanted: &Build) -> String {
    let limit = wanted.limits.memory.map_or_else(|| "it may".to_owned(), |size| size.to_string());
    format!("{} needed more memory than {limit}", command.title)
}

fn disk_full(wanted: &Build) -> ActionError {
    fail(ActionErrorKind::DiskFull, format!("the build filled its disk of {}", wanted.disk))
}

/// The folder that becomes the release; a step of it that the build made a link is refused.
fn output_folder(work: &Path, output: Option<&str>) -> Outcome<PathBuf> {
    let mut folder = work.to_owned();
    for step in output.unwrap_or_default().split('/').filter(|step| !matches!(*step, "" | ".")) {
        folder.push(step);
        let plain = std::fs::symlink_metadata(&folder).is_ok_and(|held| held.is_dir());
        if step == ".." || !plain {
            let shown = output.unwrap_or_default();
            return Err(fail(ActionErrorKind::CommandFailed, format!("the build made no folder {shown}")));
        }
    }
    Ok(folder)
}

/// Makes the builder's user the owner of everything.
fn give_away(folder: &Path) -> std::io::Result<()> {
    std::os::unix::fs::lchown(folder, Some(BUILDER), Some(BUILDER))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_away(&entry.path())?;
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(BUILDER), Some(BUILDER))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_a_folder_inside() {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(work.path().join("target/app")).unwrap();
        std::os::unix::fs::symlink("/etc", work.path().join("out")).unwrap();
        assert_eq!(output_folder(work.path(), Some("target/app")).unwrap(), work.path().join("target/app"));
        assert_eq!(output_folder(work.path(), None).unwrap(), work.path());
        for bad in ["out", "missing", "target/../../x"] {
            assert!(output_folder(work.path(), Some(bad)).is_err(), "{bad}");
        }
    }
}
