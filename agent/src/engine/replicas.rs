//! Which containers run, and at which address the router reaches them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{ContainerSummary, TaskState};
use bollard::query_parameters::{
    InspectContainerOptions, InspectNetworkOptions, ListContainersOptions, ListTasksOptions,
};
use magrathea_core::plan::{CROSSING, ServiceMode, ServiceSpec};

use super::{Engine, GATEWAY_BRIDGE, found, label};
use crate::fail::{Doing, Outcome};

/// Swarm's own label on a task's container.
pub(super) const SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// How often, and how long, Swarm's choice of replicas to end is looked for.
const CHOICE_POLL: Duration = Duration::from_millis(20);
const CHOICE_LIMIT: Duration = Duration::from_secs(2);

/// A running container of a service, here or on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub container: String,
    /// The plan's name of its service.
    pub service: String,
    /// Where the node reaches it; none while the engine is still attaching it.
    pub address: Option<IpAddr>,
}

/// A task that will not come back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTask {
    pub slot: i64,
    /// The engine could not even start it.
    pub rejected: bool,
    pub error: String,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// It has not ended; its container once there is one.
    Going(Option<String>),
    Ended {
        exit_code: i64,
        container: Option<String>,
        error: Option<String>,
    },
}

impl Engine {
    /// The containers of a service that run on this node, by the plan's name.
    pub async fn running(&self, service: &str) -> Outcome<Vec<Running>> {
        let name = self.prefix.name(service);
        let filters = HashMap::from([("label".to_owned(), vec![format!("{SERVICE_NAME}={name}")])]);
        self.running_among(filters).await
    }

    /// Those of all instances' services.
    pub async fn all_running(&self) -> Outcome<Vec<Running>> {
        self.running_among(self.own(&[(label::SLUG, "")])).await
    }

    async fn running_among(&self, filters: HashMap<String, Vec<String>>) -> Outcome<Vec<Running>> {
        let containers = self.list_containers(filters, false).await?;
        if containers.is_empty() {
            return Ok(Vec::new());
        }
        let addresses = self.addresses().await?;
        let running = containers.into_iter().filter_map(|summary| {
            let container = summary.id?;
            let service = self.plan_name(summary.labels?.get(SERVICE_NAME)?);
            Some(Running { address: addresses.get(&container).copied(), container, service })
        });
        Ok(running.collect())
    }

    /// The running containers in which instances do something, one-off ones too: id and slug. A crossing is the platform's.
    pub async fn instance_containers(&self) -> Outcome<Vec<(String, String)>> {
        let containers = self.list_containers(self.own(&[(label::SLUG, "")]), false).await?;
        let of = |container: ContainerSummary| {
            let mut labels = container.labels?;
            if labels.get(label::KEY).is_some_and(|key| key == CROSSING) {
                return None;
            }
            Some((container.id?, labels.remove(label::SLUG)?))
        };
        Ok(containers.into_iter().filter_map(of).collect())
    }

    /// The number of a container's first process on the node; none when it does not run.
    pub async fn process_of(&self, container: &str) -> Outcome<Option<u32>> {
        let inspected = self.docker.inspect_container(container, None::<InspectContainerOptions>).await;
        let inspected = found(inspected, || "looking for a container's processes".into())?;
        let pid = inspected.and_then(|container| container.state?.pid);
        Ok(pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
    }

    /// Container id → address on the bridge that the node shares with all overlay containers.
    async fn addresses(&self) -> Outcome<HashMap<String, IpAddr>> {
        let inspected = self.docker.inspect_network(GATEWAY_BRIDGE, None::<InspectNetworkOptions>).await;
        let network = found(inspected, || format!("reading {GATEWAY_BRIDGE}"))?;
        let containers = network.and_then(|n| n.containers).unwrap_or_default();
        let address = |(id, endpoint): (String, bollard::models::EndpointResource)| {
            let address = endpoint.ipv4_address?.split('/').next()?.parse().ok()?;
            Some((id, address))
        };
        Ok(containers.into_iter().filter_map(address).collect())
    }

    /// The ids of the running containers of a service, by its name in the engine.
    pub(super) async fn containers_of(&self, name: &str) -> Outcome<Vec<String>> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{SERVICE_NAME}={name}")])]);
        Ok(self.list_containers(filters, false).await?.into_iter().filter_map(|c| c.id).collect())
    }

    /// The containers of a service, running or not, the newest first, by the plan's name.
    pub async fn recent_containers(&self, service: &str) -> Outcome<Vec<String>> {
        let name = self.prefix.name(service);
        let filters = HashMap::from([("label".to_owned(), vec![format!("{SERVICE_NAME}={name}")])]);
        let mut containers = self.list_containers(filters, true).await?;
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(containers.into_iter().filter_map(|container| container.id).collect())
    }

    /// The running container of a layer program, as in `router`.
    pub async fn role_container(&self, role: &str) -> Outcome<Option<String>> {
        Ok(newest(self.list_containers(self.own(&[(label::ROLE, role)]), false).await?))
    }

    pub(super) async fn list_containers(
        &self,
        filters: HashMap<String, Vec<String>>,
        all: bool,
    ) -> Outcome<Vec<ContainerSummary>> {
        let options = ListContainersOptions { all, filters: Some(filters), ..ListContainersOptions::default() };
        self.docker.list_containers(Some(options)).await.doing(|| "listing containers".into())
    }

    /// The tasks of a service that failed or came to an end by themselves, by the plan's name.
    pub async fn failed_tasks(&self, service: &str) -> Outcome<Vec<FailedTask>> {
        let failed = self.tasks(service).await?.into_iter().filter_map(|task| {
            let status = task.status?;
            let rejected = matches!(status.state, Some(TaskState::REJECTED));
            let error = match status.state {
                Some(TaskState::FAILED | TaskState::REJECTED) => status.err.unwrap_or_default(),
                // A server or a worker has no reason to end by itself, whatever its status.
                Some(TaskState::COMPLETE) => "its process ended with status 0".to_owned(),
                _ => return None,
            };
            Some(FailedTask { slot: task.slot.unwrap_or_default(), rejected, error })
        });
        Ok(failed.collect())
    }

    /// The containers of a release's service that Swarm has chosen to end, because there are more than are wanted. It
    /// chooses at once and tells them a little later.
    pub async fn going(&self, spec: &ServiceSpec) -> Outcome<Vec<String>> {
        let ServiceMode::Replicated(wanted) = spec.mode else { return Ok(Vec::new()) };
        let give_up = tokio::time::Instant::now() + CHOICE_LIMIT;
        loop {
            let tasks = self.tasks(&spec.name).await?;
            let (staying, going): (Vec<_>, Vec<_>) =
                tasks.into_iter().filter(is_alive).partition(|task| !is_to_end(task));
            if staying.len() <= usize::from(wanted) || tokio::time::Instant::now() > give_up {
                return Ok(going.into_iter().filter_map(container_of).collect());
            }
            tokio::time::sleep(CHOICE_POLL).await;
        }
    }

    /// The running containers of a service that are not about to end, by the plan's name.
    pub async fn staying(&self, service: &str) -> Outcome<Vec<Running>> {
        let mut running = self.replicas(service).await?;
        let tasks = self.tasks(service).await?;
        // One that is to end may have no task any more while its container runs on.
        let staying: Vec<String> = tasks.into_iter().filter(|t| !is_to_end(t)).filter_map(container_of).collect();
        running.retain(|replica| staying.contains(&replica.container));
        Ok(running)
    }

    /// How a job stands, by the plan's name; none when there is no such job.
    pub async fn job(&self, name: &str) -> Outcome<Option<Job>> {
        let Some(task) = self.tasks(name).await?.into_iter().next() else { return Ok(None) };
        let status = task.status.unwrap_or_default();
        let in_container = status.container_status.unwrap_or_default();
        let container = in_container.container_id.filter(|id| !id.is_empty());
        let ended = |exit_code, error| Some(Job::Ended { exit_code, container: container.clone(), error });
        Ok(match status.state {
            Some(TaskState::COMPLETE) => ended(0, None),
            Some(
                TaskState::FAILED | TaskState::REJECTED | TaskState::SHUTDOWN | TaskState::ORPHANED | TaskState::REMOVE,
            ) => match in_container.exit_code {
                Some(code) if code != 0 => ended(code, None),
                _ => ended(-1, Some(status.err.unwrap_or_else(|| "it ended without a status".into()))),
            },
            _ => Some(Job::Going(container)),
        })
    }

    async fn tasks(&self, service: &str) -> Outcome<Vec<bollard::models::Task>> {
        let filters = HashMap::from([("service".to_owned(), vec![self.prefix.name(service)])]);
        let options = ListTasksOptions { filters: Some(filters) };
        match found(self.docker.list_tasks(Some(options)).await, || format!("listing the tasks of {service}"))? {
            Some(tasks) => Ok(tasks),
            None => Ok(Vec::new()),
        }
    }
}

fn container_of(task: bollard::models::Task) -> Option<String> {
    task.status?.container_status?.container_id.filter(|id| !id.is_empty())
}

fn is_to_end(task: &bollard::models::Task) -> bool {
    matches!(task.desired_state, Some(TaskState::SHUTDOWN | TaskState::REMOVE))
}

/// Whether it runs or may still run.
fn is_alive(task: &bollard::models::Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    !matches!(
        state,
        Some(
            TaskState::COMPLETE
                | TaskState::FAILED
                | TaskState::REJECTED
                | TaskState::SHUTDOWN
                | TaskState::ORPHANED
                | TaskState::REMOVE
        )
    )
}

fn newest(containers: Vec<ContainerSummary>) -> Option<String> {
    containers.into_iter().max_by_key(|c| c.created).and_then(|c| c.id)
}
