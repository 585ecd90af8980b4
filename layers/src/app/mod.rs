//! Layer 3: the replicas of a release. Each release of an instance is a service of its own, beside the one it follows.

mod apache;
mod php;
mod served;
mod tomcat;
mod worker;

use std::collections::BTreeMap;

use magrathea_core::manifest::Stack;
use magrathea_core::names::{Layer, WEB};
use magrathea_core::plan::{
    FileSpec, Limits, Resource, SecretText, ServiceMode, ServiceNetwork, ServiceSpec, Spec, TmpfsSpec,
};
use magrathea_core::units::{ByteSize, Span};

pub use self::served::{document_root, timeout_seconds};
use crate::db::{MEMCACHED_HOST, MEMCACHED_PORT, PASSWORD};
use crate::routing::drain;
use crate::spread::is_process_spread;
use crate::storage;
use crate::{InstanceInput, LayerError, check, resource};

/// The port that an instance's replicas listen on: its own, so that an address which the engine gave to another instance
/// meanwhile refuses a router that has not heard of it. Below the ports that Linux gives to outgoing connections.
#[must_use]
pub fn replica_port(uid: u32) -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    FIRST + (uid % u32::from(COUNT)) as u16
}

/// How many requests a replica answers at once.
pub fn requests_at_once(input: &InstanceInput<'_>) -> u32 {
    let app = &input.sections.app_layer;
    let number = match input.stack {
        Stack::Php => php::workers(app.memory, app.request_memory),
        Stack::Tomcat => tomcat::threads(app.memory),
        Stack::Static => apache::REQUESTS,
    };
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The least memory that any stack starts with.
const LEAST_MEMORY: ByteSize = ByteSize::mib(96);

pub fn plan_app(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let mut resources = vec![resource(Layer::App, WEB, Spec::Service(Box::new(web_service(input)?)))];
    for (name, worker) in &input.sections.app_layer.workers {
        let service = worker::worker_service(input, name, worker)?;
        resources.push(resource(Layer::App, name.as_str(), Spec::Service(Box::new(service))));
    }
    Ok(resources)
}

/// The name of a release's service of a process type.
pub fn service_name(input: &InstanceInput<'_>, process: &str) -> String {
    format!("{}-{process}-{}", input.slug(), input.release)
}

/// One process type of a release: what makes it another than the others.
struct Process<'a> {
    name: &'a str,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    files: Vec<FileSpec>,
    replicas: u16,
    memory: ByteSize,
    /// With the manifest's key.
    cpus: (&'a str, Option<&'a str>),
    processes: u32,
    stop_grace: Span,
}

/// What all process types have in common: image, environment, files, mounts and network are the release's.
fn service(input: &InstanceInput<'_>, process: Process<'_>) -> Result<ServiceSpec, LayerError> {
    let (mut env, secret_env) = environment(input)?;
    env.extend(process.env);
    let mut files =
        vec![file("/etc/passwd", passwd(input.uid)), file("/etc/group", format!("root:x:0:\napp:x:{}:\n", input.uid))];
    files.extend(process.files);
    let writable = storage::plan_writable(input)?;
    let scratch = ByteSize(process.memory.bytes() / 2);
    let mut tmpfs = vec![
        TmpfsSpec { target: "/tmp".into(), size: scratch, mode: 0o1777 },
        TmpfsSpec { target: "/run".into(), size: scratch, mode: 0o1777 },
    ];
    tmpfs.extend(writable.tmpfs);
    let millicpus = millicpus(process.cpus.0, process.cpus.1)?;
    Ok(ServiceSpec {
        name: service_name(input, process.name),
        image: input.image.to_owned(),
        mode: ServiceMode::Replicated(process.replicas),
        on: Layer::App,
        spread: is_process_spread(input, process.name),
        network: ServiceNetwork::Instance { network: input.slug(), aliases: Vec::new() },
        user: Some(format!("{0}:{0}", input.uid)),
        command: process.command,
        env,
        files,
        secret_env,
        mounts: writable.service_mounts,
        tmpfs,
        read_only: true,
        capabilities: Some(Vec::new()),
        limits: Limits { memory: Some(process.memory), millicpus, pids: Some(process.processes) },
        stop_signal: None,
        stop_grace: process.stop_grace,
        labels: BTreeMap::new(),
    })
}

fn web_service(input: &InstanceInput<'_>) -> Result<ServiceSpec, LayerError> {
    let app = &input.sections.app_layer;
    if app.memory < LEAST_MEMORY {
        return Err(LayerError::new("app_layer.memory", format!("{} is less than {LEAST_MEMORY}", app.memory)));
    }
    let (mut env, mut files) = (BTreeMap::new(), Vec::new());
    match input.stack {
        Stack::Php => {
            files.push(file("/etc/magrathea/apache.conf", apache::render_apache(input)?));
            files.extend(php::render_php(input)?);
        }
        Stack::Static => files.push(file("/etc/magrathea/apache.conf", apache::render_apache(input)?)),
        Stack::Tomcat => {
            files.extend(tomcat::render_tomcat(input)?);
            env.insert("TOMCAT_JAVA_OPTS".into(), tomcat::java_options(app.memory));
        }
    }
    let process = Process {
        name: WEB,
        command: Vec::new(),
        env,
        files,
        replicas: app.replicas.least(),
        memory: app.memory,
        cpus: ("app_layer.cpus", app.cpus.as_deref()),
        processes: app.processes,
        // A release has drained by then. A replica that is one too many ends what it has after it was told to.
        stop_grace: drain(input),
    };
    service(input, process)
}

fn file(target: &str, content: String) -> FileSpec {
    FileSpec { target: target.to_owned(), mode: 0o444, content }
}

/// Gives the instance's uid a name and a home, which git, ssh and some libraries insist on.
fn passwd(uid: u32) -> String {
    format!("root:x:0:0:root:/root:/usr/sbin/nologin\napp:x:{uid}:{uid}:app:/tmp:/bin/bash\n")
}

type Environment = (BTreeMap<String, String>, BTreeMap<String, SecretText>);

/// What the app's processes find in their environment: the platform's values first, so that the app may say otherwise
/// about everything but who it is.
fn environment(input: &InstanceInput<'_>) -> Result<Environment, LayerError> {
    let slug = input.slug();
    let mut env: BTreeMap<String, String> =
        [("HOME", "/tmp".to_owned()), ("PORT", replica_port(input.uid).to_string())]
            .map(|(k, v)| (k.to_owned(), v))
            .into();
    let mut secret_env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    if input.sections.db.mysql.is_some() {
        let (host, port) = (input.db_address, input.cluster.db.port);
        set("DB_HOST", host.to_string());
        set("DB_PORT", port.to_string());
        set("DB_NAME", slug.clone());
        set("DB_USER", slug.clone());
        secret_env.insert(PASSWORD.to_owned(), SecretText::secret(PASSWORD));
        let address = std::net::SocketAddr::new(host, port);
        let url = format!("mysql://{slug}:${{secret:{PASSWORD}}}@{address}/{slug}");
        secret_env.insert("DATABASE_URL".to_owned(), SecretText(url));
    }
    if input.sections.db.memcache.is_some() {
        set("MEMCACHED_HOST", MEMCACHED_HOST.to_owned());
        set("MEMCACHED_PORT", MEMCACHED_PORT.to_string());
    }
    for (name, value) in &input.sections.env {
        check::environment(&format!("env.{name}"), name, value)?;
        secret_env.remove(name);
        env.insert(name.clone(), value.clone());
    }
    for name in &input.sections.secrets {
        check::environment("secrets", name, "")?;
        if !input.secrets.contains(name) {
            return Err(LayerError::new("secrets", format!("{name} has no value"))
                .hint(format!("set it with `td config set {name}`, then deploy again")));
        }
        env.remove(name);
        secret_env.insert(name.clone(), SecretText::secret(name));
    }
    let identity = [
        ("MAGRATHEA_APP", input.app.to_string()),
        ("MAGRATHEA_LABEL", input.label.to_string()),
        ("MAGRATHEA_CLUSTER", input.cluster_name.to_string()),
        ("MAGRATHEA_INSTANCE", input.instance.to_string()),
        ("MAGRATHEA_RELEASE", input.release.to_string()),
    ];
    env.extend(identity.map(|(name, value)| (name.to_owned(), value)));
    Ok((env, secret_env))
}

/// `"0.5"` → 500.
fn millicpus(key: &str, cpus: Option<&str>) -> Result<Option<u32>, LayerError> {
    let Some(text) = cpus else { return Ok(None) };
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let value = (digits(whole) && digits(part))
        .then(|| format!("{whole}{part:0<3}").parse::<u32>().ok())
        .flatten()
        .filter(|millis| *millis >= 10);
    value.map(Some).ok_or_else(|| {
        LayerError::new(key, format!("{text:?} is not a number of CPUs"))
            .hint("at least 0.01 with up to three decimals, as in \"0.5\" or \"2\"")
    })
}
