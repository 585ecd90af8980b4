//! First content of mounts: what the release itself has at their place, copied as the instance's user.

use std::fmt::Write;
use std::time::Duration;

use magrathea_core::plan::{Limits, SeedSpec};
use magrathea_core::units::ByteSize;
use magrathea_core::wire::ActionErrorKind;

use super::folder;
use crate::engine::{Ended, Engine, OneOff};
use crate::fail::{Outcome, fail};
use crate::folders::Folders;

const LIMIT: Duration = Duration::from_secs(300);

/// Seeds the mounts that have no marker yet.
pub async fn seed(engine: &Engine, folders: &Folders, spec: &SeedSpec) -> Outcome<bool> {
    let storage = &spec.storage;
    let instance = folders.storage(&storage.slug, storage.base.as_deref());
    let marker = |name: &str| format!(".seeded-{name}");
    let fresh: Vec<_> = storage.mounts.iter().filter(|m| !folder::has_marker(&instance, &marker(&m.name))).collect();
    if fresh.is_empty() {
        return Ok(false);
    }
    // A call that was cancelled leaves its container at work.
    engine.remove_one_offs_of("seed", &storage.slug).await?;
    let mut script = String::from("set -e\n");
    for (n, mount) in fresh.iter().enumerate() {
        let path = mount.path.replace('\'', "'\\''");
        // What a run that was cut off has copied stays.
        let _ = writeln!(script, "if [ -d '/app/{path}' ]; then cp -a --update=none '/app/{path}/.' /seed/{n}/; fi");
    }
    let one_off = OneOff {
        kind: "seed",
        key: Some(storage.slug.clone()),
        image: spec.image.clone(),
        command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
        user: Some(format!("{0}:{0}", storage.uid)),
        binds: fresh.iter().enumerate().map(|(n, m)| (instance.join(&m.name), format!("/seed/{n}"), false)).collect(),
        limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: None, pids: Some(64) },
        ..OneOff::default()
    };
    let mut said = Vec::new();
    let ended = engine.run_one_off(&one_off, LIMIT, |bytes| said.extend_from_slice(bytes)).await?;
    if !matches!(ended, Ended::Exited { code: 0, .. }) {
        let mut error =
            fail(ActionErrorKind::Node, "the release's own files could not be copied into its writable paths");
        error.log_tail = String::from_utf8_lossy(&said).lines().rev().take(30).map(str::to_owned).collect();
        error.log_tail.reverse();
        return Err(error);
    }
    fresh.iter().try_for_each(|mount| folder::make_marker(&instance, &marker(&mount.name)))?;
    Ok(true)
}
