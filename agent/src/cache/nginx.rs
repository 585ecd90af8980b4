//! nginx: a `server` block per instance, read by the real program before it is used.

use std::path::PathBuf;

use magrathea_core::plan::{CacheSpec, NodeFolder};

use super::Caches;
use crate::fail::{Outcome, node, refused};
use crate::folders;

/// Writes an instance's block and reloads; when nginx refuses it, the old one is put back.
pub async fn ensure(caches: &Caches, spec: &CacheSpec) -> Outcome<bool> {
    let file = block(caches, &spec.slug);
    let before = std::fs::read(&file).ok();
    if !folders::write_file(&file, spec.text.as_bytes(), 0o644)? {
        return Ok(false);
    }
    let Err(error) = reload(caches).await else { return Ok(true) };
    match before {
        Some(before) => drop(folders::write_file(&file, &before, 0o644)?),
        None => drop(folders::remove_file(&file)?),
    }
    Err(error)
}

/// Takes an instance's block away.
pub async fn remove(caches: &Caches, slug: &str) -> Outcome<()> {
    if folders::remove_file(&block(caches, slug))? {
        reload(caches).await?;
    }
    Ok(())
}

async fn reload(caches: &Caches) -> Outcome<()> {
    let container = caches.engine.role_container("nginx").await?.ok_or_else(|| node("nginx is not running"))?;
    for arguments in [&["-t", "-q"][..], &["-s", "reload"]] {
        let command = [&["nginx", "-e", "stderr", "-c", "/etc/magrathea/nginx.conf"], arguments].concat();
        let said = caches.engine.exec(&container, &command, None).await?;
        if said.code != 0 {
            return Err(refused(format!("nginx refuses the cache's configuration: {}", said.all())));
        }
    }
    Ok(())
}

fn block(caches: &Caches, slug: &str) -> PathBuf {
    caches.folders.node(NodeFolder::Nginx).join("instances").join(format!("{slug}.conf"))
}
