//! Files whose names hold a hash, kept beyond their release, copied as the instance's user. A copy is the release's own file:
//! replicas see the folder read-only.

use std::time::Duration;

use magrathea_core::plan::{AssetsSpec, Limits};
use magrathea_core::units::ByteSize;

use super::folder;
use crate::engine::{Ended, Engine, OneOff};
use crate::fail::{Outcome, node};
use crate::folders::Folders;

const LIMIT: Duration = Duration::from_secs(120);
/// Larger files are not kept.
const MOST_BYTES: &str = "-33554432c";
/// What the markers' names begin with.
const MARKER: &str = ".assets-";

/// A word of eight or more between a dot or hyphen and the ending.
const WORD: &str =
    r".*[.-][A-Za-z0-9_-]{8,}\.(css|js|mjs|map|json|svg|png|jpe?g|gif|webp|avif|ico|woff2?|ttf|wasm|css\.map|js\.map)";
/// A word with a digit or a capital in it: a hash rather than a word of some language.
const HASH: &str = r".*[.-][A-Za-z_]*[0-9A-Z][A-Za-z0-9_-]*\.[a-z0-9]+(\.map)?";

/// Keeps them, unless that was done; those that no release had for long go.
pub async fn keep(engine: &Engine, folders: &Folders, spec: &AssetsSpec) -> Outcome<bool> {
    let storage = &spec.storage;
    let Some(mount) = storage.mounts.first() else { return Ok(false) };
    let instance = folders.storage(&storage.slug, storage.base.as_deref());
    let marker = format!("{MARKER}{}", spec.image.trim_start_matches("sha256:").get(..24).unwrap_or("none"));
    if folder::has_marker(&instance, &marker) {
        return Ok(false);
    }
    let has_any = has_any(engine, spec).await?;
    if has_any {
        engine.remove_one_offs_of("assets", &storage.slug).await?;
        let one_off = OneOff {
            kind: "assets",
            key: Some(storage.slug.clone()),
            image: spec.image.clone(),
            command: ["/bin/sh", "-c", &copy_script(spec)].map(str::to_owned).to_vec(),
            user: Some(format!("{0}:{0}", storage.uid)),
            binds: vec![(instance.join(&mount.name), "/assets".to_owned(), false)],
            limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: None, pids: Some(64) },
            ..OneOff::default()
        };
        let mut said = Vec::new();
        let ended = engine.run_one_off(&one_off, LIMIT, |bytes| said.extend_from_slice(bytes)).await?;
        if !matches!(ended, Ended::Exited { code: 0, .. }) {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            return Err(node(format!("the release's assets could not be kept: {said}")));
        }
    }
    folder::make_marker(&instance, &marker)?;
    for other in folder::markers(&instance, MARKER) {
        // One release's is enough: coming back, another's assets count as fresh again.
        if other != marker {
            folder::remove_marker(&instance, &other)?;
        }
    }
    Ok(has_any)
}

/// Asked in a replica, which takes less than a container of its own; most apps have none.
async fn has_any(engine: &Engine, spec: &AssetsSpec) -> Outcome<bool> {
    let running = engine.running(&spec.service).await?;
    // All of the release's replicas may be on other nodes: then a container looks.
    let Some(replica) = running.first() else { return Ok(true) };
    let script = format!("cd {} && {} -print -quit", quoted(&spec.root), find(spec));
    let said = engine.exec(&replica.container, &["/bin/sh", "-c", &script], None).await?;
    match said.code {
        0 => Ok(!said.out.is_empty()),
        code => Err(node(format!("looking for assets ended with status {code}: {}", said.err.trim()))),
    }
}

/// What a former release that comes back has is fresh again.
fn copy_script(spec: &AssetsSpec) -> String {
    let minutes = spec.keep.0.as_secs().div_ceil(60);
    format!(
        "set -e; cd {}; {find} -exec cp --parents --update=none -t /assets {{}} +; \
         {find} -exec sh -c 'cd /assets && touch -c -- \"$@\"' touch {{}} +; \
         find /assets -type f -mmin +{minutes} -delete",
        quoted(&spec.root),
        find = find(spec)
    )
}

fn find(spec: &AssetsSpec) -> String {
    let base = format!("{}/", spec.root.trim_end_matches('/'));
    let inside = spec.leave_out.iter().filter_map(|folder| folder.strip_prefix(&base));
    let pruned: String = inside.map(|folder| format!("-path {} -prune -o ", quoted(&format!("./{folder}")))).collect();
    format!(
        "find . -regextype posix-extended {pruned}-type f -size {MOST_BYTES} -regex {} -regex {}",
        quoted(WORD),
        quoted(HASH)
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use magrathea_core::clusters::StorageDriver;
    use magrathea_core::plan::StorageSpec;
    use magrathea_core::units::Span;

    use super::*;

    #[test]
    fn names_that_hold_a_hash_are_found() {
        let root = tempfile::tempdir().unwrap();
        let hashed = ["index-BfHw7kXQ.js", "build/main.3f2a9c1b.css", "a/logo-0a1b2c3d4e.svg", "v.5d41402a.js.map"];
        let plain =
            ["app.js", "bootstrap-4.3.1.min.js", "user-controller.js", "page-3f2a9c1b.php", "up loads/x-3f2a9c1b.png"];
        for name in hashed.iter().chain(&plain) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let folder = root.path().to_str().unwrap().to_owned();
        let spec = AssetsSpec {
            storage: StorageSpec {
                slug: "i0".into(),
                driver: StorageDriver::Directory,
                base: None,
                quota: None,
                uid: 0,
                mounts: Vec::new(),
                spread: false,
            },
            service: String::new(),
            image: String::new(),
            leave_out: vec![format!("{folder}/up loads"), "/elsewhere".into()],
            root: folder,
            keep: Span(Duration::from_secs(3600)),
        };
        let script = format!("cd {} && {} -print", quoted(&spec.root), find(&spec));
        let found = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(found.stdout).unwrap();
        let mut found: Vec<_> = text.lines().map(|line| line.trim_start_matches("./")).collect();
        found.sort_unstable();
        let mut wanted = hashed;
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }
}
