//! Varnish: each instance's VCL under its own label, below one main VCL that dispatches.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::manifest::ProxyKind;
use magrathea_core::plan::{CacheSpec, NodeFolder};

use super::Caches;
use super::vcl::{FOLDER, Loaded, label_name, main_name, parse_list, render_main, render_start, vcl_name};
use crate::fail::{Outcome, node, refused};
use crate::folders;

/// How long a change waits for a Varnish that is starting.
const START: Duration = Duration::from_secs(20);

/// Loads an instance's VCL and points its label to it; nothing changes when varnishd refuses the text.
pub async fn ensure(caches: &Caches, spec: &CacheSpec) -> Outcome<bool> {
    let admin = Admin::find(caches).await?;
    let (name, label) = (vcl_name(&spec.slug, &spec.text), label_name(&spec.slug));
    let loaded = admin.list().await?;
    if loaded.iter().any(|l| l.name == label && l.target.as_deref() == Some(&name)) {
        return Ok(false);
    }
    let known = loaded.iter().any(|l| l.name == name);
    let file = caches.folders.node(NodeFolder::Varnish).join(format!("{name}.vcl"));
    folders::write_file(&file, spec.text.as_bytes(), 0o644)?;
    if !known && let Err(said) = admin.tell(&["vcl.load", &name, &format!("{FOLDER}/{name}.vcl")]).await? {
        folders::remove_file(&file)?;
        return Err(refused(format!("varnishd refuses the cache's configuration: {said}")));
    }
    admin.must(&["vcl.label", &label, &name]).await?;
    let mut specs = caches.specs(ProxyKind::Varnish);
    specs.retain(|held| held.slug != spec.slug);
    specs.push(spec.clone());
    settle(caches, &admin, &specs).await?;
    Ok(true)
}

/// Brings Varnish to what is stored: after its start, or when an instance has gone.
pub async fn sync(caches: &Caches) -> Outcome<bool> {
    let admin = Admin::find(caches).await?;
    let specs = caches.specs(ProxyKind::Varnish);
    let loaded = admin.list().await?;
    for spec in &specs {
        let (name, label) = (vcl_name(&spec.slug, &spec.text), label_name(&spec.slug));
        if loaded.iter().any(|l| l.name == label && l.target.as_deref() == Some(&name)) {
            continue;
        }
        let file = caches.folders.node(NodeFolder::Varnish).join(format!("{name}.vcl"));
        folders::write_file(&file, spec.text.as_bytes(), 0o644)?;
        if !loaded.iter().any(|l| l.name == name) {
            admin.must(&["vcl.load", &name, &format!("{FOLDER}/{name}.vcl")]).await?;
        }
        admin.must(&["vcl.label", &label, &name]).await?;
    }
    settle(caches, &admin, &specs).await?;
    Ok(true)
}

/// The main VCL for these instances, the file for the next start, and nothing that is no longer needed.
async fn settle(caches: &Caches, admin: &Admin<'_>, specs: &[CacheSpec]) -> Outcome<()> {
    let folder = caches.folders.node(NodeFolder::Varnish);
    let instances: BTreeMap<_, _> = specs.iter().map(|s| (s.slug.clone(), vcl_name(&s.slug, &s.text))).collect();
    let text = render_main(&instances.keys().cloned().collect::<Vec<_>>());
    let main = main_name(&text);
    folders::write_file(&folder.join(format!("{main}.vcl")), text.as_bytes(), 0o644)?;
    let loaded = admin.list().await?;
    if !loaded.iter().any(|l| l.name == main) {
        admin.must(&["vcl.load", &main, &format!("{FOLDER}/{main}.vcl")]).await?;
    }
    if !loaded.iter().any(|l| l.name == main && l.active) {
        admin.must(&["vcl.use", &main]).await?;
    }
    folders::write_file(&folder.join("start.cli"), render_start(&instances, &main).as_bytes(), 0o644)?;

    // The old main VCL refers to labels, and these to VCLs: discarded in this order. One that is still busy stays
    // until the next change.
    let rank = |l: &Loaded| match l.name.get(..2) {
        Some("l_") => 1,
        Some("v_") => 2,
        _ => 0,
    };
    let needed =
        |name: &str| name == main || instances.iter().any(|(slug, vcl)| name == vcl || name == label_name(slug));
    let mut stale: Vec<_> = loaded.iter().filter(|l| !needed(&l.name)).collect();
    stale.sort_by_key(|l| rank(l));
    for old in stale {
        if let Err(said) = admin.tell(&["vcl.discard", &old.name]).await? {
            tracing::debug!(vcl = old.name, said, "not discarded yet");
        }
    }
    for file in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.strip_suffix(".vcl").is_some_and(|name| !needed(name)) {
            folders::remove_file(&file.path())?;
        }
    }
    Ok(())
}

/// `varnishadm` in the running container.
struct Admin<'a> {
    caches: &'a Caches,
    container: String,
}

impl<'a> Admin<'a> {
    /// Waits for a Varnish that answers.
    async fn find(caches: &'a Caches) -> Outcome<Self> {
        let give_up = tokio::time::Instant::now() + START;
        loop {
            if let Some(container) = caches.engine.role_container("varnish").await? {
                let admin = Admin { caches, container };
                if matches!(admin.tell(&["ping"]).await, Ok(Ok(_))) {
                    return Ok(admin);
                }
            }
            if tokio::time::Instant::now() > give_up {
                return Err(node("Varnish is not running"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn list(&self) -> Outcome<Vec<Loaded>> {
        Ok(parse_list(&self.must(&["vcl.list"]).await?))
    }

    /// What Varnish says, or why it refuses.
    async fn tell(&self, command: &[&str]) -> Outcome<Result<String, String>> {
        let said = self.caches.engine.exec(&self.container, &[&["varnishadm"], command].concat(), None).await?;
        Ok(if said.code == 0 { Ok(said.out) } else { Err(said.all()) })
    }

    async fn must(&self, command: &[&str]) -> Outcome<String> {
        let doing = command.first().unwrap_or(&"");
        self.tell(command).await?.map_err(|said| refused(format!("varnish, {doing}: {said}")))
    }
}
