//! Process types that visitors do not reach: the release once more, with a command of the app's instead of its server.

use std::collections::BTreeMap;

use magrathea_core::manifest::{Stack, Worker};
use magrathea_core::names::ProcessName;
use magrathea_core::plan::ServiceSpec;
use magrathea_core::units::ByteSize;

use super::{Process, php, service};
use crate::{InstanceInput, LayerError};

/// The least memory that a worker starts with: a shell and a small program.
const LEAST_MEMORY: ByteSize = ByteSize::mib(32);

/// Runs the worker's command as a group of its own and hands on the word to end, which the command may be too far down to
/// hear; the first process of a container is also deaf to it unless it asks.
const SUPERVISOR: &str = include_str!("../../templates/worker.sh");

pub fn worker_service(
    input: &InstanceInput<'_>,
    name: &ProcessName,
    worker: &Worker,
) -> Result<ServiceSpec, LayerError> {
    let key = format!("app_layer.workers.{name}");
    let Some(run) = &worker.run else { return Err(LayerError::new(&key, "has nothing to run")) };
    if name.is_web() {
        return Err(LayerError::new(&key, "is the process type that visitors reach"));
    }
    if run.contains('\0') {
        return Err(LayerError::new(&format!("{key}.run"), "holds a NUL character"));
    }
    if worker.memory < LEAST_MEMORY {
        return Err(LayerError::new(
            &format!("{key}.memory"),
            format!("{} is less than {LEAST_MEMORY}", worker.memory),
        ));
    }
    let files = match input.stack {
        Stack::Php => vec![php::settings_file(input)?],
        Stack::Static | Stack::Tomcat => Vec::new(),
    };
    let process = Process {
        name: name.as_str(),
        command: ["bash", "-c", SUPERVISOR, name.as_str(), run].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("MAGRATHEA_PROCESS".to_owned(), name.to_string())]),
        files,
        replicas: worker.replicas,
        memory: worker.memory,
        cpus: (&format!("{key}.cpus"), worker.cpus.as_deref()),
        processes: worker.processes,
        stop_grace: worker.stop_timeout,
    };
    service(input, process)
}
