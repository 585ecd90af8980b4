//! What people do at an instance from afar: shells, one-off commands, database clients, tunnels and files. Each is a
//! door (it is on the timeline, and ends when the right to it goes) with a stream to a node behind it. Both the API and
//! SSH come in here; neither asks for rights itself.

mod guard;
mod place;
pub mod runs;
pub mod socket;
pub mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use magrathea_core::names::{Layer, ProcessName};
use magrathea_core::plan::{MountSource, ServiceSpec, Spec};
use magrathea_core::remote::{database_prompt, prompt};
use magrathea_core::units::Span;
use magrathea_core::wire::{ConnectSpec, ExecSpec, FilesSpec, RunSpec, StreamSpec, Tty};
use uuid::Uuid;

use self::place::Place;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::doors::DoorKind;
pub use crate::hub::StreamHandle;
use crate::services::access::InstanceName;
use crate::state::State;

/// The most that a one-off command may take while somebody watches.
const MOST: Span = Span(Duration::from_secs(24 * 3600));

/// Starts a command with the app's environment, and no way to gain privileges.
pub const AS_APP: &str = "/usr/lib/magrathea/entrypoint";

/// A shell, or one command in it.
#[derive(Debug, Clone, Default)]
pub struct ShellRequest {
    /// Run by bash; an interactive bash when absent.
    pub command: Option<String>,
    pub tty: Option<Tty>,
    /// Beside the app's own environment, as in `LANG`.
    pub env: BTreeMap<String, String>,
    /// The start of a replica's container's id; any when absent.
    pub replica: Option<String>,
    /// Whose replicas; those that visitors reach when absent.
    pub process: Option<ProcessName>,
}

/// A shell in a running replica.
pub async fn shell(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    request: ShellRequest,
) -> Result<StreamHandle, ApiError> {
    let place = Place::find(state, actor, name).await?;
    let service = place.process(request.process.as_ref())?.name.clone();
    let detail = request.command.clone().unwrap_or_else(|| "bash".to_owned());
    let stream = StreamSpec::Exec(ExecSpec {
        service,
        container: request.replica,
        command: shell_line(&place, request.command),
        tty: request.tty,
        env: shell_env(request.env),
    });
    place.open(actor, DoorKind::Shell, &detail, Layer::App, stream).await
}

/// A command in a one-off container of what serves: the same release, configuration and mounts.
pub async fn run(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    request: ShellRequest,
) -> Result<StreamHandle, ApiError> {
    let place = Place::find(state, actor, name).await?;
    let detail = request.command.clone().unwrap_or_else(|| "bash".to_owned());
    let service = place.one_off("run")?;
    let secrets = place.secrets().await?;
    let stream = StreamSpec::Run(RunSpec {
        service: Box::new(service),
        secrets,
        command: shell_line(&place, request.command),
        tty: request.tty,
        env: shell_env(request.env),
        timeout: MOST,
    });
    place.open(actor, DoorKind::Run, &detail, Layer::App, stream).await
}

/// A client of the instance's own database, as its own user. The password stays inside the container.
pub async fn db(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    request: ShellRequest,
) -> Result<StreamHandle, ApiError> {
    /// `$@`: what the person added.
    const CLIENT: &str = r#". /usr/lib/magrathea/lib.sh; load_secrets; export MYSQL_PWD=$DB_PASSWORD
exec mariadb --no-defaults --skip-ssl-verify-server-cert --host="$DB_HOST" --port="$DB_PORT" --user="$DB_USER" --default-character-set=utf8mb4 "$@" "$DB_NAME""#;
    let place = Place::find(state, actor, name).await?;
    if !place.has_database() {
        return Err(missing("database", "db: {mysql: {}}"));
    }
    let mut service = place.one_off("db")?;
    service.image = place.image("mariadb")?;
    // The client's container is at the instance's place in the network and has nothing else of the instance's.
    service.mounts.clear();
    let mut command: Vec<String> = ["setpriv", "--no-new-privs", "bash", "-c", CLIENT, "db"].map(str::to_owned).into();
    command.push(format!("--prompt={}", database_prompt(&name.app, &name.label)));
    if let Some(sql) = &request.command {
        command.push(format!("--execute={sql}"));
    }
    let stream = StreamSpec::Run(RunSpec {
        service: Box::new(service),
        secrets: place.secrets().await?,
        command,
        tty: request.tty,
        env: request.env,
        timeout: MOST,
    });
    place.open(actor, DoorKind::Db, request.command.as_deref().unwrap_or_default(), Layer::App, stream).await
}

/// What a tunnel leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelTo {
    Db,
    Memcached,
}

/// A connection to the instance's own database or memcached.
pub async fn tunnel(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    to: TunnelTo,
) -> Result<StreamHandle, ApiError> {
    let place = Place::find(state, actor, name).await?;
    let (detail, spec) = match to {
        TunnelTo::Db if !place.has_database() => return Err(missing("database", "db: {mysql: {}}")),
        TunnelTo::Db => ("db", ConnectSpec::Database { port: place.site.cluster.db.port }),
        TunnelTo::Memcached => {
            let service = place.service("db/memcached").map(|service| service.name.clone());
            let service = service.ok_or_else(|| missing("memcached", "db: {memcache: 64MiB}"))?;
            ("memcached", ConnectSpec::Service { service, port: magrathea_layers::MEMCACHED_PORT })
        }
    };
    place.open(actor, DoorKind::Tunnel, detail, Layer::Db, StreamSpec::Connect(spec)).await
}

/// What moves files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesProgram {
    Sftp,
    /// The other side of `scp` or `rsync`, as its client asks for it; it sees nothing but the files whatever it is.
    Line(String),
}

/// The instance's writable paths, and nothing else.
pub async fn files(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    program: FilesProgram,
) -> Result<StreamHandle, ApiError> {
    let place = Place::find(state, actor, name).await?;
    let web = place.web()?;
    let is_code = |target: &str| target.starts_with("/app/");
    let mounts: Vec<_> = web.mounts.iter().filter(|mount| is_code(&mount.target)).cloned().collect();
    let slug = place.site.slug();
    let own = mounts.iter().all(|m| matches!(&m.source, MountSource::Storage { slug: of, .. } if *of == slug));
    if mounts.is_empty() || !own {
        return Err(missing("writable path", "storage: {writable: {uploads: {}}}"));
    }
    let mut command = vec!["/usr/lib/magrathea/as-app".to_owned()];
    let detail = match program {
        FilesProgram::Sftp => {
            command.extend(["/usr/lib/openssh/sftp-server", "-d", "/app"].map(str::to_owned));
            "sftp".to_owned()
        }
        FilesProgram::Line(line) => {
            command.extend(["bash", "-c", &line].map(str::to_owned));
            line
        }
    };
    let user = web.user.clone().unwrap_or_default();
    let stream = StreamSpec::Files(FilesSpec { slug, image: place.image("files")?, user, mounts, command });
    place.open(actor, DoorKind::Files, &detail, Layer::App, stream).await
}

fn shell_line(place: &Place, command: Option<String>) -> Vec<String> {
    let bash: Vec<String> = match command {
        Some(command) => vec!["bash".into(), "-c".into(), command],
        None => {
            let instance = &place.site.instance;
            let prompt = prompt(&instance.app_name, &instance.label, place.is_protected());
            // Said last, because a script like the one before it loses it; without the image's settings, which set it.
            vec!["env".into(), format!("PS1={prompt}"), "bash".into(), "--norc".into()]
        }
    };
    std::iter::once(AS_APP.to_owned()).chain(bash).collect()
}

fn shell_env(given: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env = given;
    // What is typed stays out of files that other replicas' people could read.
    env.insert("HISTFILE".to_owned(), String::new());
    env
}

fn missing(what: &str, how: &str) -> ApiError {
    ApiError::new(Code::ServiceMissing, format!("the instance has no {what}"))
        .with_hint(format!("magrathea.yml gives it one, as in `{how}`; then deploy again"))
}

/// A service that a one-off container is like: one of its own name, which clean-up does not take for a release's.
fn one_off_of(service: &ServiceSpec, slug: &str, kind: &str) -> ServiceSpec {
    ServiceSpec { name: format!("{slug}-{kind}-{}", Uuid::now_v7().simple()), command: Vec::new(), ..service.clone() }
}

/// The plan's service with this key.
fn service_of<'a>(plan: &'a magrathea_core::plan::Plan, key: &str) -> Option<&'a ServiceSpec> {
    match &plan.get(key)?.spec {
        Spec::Service(service) => Some(service),
        _ => None,
    }
}
