//! Writable paths: a folder per instance and mount, owned by the instance's own user.

mod assets;
pub mod btrfs;
mod folder;
mod seed;

use std::path::{Path, PathBuf};

use magrathea_core::clusters::StorageDriver;
use magrathea_core::plan::{AssetsSpec, SeedSpec, StorageSpec};
use serde::{Deserialize, Serialize};

pub use self::btrfs::is_subvolume;
use crate::engine::{Engine, is_slug};
use crate::fail::{Outcome, internal};
use crate::folders::{self, Folders};

/// Storage that lies outside the agent's folder, remembered so that a clean-up finds it.
#[derive(Debug, Serialize, Deserialize)]
struct Outside {
    folder: PathBuf,
    driver: StorageDriver,
}

/// Makes an instance's storage. Says whether anything was missing.
pub async fn ensure(folders: &Folders, spec: &StorageSpec) -> Outcome<bool> {
    if spec.mounts.iter().any(|mount| !is_plain(&mount.name)) || !is_plain(&spec.slug) {
        return Err(internal("a mount's name is not one"));
    }
    let instance = folders.storage(&spec.slug, spec.base.as_deref());
    if spec.base.is_some() {
        let record = Outside { folder: instance.clone(), driver: spec.driver };
        folders::store(&outside_file(folders, &spec.slug), &record)?;
    }
    let mut changed = match spec.driver {
        StorageDriver::Directory => folder::ensure_root_folder(&instance)?,
        StorageDriver::Btrfs => btrfs::ensure_subvolume(&instance, spec.quota).await?,
    };
    for mount in &spec.mounts {
        changed |= folder::ensure_owned_folder(&instance, &mount.name, spec.uid)?;
    }
    Ok(changed)
}

/// Fills mounts that never were with what the release has at their place. Says whether there was one.
pub async fn seed(engine: &Engine, folders: &Folders, spec: &SeedSpec) -> Outcome<bool> {
    ensure(folders, &spec.storage).await?;
    seed::seed(engine, folders, spec).await
}

/// Keeps a release's assets. Says whether it had any that were not kept yet.
pub async fn keep_assets(engine: &Engine, folders: &Folders, spec: &AssetsSpec) -> Outcome<bool> {
    ensure(folders, &spec.storage).await?;
    assets::keep(engine, folders, spec).await
}

/// Every instance that has storage on this node, and where.
pub fn list(folders: &Folders) -> Vec<(String, PathBuf)> {
    let own = std::fs::read_dir(folders.root().join("storage")).into_iter().flatten().flatten();
    let outside = folders::load_all::<Outside>(&folders.state("storage")).into_iter().map(|record| record.folder);
    let named = |folder: PathBuf| {
        let slug = folder.file_name()?.to_str().filter(|name| is_slug(name))?.to_owned();
        folder.is_dir().then_some((slug, folder))
    };
    own.map(|entry| entry.path()).chain(outside).filter_map(named).collect()
}

/// Destroys an instance's storage. Says whether there was any.
pub async fn destroy(folders: &Folders, spec: &StorageSpec) -> Outcome<bool> {
    if !is_plain(&spec.slug) {
        return Err(internal("an instance's name is not one"));
    }
    let instance = folders.storage(&spec.slug, spec.base.as_deref());
    let removed = remove_tree(&instance, spec.driver).await?;
    folders::remove_file(&outside_file(folders, &spec.slug))?;
    Ok(removed)
}

/// Destroys the storage of all instances, also what lies outside the agent's folder.
pub async fn destroy_all(folders: &Folders) -> Outcome<()> {
    for record in folders::load_all::<Outside>(&folders.state("storage")) {
        remove_tree(&record.folder, record.driver).await?;
    }
    for entry in std::fs::read_dir(folders.root().join("storage")).into_iter().flatten().flatten() {
        // A subvolume of the agent's own folder goes like one outside it.
        if is_subvolume(&entry.path()) {
            btrfs::remove_subvolume(&entry.path()).await?;
        }
    }
    Ok(())
}

async fn remove_tree(folder: &Path, driver: StorageDriver) -> Outcome<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    match driver {
        StorageDriver::Directory => folder::remove_folder(folder)?,
        StorageDriver::Btrfs => btrfs::remove_subvolume(folder).await?,
    }
    Ok(true)
}

fn outside_file(folders: &Folders, slug: &str) -> PathBuf {
    folders.state("storage").join(format!("{slug}.json"))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
