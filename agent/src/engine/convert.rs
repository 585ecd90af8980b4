//! From a plan's service to the engine's: a pure function, so that what runs can be read off a snapshot.

use std::collections::HashMap;

use bollard::models as m;
use magrathea_core::names::{Layer, ReleaseNumber};
use magrathea_core::plan::{ENV_SECRET, MountSource, NodeFolder, ServiceMode, ServiceNetwork, ServiceSpec};

use super::label;
use super::nodes::{layer_label, spread_label, zone_label};
use crate::config::Prefix;
use crate::folders::Folders;

/// A task that ended is started again after this long (nanoseconds)…
const RESTART_DELAY: i64 = 500_000_000;
/// …and counts as running once it has run for this long.
const RESTART_WINDOW: i64 = 5_000_000_000;

/// What a container says is kept by the engine until the log's collector has taken it over: enough to bridge a restart of
/// this agent under load.
const LOG_FILE: &str = "20m";
const LOG_FILES: &str = "4";

/// A rendered file that the engine holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyFile {
    pub id: String,
    pub name: String,
    pub target: String,
    pub mode: u32,
}

/// A secret that the engine holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadySecret {
    pub id: String,
    pub name: String,
}

/// The label of jobs that belong to a stream.
pub const HELD: &str = "held";

/// What a service needs that is made before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parts {
    pub files: Vec<ReadyFile>,
    pub secret_env: Option<ReadySecret>,
}

/// Whether a service runs for ever or a command once.
#[derive(Debug, Clone, Copy)]
pub enum Run<'a> {
    Service {
        layer: Layer,
        key: &'a str,
        hash: &'a str,
    },
    Once {
        name: &'a str,
        command: &'a str,
    },
    /// Nothing, for so many seconds: programs are started in it.
    Held {
        seconds: u64,
    },
}

impl Run<'_> {
    fn is_job(self) -> bool {
        !matches!(self, Run::Service { .. })
    }
}

/// Whose a service is, read from its name: `SLUG-TYPE-vRELEASE` for an instance's, anything else for a layer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub slug: Option<String>,
    pub release: Option<ReleaseNumber>,
}

impl Identity {
    pub fn of(service: &str) -> Self {
        let slug = service.split('-').next().filter(|slug| is_slug(slug)).map(str::to_owned);
        let number = service.rsplit_once("-v").and_then(|(_, number)| number.parse().ok());
        Identity { release: number.map(ReleaseNumber).filter(|_| slug.is_some()), slug }
    }

    /// The slug, or the service's own name: what its configs are named after.
    pub fn owner<'a>(&'a self, service: &'a str) -> &'a str {
        self.slug.as_deref().unwrap_or(service)
    }
}

/// The plan's name of the service that a container with these labels is a replica of; none of a job's.
pub fn service_of(labels: &HashMap<String, String>) -> Option<String> {
    if labels.contains_key(label::ONCE) {
        return None;
    }
    let (slug, key) = (labels.get(label::SLUG)?, labels.get(label::KEY)?);
    let process = key.rsplit('/').next()?;
    Some(match labels.get(label::RELEASE) {
        Some(release) => format!("{slug}-{process}-v{release}"),
        None => format!("{slug}-{process}"),
    })
}

pub fn is_slug(text: &str) -> bool {
    text.len() == 13 && text.starts_with('i') && text.bytes().skip(1).all(|b| b.is_ascii_hexdigit())
}

/// The engine's service for a plan's.
pub fn render_service(
    spec: &ServiceSpec,
    run: Run<'_>,
    parts: &Parts,
    prefix: &Prefix,
    folders: &Folders,
) -> m::ServiceSpec {
    let labels = labels(spec, run, prefix);
    let networks = match &spec.network {
        ServiceNetwork::Host => vec![attachment("host".into(), Vec::new())],
        // A task without a network is attached to the engine's default bridge.
        ServiceNetwork::Bridge => Vec::new(),
        ServiceNetwork::Instance { network, aliases } => {
            // A one-off answers to none of the service's names.
            let aliases = if run.is_job() { Vec::new() } else { aliases.clone() };
            vec![attachment(prefix.name(network), aliases)]
        }
    };
    let name = match run {
        Run::Service { .. } | Run::Held { .. } => prefix.name(&spec.name),
        Run::Once { name, .. } => prefix.name(name),
    };
    m::ServiceSpec {
        name: Some(name),
        labels: Some(labels.clone()),
        mode: Some(mode(spec, run)),
        // Layer services hold sockets and data folders: the old task must be gone before the new one starts.
        update_config: matches!(run, Run::Service { .. }).then(|| m::ServiceSpecUpdateConfig {
            order: Some(m::ServiceSpecUpdateConfigOrderEnum::STOP_FIRST),
            ..m::ServiceSpecUpdateConfig::default()
        }),
        endpoint_spec: Some(m::EndpointSpec { mode: Some(m::EndpointSpecModeEnum::DNSRR), ports: None }),
        task_template: Some(m::TaskSpec {
            container_spec: Some(container(spec, run, parts, labels, folders)),
            resources: Some(m::TaskSpecResources {
                limits: Some(m::Limit {
                    nano_cpus: spec.limits.millicpus.map(|milli| i64::from(milli) * 1_000_000),
                    memory_bytes: spec.limits.memory.and_then(|size| size.bytes().try_into().ok()),
                    pids: spec.limits.pids.map(i64::from),
                }),
                ..m::TaskSpecResources::default()
            }),
            restart_policy: Some(restart_policy(run)),
            placement: Some(m::TaskSpecPlacement {
                constraints: Some(vec![format!("node.labels.{} == true", place(spec, run, prefix))]),
                preferences: matches!(spec.mode, ServiceMode::Replicated(_)).then(|| vec![over_zones(prefix)]),
                ..m::TaskSpecPlacement::default()
            }),
            log_driver: Some(m::TaskSpecLogDriver {
                name: Some("json-file".into()),
                options: Some(HashMap::from(
                    [("max-size", LOG_FILE), ("max-file", LOG_FILES)].map(|(k, v)| (k.into(), v.into())),
                )),
            }),
            networks: Some(networks),
            ..m::TaskSpec::default()
        }),
        ..m::ServiceSpec::default()
    }
}

/// The label of the nodes that it may be on. A job is always where its agent is: on the manager, which carries all layers.
fn place(spec: &ServiceSpec, run: Run<'_>, prefix: &Prefix) -> String {
    match spec.spread && !run.is_job() {
        true => spread_label(prefix),
        false => layer_label(prefix, spec.on),
    }
}

/// Replicas are spread over zones first; over a zone's nodes Swarm spreads them by itself.
fn over_zones(prefix: &Prefix) -> m::TaskSpecPlacementPreferences {
    let spread_descriptor = Some(format!("node.labels.{}", zone_label(prefix)));
    m::TaskSpecPlacementPreferences { spread: Some(m::TaskSpecPlacementSpread { spread_descriptor }) }
}

fn container(
    spec: &ServiceSpec,
    run: Run<'_>,
    parts: &Parts,
    labels: HashMap<String, String>,
    folders: &Folders,
) -> m::TaskSpecContainerSpec {
    let args = match run {
        Run::Service { .. } => spec.command.clone(),
        Run::Once { command, .. } => ["sh", "-ec", command].map(str::to_owned).to_vec(),
        Run::Held { .. } => Vec::new(),
    };
    let held = match run {
        // In place of the image's entry point.
        Run::Held { seconds } => Some(vec!["sleep".to_owned(), seconds.to_string()]),
        _ => None,
    };
    let uid = spec.user.as_deref().and_then(|user| user.split(':').next()).unwrap_or("0");
    let file =
        |name: &str, uid: &str, mode| (Some(name.to_owned()), Some(uid.to_owned()), Some("0".to_owned()), Some(mode));
    let configs = parts.files.iter().map(|ready| {
        let (name, uid, gid, mode) = file(&ready.target, "0", ready.mode);
        m::TaskSpecContainerSpecConfigs {
            file: Some(m::TaskSpecContainerSpecFile1 { name, uid, gid, mode }),
            config_id: Some(ready.id.clone()),
            config_name: Some(ready.name.clone()),
            runtime: None,
        }
    });
    let secrets = parts.secret_env.iter().map(|ready| {
        let target = ENV_SECRET.rsplit('/').next().unwrap_or(ENV_SECRET);
        let (name, uid, gid, mode) = file(target, uid, 0o400);
        m::TaskSpecContainerSpecSecrets {
            file: Some(m::TaskSpecContainerSpecFile { name, uid, gid, mode }),
            secret_id: Some(ready.id.clone()),
            secret_name: Some(ready.name.clone()),
        }
    });
    m::TaskSpecContainerSpec {
        image: Some(spec.image.clone()),
        labels: Some(labels),
        // Reaps what a program leaves behind.
        init: held.is_some().then_some(true),
        command: held,
        args: (!args.is_empty()).then_some(args),
        env: Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        user: spec.user.clone(),
        read_only: Some(spec.read_only),
        mounts: Some(mounts(spec, folders)),
        stop_signal: spec.stop_signal.clone(),
        stop_grace_period: spec.stop_grace.0.as_nanos().try_into().ok(),
        configs: Some(configs.collect()),
        secrets: Some(secrets.collect()),
        capability_drop: spec.capabilities.as_ref().map(|_| vec!["ALL".into()]),
        capability_add: spec.capabilities.clone().filter(|kept| !kept.is_empty()),
        ..m::TaskSpecContainerSpec::default()
    }
}

fn mounts(spec: &ServiceSpec, folders: &Folders) -> Vec<m::Mount> {
    let binds = spec.mounts.iter().map(|mount| {
        let source = match &mount.source {
            MountSource::Storage { slug, base, mount } => folders.storage(slug, base.as_deref()).join(mount),
            MountSource::Node(folder) => folders.node(*folder),
        };
        m::Mount {
            typ: Some(m::MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(mount.target.clone()),
            read_only: Some(mount.read_only),
            ..m::Mount::default()
        }
    });
    let in_memory = spec.tmpfs.iter().map(|tmpfs| m::Mount {
        typ: Some(m::MountType::TMPFS),
        target: Some(tmpfs.target.clone()),
        tmpfs_options: Some(m::MountTmpfsOptions {
            size_bytes: tmpfs.size.bytes().try_into().ok(),
            mode: Some(i64::from(tmpfs.mode)),
            options: None,
        }),
        ..m::Mount::default()
    });
    binds.chain(in_memory).collect()
}

fn mode(spec: &ServiceSpec, run: Run<'_>) -> m::ServiceSpecMode {
    let mut mode = m::ServiceSpecMode::default();
    match (run, &spec.mode) {
        (Run::Once { .. } | Run::Held { .. }, _) => {
            mode.replicated_job =
                Some(m::ServiceSpecModeReplicatedJob { max_concurrent: Some(1), total_completions: Some(1) });
        }
        (_, ServiceMode::Replicated(count)) => {
            mode.replicated = Some(m::ServiceSpecModeReplicated { replicas: Some(i64::from(*count)) });
        }
        (_, ServiceMode::Global) => mode.global = Some(HashMap::new()),
    }
    mode
}

fn restart_policy(run: Run<'_>) -> m::TaskSpecRestartPolicy {
    match run {
        Run::Service { .. } => m::TaskSpecRestartPolicy {
            condition: Some(m::TaskSpecRestartPolicyConditionEnum::ANY),
            delay: Some(RESTART_DELAY),
            window: Some(RESTART_WINDOW),
            max_attempts: None,
        },
        Run::Once { .. } | Run::Held { .. } => m::TaskSpecRestartPolicy {
            condition: Some(m::TaskSpecRestartPolicyConditionEnum::NONE),
            ..m::TaskSpecRestartPolicy::default()
        },
    }
}

fn labels(spec: &ServiceSpec, run: Run<'_>, prefix: &Prefix) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = spec.labels.clone().into_iter().collect();
    let mut set = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    set(label::OWNER, prefix.as_str());
    let identity = Identity::of(&spec.name);
    if let Some(slug) = &identity.slug {
        set(label::SLUG, slug);
    }
    if let Some(ReleaseNumber(number)) = identity.release {
        set(label::RELEASE, &number.to_string());
    }
    if let Some(role) = role(spec) {
        set(label::ROLE, role);
    }
    match run {
        Run::Service { layer, key, hash } => {
            set(label::LAYER, layer.as_str());
            set(label::KEY, key);
            set(label::HASH, hash);
        }
        Run::Once { .. } => {
            set(label::ONCE, "run");
        }
        Run::Held { .. } => {
            set(label::ONCE, HELD);
        }
    }
    labels
}

/// The layer program of a service, told by the folder that only this program is given.
fn role(spec: &ServiceSpec) -> Option<&'static str> {
    spec.mounts.iter().find_map(|mount| match mount.source {
        MountSource::Node(NodeFolder::RouterAdmin) => Some("router"),
        MountSource::Node(NodeFolder::Varnish) => Some("varnish"),
        MountSource::Node(NodeFolder::Nginx) => Some("nginx"),
        MountSource::Node(NodeFolder::Mariadb) => Some("mariadb"),
        _ => None,
    })
}

fn attachment(target: String, aliases: Vec<String>) -> m::NetworkAttachmentConfig {
    m::NetworkAttachmentConfig {
        target: Some(target),
        aliases: (!aliases.is_empty()).then_some(aliases),
        driver_opts: None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use magrathea_core::plan::*;
    use magrathea_core::units::{ByteSize, Span};

    use super::*;

    fn spec() -> ServiceSpec {
        ServiceSpec {
            name: "i0123456789ab-web-v12".into(),
            image: "sha256:abc".into(),
            mode: ServiceMode::Replicated(2),
            on: Layer::App,
            spread: false,
            network: ServiceNetwork::Instance { network: "i0123456789ab".into(), aliases: vec!["web".into()] },
            user: Some("200001:200001".into()),
            command: Vec::new(),
            env: [("PORT".to_owned(), "8080".to_owned())].into(),
            files: Vec::new(),
            secret_env: Default::default(),
            mounts: vec![MountSpec {
                source: MountSource::Storage { slug: "i0123456789ab".into(), base: None, mount: "uploads-1".into() },
                target: "/app/uploads".into(),
                read_only: false,
            }],
            tmpfs: vec![TmpfsSpec { target: "/tmp".into(), size: ByteSize::mib(64), mode: 0o1777 }],
            read_only: true,
            capabilities: Some(Vec::new()),
            limits: Limits { memory: Some(ByteSize::mib(256)), millicpus: Some(500), pids: Some(100) },
            stop_signal: None,
            stop_grace: Span(std::time::Duration::from_secs(10)),
            labels: Default::default(),
        }
    }

    #[test]
    fn what_is_spread_may_be_on_any_app_node() {
        let constraints = |spread, run| {
            let spec = ServiceSpec { spread, ..spec() };
            let folders = Folders::new(Path::new("/data"));
            let service = render_service(&spec, run, &Parts::default(), &"mag".parse().unwrap(), &folders);
            service.task_template?.placement?.constraints
        };
        let service = Run::Service { layer: Layer::App, key: "app/web", hash: "h" };
        let on = |label: &str| Some(vec![format!("node.labels.mag.{label} == true")]);
        assert_eq!(constraints(true, service), on("spread"));
        assert_eq!(constraints(false, service), on("layer.app"));
        assert_eq!(constraints(true, Run::Once { name: "x", command: "true" }), on("layer.app"));
    }

    #[test]
    fn labels_tell_the_service() {
        let run = Run::Service { layer: Layer::App, key: "app/web", hash: "h" };
        let labels = labels(&spec(), run, &"mag".parse().unwrap());
        assert_eq!(service_of(&labels).as_deref(), Some("i0123456789ab-web-v12"));
    }

    fn shown(run: Run<'_>) -> String {
        let parts = Parts {
            files: vec![ReadyFile {
                id: "c1".into(),
                name: "mag-c1".into(),
                target: "/etc/magrathea/fpm.conf".into(),
                mode: 0o444,
            }],
            secret_env: Some(ReadySecret { id: "s1".into(), name: "mag-s1".into() }),
        };
        let service = render_service(&spec(), run, &parts, &"mag".parse().unwrap(), &Folders::new(Path::new("/data")));
        // Through a sorted map: the engine's types hold hash maps.
        fn sorted(value: serde_json::Value) -> serde_json::Value {
            match value {
                serde_json::Value::Object(map) => map
                    .into_iter()
                    .map(|(k, v)| (k, sorted(v)))
                    .collect::<std::collections::BTreeMap<_, _>>()
                    .into_iter()
                    .collect(),
                serde_json::Value::Array(list) => list.into_iter().map(sorted).collect(),
                other => other,
            }
        }
        serde_json::to_string_pretty(&sorted(serde_json::to_value(service).unwrap())).unwrap()
    }

    #[test]
    fn a_release_is_locked_down() {
        insta::assert_snapshot!(shown(Run::Service { layer: Layer::App, key: "app/web", hash: "h" }));
    }

    #[test]
    fn a_one_off_runs_once_without_names() {
        insta::assert_snapshot!(shown(Run::Once { name: "i0123456789ab-hook", command: "php migrate.php" }));
    }

    #[test]
    fn names_tell_whose_a_service_is() {
        for (name, slug, release) in [
            ("i0123456789ab-web-v12", Some("i0123456789ab"), Some(12)),
            ("i0123456789ab-memcached", Some("i0123456789ab"), None),
            ("router", None, None),
            ("nginx-v2", None, None),
        ] {
            let identity = Identity::of(name);
            assert_eq!((identity.slug.as_deref(), identity.release.map(|r| r.0)), (slug, release), "{name}");
        }
    }
}
