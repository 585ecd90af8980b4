//! Layer 1: the instance's writable folders, filled once from the release; everything else is read-only.

use std::path::Path;

use magrathea_core::manifest::{Stack, WritableKind};
use magrathea_core::names::{Layer, WEB};
use magrathea_core::plan::{
    AssetsSpec, MountSource, MountSpec, NetworkSpec, Resource, SeedSpec, Spec, StorageMount, StorageSpec, TmpfsSpec,
    hash_text,
};
use magrathea_core::units::ByteSize;

use crate::app::{document_root, service_name};
use crate::spread::{is_spread, plan_crossing};
use crate::{InstanceInput, LayerError, check, resource};

/// Where the release's code is in its container.
pub const CODE: &str = "/app";
/// Most memory that one `tmp` path may use.
const TMP_SIZE: ByteSize = ByteSize::mib(64);
const ASSETS_MOUNT: &str = "assets";
/// Where earlier releases' files are found, by the path under which they were served.
pub const ASSETS: &str = "/var/lib/magrathea/assets";
/// Where PHP keeps uploads while they come in: on disk, so that their size is not a matter of memory.
pub const SCRATCH: &str = "/var/tmp";

/// The writable paths, as storage keeps them and as a replica sees them.
pub struct Writable {
    pub mounts: Vec<StorageMount>,
    pub service_mounts: Vec<MountSpec>,
    pub tmpfs: Vec<TmpfsSpec>,
}

pub fn plan_storage(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    // The network is not storage, but every later layer's services are attached to it, so it is laid first.
    let mut resources = vec![resource(Layer::Storage, "network", Spec::Network(NetworkSpec { name: input.slug() }))];
    // Nor is the way into it, through which new replicas are asked how they are.
    resources.extend(plan_crossing(input)?);
    let mounts = plan_writable(input)?.mounts;
    if !mounts.is_empty() {
        let assets: Vec<_> = mounts.iter().filter(|mount| mount.name == ASSETS_MOUNT).cloned().collect();
        let storage = StorageSpec {
            slug: input.slug(),
            driver: input.cluster.storage.driver,
            base: input.cluster.storage.path.clone(),
            quota: input.sections.storage.quota,
            uid: input.uid,
            mounts,
            spread: is_spread(input),
        };
        resources.push(resource(Layer::Storage, "files", Spec::Storage(storage.clone())));
        if !assets.is_empty() {
            let spec = AssetsSpec {
                storage: StorageSpec { mounts: assets, ..storage.clone() },
                service: service_name(input, WEB),
                image: input.image.to_owned(),
                root: document_root(input)?,
                leave_out: input.sections.storage.writable.keys().map(|path| format!("{CODE}/{path}")).collect(),
                keep: input.sections.app_layer.keep_assets,
            };
            resources.push(resource(Layer::Storage, "assets", Spec::Assets(spec)));
        }
        let of_the_release = storage.mounts.iter().filter(|mount| !mount.path.is_empty()).cloned().collect::<Vec<_>>();
        if !of_the_release.is_empty() {
            let storage = StorageSpec { mounts: of_the_release, ..storage };
            let seed = SeedSpec { storage, image: input.image.to_owned() };
            resources.push(resource(Layer::Storage, "seed", Spec::Seed(seed)));
        }
    }
    Ok(resources)
}

/// Sorts the manifest's writable paths by where they live.
pub fn plan_writable(input: &InstanceInput<'_>) -> Result<Writable, LayerError> {
    let mut out = Writable { mounts: Vec::new(), service_mounts: Vec::new(), tmpfs: Vec::new() };
    for (given, writable) in &input.sections.storage.writable {
        let key = format!("storage.writable.{given}");
        let path = check::relative_path(&key, given)?;
        if path.is_empty() {
            return Err(LayerError::new(&key, "the whole repository cannot be writable")
                .hint("name the folders that the app writes to"));
        }
        let target = format!("{CODE}/{path}");
        if writable.kind == WritableKind::Tmp {
            out.tmpfs.push(TmpfsSpec { target, size: TMP_SIZE, mode: 0o1777 });
            continue;
        }
        let mount = StorageMount {
            name: mount_name(path),
            path: path.to_owned(),
            shared: writable.kind == WritableKind::Shared,
        };
        out.service_mounts.push(mounted(input, &mount, target));
        out.mounts.push(mount);
    }
    if keeps_assets(input) {
        let assets = StorageMount { name: ASSETS_MOUNT.into(), path: String::new(), shared: true };
        out.service_mounts.push(MountSpec { read_only: true, ..mounted(input, &assets, ASSETS.to_owned()) });
        out.mounts.push(assets);
    }
    if input.stack == Stack::Php {
        let scratch = StorageMount { name: "scratch".into(), path: String::new(), shared: false };
        out.service_mounts.push(mounted(input, &scratch, SCRATCH.to_owned()));
        out.mounts.push(scratch);
    }
    Ok(out)
}

/// Whether what is served may be asked for after its release is gone, by the web server that can answer it.
pub fn keeps_assets(input: &InstanceInput<'_>) -> bool {
    input.stack != Stack::Tomcat && !input.sections.app_layer.keep_assets.0.is_zero()
}

fn mounted(input: &InstanceInput<'_>, mount: &StorageMount, target: String) -> MountSpec {
    let (slug, base) = (input.slug(), input.cluster.storage.path.clone());
    let source = MountSource::Storage { slug, base, mount: mount.name.clone() };
    MountSpec { source, target, read_only: false }
}

/// A folder name that can be read, and that no other path of the instance has.
fn mount_name(path: &str) -> String {
    let last = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let readable: String = last.chars().filter(|c| c.is_ascii_alphanumeric()).take(24).collect();
    let hash: String = hash_text(path).chars().take(8).collect();
    if readable.is_empty() { hash } else { format!("{readable}-{hash}") }
}
