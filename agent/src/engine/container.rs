//! One-off containers outside any service: builds, seeding, checks.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, LogsOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use futures_util::StreamExt;
use magrathea_core::plan::Limits;
use tokio::time::Instant;

use super::{Engine, is_missing, label};
use crate::fail::{Doing, Outcome};

/// How long somebody else's removal of a container may take, and how often it is asked for.
const REMOVAL: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(100);

/// The only conflict of a forced removal is one that is under way.
fn is_conflict(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 409, .. })
}

/// A container that runs one program and is removed.
#[derive(Debug, Clone, Default)]
pub struct OneOff {
    /// `build`, `seed`, `check` or `files`: the value of its label.
    pub kind: &'static str,
    /// Whose it is, when that matters for removing it.
    pub key: Option<String>,
    pub image: String,
    /// The whole command line; the image's entry point is not used.
    pub command: Vec<String>,
    pub user: Option<String>,
    pub folder: Option<String>,
    pub env: BTreeMap<String, String>,
    /// Folders of the node: source, target, read-only.
    pub binds: Vec<(PathBuf, String, bool)>,
    /// Sizes in bytes, by target.
    pub tmpfs: Vec<(String, u64)>,
    pub limits: Limits,
    /// The engine's network; none at all when absent.
    pub network: Option<String>,
}

/// How a one-off ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited { code: i64, out_of_memory: bool },
    TimedOut,
}

impl Engine {
    /// Runs it to its end or for so long, handing on what it says. It is gone when this returns; when this is dropped,
    /// [`Engine::remove_one_offs`] takes it away.
    pub async fn run_one_off(
        &self,
        one_off: &OneOff,
        timeout: Duration,
        said: impl FnMut(&[u8]) + Send,
    ) -> Outcome<Ended> {
        let doing = || format!("starting a container to {}", one_off.kind);
        let created =
            self.docker.create_container(None::<CreateContainerOptions>, self.body(one_off)).await.doing(doing)?;
        let ended = match tokio::time::timeout(timeout, self.follow(&created.id, said)).await {
            Ok(ended) => ended,
            Err(_) => Ok(Ended::TimedOut),
        };
        self.remove_container(&created.id).await?;
        ended
    }

    /// Starts a container and leaves it running; removing it is the caller's matter.
    pub async fn start_one_off(&self, one_off: &OneOff) -> Outcome<String> {
        let doing = || format!("starting a container for {}", one_off.kind);
        let created = self.docker.create_container(None::<CreateContainerOptions>, self.body(one_off)).await;
        let id = created.doing(doing)?.id;
        if let Err(error) = self.docker.start_container(&id, None::<StartContainerOptions>).await.doing(doing) {
            self.remove_container(&id).await?;
            return Err(error);
        }
        Ok(id)
    }

    async fn follow(&self, id: &str, said: impl FnMut(&[u8]) + Send) -> Outcome<Ended> {
        let doing = || "running a container".to_owned();
        self.docker.start_container(id, None::<StartContainerOptions>).await.doing(doing)?;
        self.follow_log(id, said).await?;
        self.settled(id).await
    }

    /// How a container ended whose log has ended: the engine settles that a moment later.
    pub async fn settled(&self, id: &str) -> Outcome<Ended> {
        let doing = || "reading how a container ended".to_owned();
        loop {
            let inspected = self.docker.inspect_container(id, None::<InspectContainerOptions>).await.doing(doing)?;
            let state = inspected.state.unwrap_or_default();
            if state.running != Some(true) {
                let out_of_memory = state.oom_killed.unwrap_or_default();
                return Ok(Ended::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks a container to stop and waits until it has; after the given time it is killed.
    pub(super) async fn stop_container(&self, id: &str, grace: Duration) {
        let t = grace.as_secs().try_into().ok();
        let options = StopContainerOptions { t, ..StopContainerOptions::default() };
        if let Err(error) = self.docker.stop_container(id, Some(options)).await {
            tracing::debug!(%error, "a container was not stopped");
        }
    }

    /// Ends a container at once; one that has just ended by itself is fine.
    pub async fn kill_container(&self, id: &str) {
        let options = KillContainerOptions { signal: "SIGKILL".into() };
        if let Err(error) = self.docker.kill_container(id, Some(options)).await {
            tracing::debug!(%error, "a container was not killed");
        }
    }

    /// Removes a container, running or not. One that the swarm is just removing is waited for.
    pub async fn remove_container(&self, id: &str) -> Outcome<()> {
        let give_up = Instant::now() + REMOVAL;
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            match self.docker.remove_container(id, Some(options)).await {
                Err(error) if is_conflict(&error) && Instant::now() < give_up => tokio::time::sleep(RETRY).await,
                Err(error) if !is_missing(&error) => return Err(error).doing(|| "removing a container".into()),
                _ => return Ok(()),
            }
        }
    }

    /// Removes all one-off containers of a kind: at a start, those that an agent before us left.
    pub async fn remove_one_offs(&self, kind: &str) -> Outcome<()> {
        self.remove_containers(&[(label::ONCE, kind)]).await
    }

    /// Removes those of a kind that were cut off: for an app's build or an instance's seeding.
    pub async fn remove_one_offs_of(&self, kind: &str, key: &str) -> Outcome<()> {
        self.remove_containers(&[(label::ONCE, kind), (label::KEY, key)]).await
    }

    async fn remove_containers(&self, labels: &[(&str, &str)]) -> Outcome<()> {
        for container in self.list_containers(self.own(labels), true).await? {
            if let Some(id) = container.id {
                self.remove_container(&id).await?;
            }
        }
        Ok(())
    }

    fn body(&self, one_off: &OneOff) -> ContainerCreateBody {
        let binds = one_off.binds.iter().map(|(source, target, read_only)| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.clone()),
            read_only: Some(*read_only),
            ..Mount::default()
        });
        let tmpfs = one_off.tmpfs.iter().map(|(target, size)| (target.clone(), format!("size={size},mode=1777,exec")));
        let memory = one_off.limits.memory.and_then(|size| size.bytes().try_into().ok());
        let mut command = one_off.command.iter().cloned();
        ContainerCreateBody {
            image: Some(one_off.image.clone()),
            entrypoint: command.next().map(|program| vec![program]),
            cmd: Some(command.collect()),
            user: one_off.user.clone(),
            working_dir: one_off.folder.clone(),
            env: Some(one_off.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            labels: Some(
                self.labels([(label::ONCE, one_off.kind), (label::KEY, one_off.key.as_deref().unwrap_or_default())]),
            ),
            host_config: Some(HostConfig {
                mounts: Some(binds.collect()),
                tmpfs: Some(tmpfs.collect::<HashMap<_, _>>()),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".into()]),
                security_opt: Some(vec!["no-new-privileges".into()]),
                network_mode: Some(one_off.network.clone().unwrap_or_else(|| "none".into())),
                memory,
                // No swap beside the memory, so that the limit is one.
                memory_swap: memory,
                nano_cpus: one_off.limits.millicpus.map(|milli| i64::from(milli) * 1_000_000),
                pids_limit: one_off.limits.pids.map(i64::from),
                // Reaps what a build leaves behind.
                init: Some(true),
                log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Hands on what a container says until it ends.
    pub async fn follow_log(&self, id: &str, mut said: impl FnMut(&[u8]) + Send) -> Outcome<()> {
        let options =
            LogsOptions { follow: true, stdout: true, stderr: true, tail: "all".into(), ..LogsOptions::default() };
        let mut logs = std::pin::pin!(self.docker.logs(id, Some(options)));
        while let Some(chunk) = logs.next().await {
            said(&chunk.doing(|| "reading a log".into())?.into_bytes());
        }
        Ok(())
    }
}
