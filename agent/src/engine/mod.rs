//! The Docker Engine of this node: the only part that speaks to it, through small verbs in our own words.

mod attach;
mod container;
mod convert;
mod elsewhere;
mod events;
mod exec;
mod image;
mod network;
mod nodes;
mod objects;
mod replicas;
mod service;
mod speakers;
mod swarm;
mod tidy;

pub use attach::{Attached, Kind, Output, Program, Standing};
pub use container::{Ended, OneOff};
pub use convert::{HELD, Identity, Parts, ReadyFile, ReadySecret, Run, is_slug, render_service, service_of};
pub use events::{ContainerEvent, Happening};
pub use exec::Said;
pub use replicas::{FailedTask, Job, Running};
pub use swarm::Ours;

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::Docker;

use crate::config::Prefix;
use crate::fail::{Doing, Outcome, node, with_hint};

/// Seconds after which a request that the engine does not answer is given up.
const REQUEST_TIMEOUT: u64 = 120;

/// Labels on everything that the agent makes.
pub mod label {
    /// Whose it is: the installation's prefix.
    pub const OWNER: &str = "magrathea.owner";
    pub const SLUG: &str = "magrathea.slug";
    pub const RELEASE: &str = "magrathea.release";
    pub const LAYER: &str = "magrathea.layer";
    pub const KEY: &str = "magrathea.key";
    /// Which of the layer programs runs in it, as in `router`.
    pub const ROLE: &str = "magrathea.role";
    /// The hash of what a service was made from.
    pub const HASH: &str = "magrathea.hash";
    /// On a one-off's service or container: `run`, `held`, `build`, `seed`, `check` or `files`.
    pub const ONCE: &str = "magrathea.once";
    /// On layer and stack images: their name.
    pub const IMAGE: &str = "magrathea.image";
}

/// The engine's own bridge for the outward traffic of overlay networks' containers.
pub const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// A connection to the node's engine, acting under one installation's prefix.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    /// The engine's Unix socket, for what bollard does not do.
    socket: PathBuf,
    prefix: Prefix,
}

impl Engine {
    /// Connects over a Unix socket and settles on the API version that both sides speak.
    pub async fn connect(socket: &str, prefix: Prefix) -> Outcome<Self> {
        let unreachable = |error| {
            with_hint(
                node(format!("no Docker Engine answers at {socket}: {error}")),
                "start it: systemctl start docker",
            )
        };
        let docker = Docker::connect_with_unix(socket, REQUEST_TIMEOUT, bollard::API_DEFAULT_VERSION)
            .map_err(unreachable)?
            .negotiate_version()
            .await
            .map_err(unreachable)?;
        Ok(Engine { docker, socket: socket.trim_start_matches("unix://").into(), prefix })
    }

    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// A filter on this installation's own things and these labels.
    fn own(&self, labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
        let mut wanted = vec![format!("{}={}", label::OWNER, self.prefix.as_str())];
        wanted.extend(
            labels
                .iter()
                .map(|(key, value)| if value.is_empty() { (*key).to_owned() } else { format!("{key}={value}") }),
        );
        HashMap::from([("label".to_owned(), wanted)])
    }
}

/// Whether the engine says that the thing does not exist.
fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

/// None when the thing does not exist.
fn found<T>(result: Result<T, bollard::errors::Error>, what: impl FnOnce() -> String) -> Outcome<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error).doing(what),
    }
}
