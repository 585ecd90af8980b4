//! Replicas on the other nodes of a swarm that this engine manages, and the way to them as far as the engine knows it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Engine, REQUEST_TIMEOUT, Running, found, label, service_of};
use crate::config::Prefix;
use crate::fail::{Doing, Outcome, internal, node};

/// A task as the engine shows it: bollard's own has no addresses. What is missing in one must not hide the others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Task {
    spec: TaskSpec,
    status: Status,
    networks_attachments: Option<Vec<Attachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TaskSpec {
    container_spec: ContainerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ContainerSpec {
    labels: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Status {
    state: String,
    container_status: Option<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Attachment {
    network: Network,
    addresses: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Network {
    spec: NetworkSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSpec {
    name: String,
}

impl Engine {
    /// The running replicas of all instances on the swarm's other nodes; none where this engine manages no others. Those of a
    /// node that is gone are among them until the swarm has noticed, which takes some ten seconds.
    pub async fn elsewhere(&self) -> Outcome<Option<Vec<Running>>> {
        self.tasks_elsewhere(None).await
    }

    async fn tasks_elsewhere(&self, service: Option<&str>) -> Outcome<Option<Vec<Running>>> {
        let others = self.managed().await?;
        if others.is_empty() {
            return Ok(None);
        }
        let mut filters = self.own(&[(label::SLUG, "")]);
        filters.insert("node".into(), others);
        filters.insert("desired-state".into(), vec!["running".into()]);
        if let Some(service) = service {
            filters.insert("service".into(), vec![self.prefix.name(service)]);
        }
        let filters = serde_json::to_string(&filters).doing(|| "listing the swarm's tasks".into())?;
        let tasks: Vec<Task> = self.get("/tasks", &[("filters", &filters)]).await?;
        Ok(Some(tasks.into_iter().filter_map(|task| replica_of(task, &self.prefix)).collect()))
    }

    /// The running replicas of a service on all nodes that this engine knows of, by the plan's name.
    pub async fn replicas(&self, service: &str) -> Outcome<Vec<Running>> {
        let mut replicas = self.running(service).await?;
        let elsewhere = self.tasks_elsewhere(Some(service)).await?.unwrap_or_default();
        // The engine takes the beginning of a name for the name.
        replicas.extend(elsewhere.into_iter().filter(|replica| replica.service == service));
        Ok(replicas)
    }

    /// Those of all instances' services.
    pub async fn all_replicas(&self) -> Outcome<Vec<Running>> {
        let mut replicas = self.all_running().await?;
        replicas.extend(self.elsewhere().await?.unwrap_or_default());
        Ok(replicas)
    }

    /// An instance network's addresses, as in `10.201.0.32/27`; none when there is no such network.
    pub async fn subnet_of(&self, network: &str) -> Outcome<Option<String>> {
        let inspected = self.docker.inspect_network(&self.prefix.name(network), None::<InspectNetworkOptions>).await;
        let network = found(inspected, || format!("reading network {network}"))?;
        let configs = network.and_then(|n| n.ipam).and_then(|ipam| ipam.config).unwrap_or_default();
        Ok(configs.into_iter().find_map(|config| config.subnet))
    }

    /// The file that stands for a container's network namespace.
    pub async fn namespace_of(&self, container: &str) -> Outcome<Option<String>> {
        let inspected = self.docker.inspect_container(container, None::<InspectContainerOptions>).await;
        let inspected = found(inspected, || "looking for a container's network".into())?;
        Ok(inspected.and_then(|container| container.network_settings?.sandbox_key).filter(|key| !key.is_empty()))
    }

    /// Asks the engine what bollard does not; nothing is there where it knows no such thing.
    async fn get<T: DeserializeOwned + Default>(&self, path: &str, query: &[(&str, &str)]) -> Outcome<T> {
        let url = reqwest::Url::parse_with_params(&format!("http://docker{path}"), query);
        let url = url.map_err(|error| internal(format!("asking the engine for {path}: {error}")))?;
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let work = async {
            let stream = UnixStream::connect(&self.socket).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let request = Request::get(target)
                .header(header::HOST, "docker")
                .header(header::CONNECTION, "close")
                .body(Full::new(Bytes::new()))?;
            let answered = async move {
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let text = answer.into_body().collect().await?.to_bytes();
                if status == StatusCode::NOT_FOUND {
                    return Ok(T::default());
                }
                anyhow::ensure!(status.is_success(), "({status}) {}", String::from_utf8_lossy(&text).trim());
                anyhow::Ok(serde_json::from_slice(&text)?)
            };
            let (answer, _) = tokio::join!(answered, connection);
            answer
        };
        let answer: anyhow::Result<T> = tokio::time::timeout(Duration::from_secs(REQUEST_TIMEOUT), work)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
        answer.map_err(|error| node(format!("asking the engine for {path}: {error:#}")))
    }
}

/// The replica that a task is; none when it does not run, or has no address in its instance's network.
fn replica_of(task: Task, prefix: &Prefix) -> Option<Running> {
    let labels = task.spec.container_spec.labels;
    let service = service_of(&labels)?;
    let network = prefix.name(labels.get(label::SLUG)?);
    let container = task.status.container_status.map(|status| status.id).filter(|id| !id.is_empty())?;
    if task.status.state != "running" {
        return None;
    }
    let attachments = task.networks_attachments.into_iter().flatten();
    let mut own = attachments.filter(|attachment| attachment.network.spec.name == network);
    let address: IpAddr = own.find_map(|own| own.addresses?.first()?.split('/').next()?.parse().ok())?;
    Some(Running { container, service, address: Some(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker 20.10 answers, without what is not read.
    fn task(state: &str, network: &str, more: &str) -> Task {
        let text = format!(
            r#"{{"ID": "t1", "Spec": {{"ContainerSpec": {{"Image": "sha256:1", "Labels": {{
                "magrathea.owner": "mag", "magrathea.slug": "i0123456789ab", "magrathea.release": "12",
                "magrathea.key": "app/web"{more}}}}}}},
              "Status": {{"State": "{state}", "ContainerStatus": {{"ContainerID": "c1", "PID": 7}}}},
              "NetworksAttachments": [
                {{"Network": {{"ID": "n0", "Spec": {{"Name": "ingress"}}}}, "Addresses": ["10.0.0.3/24"]}},
                {{"Network": {{"ID": "n1", "Spec": {{"Name": "{network}"}}}}, "Addresses": ["10.201.0.36/27"]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_task_is_a_replica_where_it_runs_in_its_network() {
        let of = |task| replica_of(task, &"mag".parse().unwrap());
        let replica = of(task("running", "mag-i0123456789ab", "")).unwrap();
        let expected = Running {
            container: "c1".into(),
            service: "i0123456789ab-web-v12".into(),
            address: Some([10, 201, 0, 36].into()),
        };
        assert_eq!(replica, expected);
        assert_eq!(of(task("starting", "mag-i0123456789ab", "")), None);
        assert_eq!(of(task("running", "other-i0123456789ab", "")), None);
        assert_eq!(of(task("running", "mag-i0123456789ab", r#", "magrathea.once": "run""#)), None, "a job");
    }

    #[test]
    fn a_task_without_a_container_is_understood() {
        let text = r#"[{"Spec": {"ContainerSpec": {}}, "Status": {"State": "pending"}},
            {"Spec": {"NetworkAttachmentSpec": {}}, "Status": {"State": "running", "ContainerStatus": {}}, "NetworksAttachments": null}]"#;
        let tasks: Vec<Task> = serde_json::from_str(text).unwrap();
        assert!(tasks.into_iter().all(|task| replica_of(task, &"mag".parse().unwrap()).is_none()));
    }
}
