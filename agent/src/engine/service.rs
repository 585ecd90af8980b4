//! Swarm services: made, kept as asked, removed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::query_parameters::{InspectServiceOptions, ListServicesOptions, UpdateServiceOptions};
use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use magrathea_core::names::{Layer, ReleaseNumber};
use magrathea_core::plan::{SecretText, ServiceMode, ServiceSpec, hash_of};
use magrathea_core::wire::HeldService;

use super::replicas::SERVICE_NAME;
use super::{Engine, HELD, Identity, Parts, Run, found, is_missing, label, render_service};
use crate::fail::{Doing, Outcome, internal, node};
use crate::folders::Folders;

/// How often a removed service's containers are looked for.
const GONE_POLL: Duration = Duration::from_millis(40);
const GONE_LIMIT: Duration = Duration::from_secs(90);

/// How often, and how long, a shared service's new container is looked for.
const START_POLL: Duration = Duration::from_millis(40);
const START_LIMIT: Duration = Duration::from_secs(60);

impl Engine {
    /// Brings a service about. Says whether anything had to be done. A release's service never changes once made,
    /// except in its number of replicas: a changed release is another service.
    pub async fn ensure_service(
        &self,
        spec: &ServiceSpec,
        (layer, key): (Layer, &str),
        secrets: &BTreeMap<String, String>,
        folders: &Folders,
    ) -> Outcome<bool> {
        let name = self.prefix.name(&spec.name);
        let doing = || format!("making service {name}");
        let hash = hash_of(&(spec, secret_text(&spec.secret_env, secrets)?));
        let held = found(self.docker.inspect_service(&name, None::<InspectServiceOptions>).await, doing)?;
        let version = held.as_ref().and_then(|s| s.version.as_ref()?.index).and_then(|v| i32::try_from(v).ok());
        let held = held.and_then(|service| service.spec);
        let held_hash = held.as_ref().and_then(|s| s.labels.as_ref()?.get(label::HASH)).map(String::as_str);
        // The hash stays when only the number of replicas is changed.
        let held_count = held.as_ref().and_then(|s| s.mode.as_ref()?.replicated.as_ref()?.replicas);
        let counts = match spec.mode {
            ServiceMode::Replicated(count) => held_count == Some(i64::from(count)),
            ServiceMode::Global => true,
        };
        if held_hash == Some(&hash) && counts {
            return Ok(false);
        }
        let (Some(held), Some(version)) = (held, version) else {
            let parts = self.ensure_parts(spec, secrets).await?;
            let wanted = render_service(spec, Run::Service { layer, key, hash: &hash }, &parts, &self.prefix, folders);
            self.docker.create_service(wanted, None).await.doing(doing)?;
            self.await_start(spec, &hash).await?;
            return Ok(true);
        };
        let wanted = if Identity::of(&spec.name).release.is_some() {
            let mut held = held;
            let replicas = held.mode.as_mut().and_then(|mode| mode.replicated.as_mut());
            let ServiceMode::Replicated(count) = spec.mode else { return Ok(false) };
            match replicas {
                Some(held) if held.replicas != Some(i64::from(count)) => held.replicas = Some(i64::from(count)),
                _ => return Ok(false),
            }
            held
        } else {
            let parts = self.ensure_parts(spec, secrets).await?;
            render_service(spec, Run::Service { layer, key, hash: &hash }, &parts, &self.prefix, folders)
        };
        let options = UpdateServiceOptions { version, ..UpdateServiceOptions::default() };
        self.docker.update_service(&name, wanted, options, None).await.doing(doing)?;
        self.await_start(spec, &hash).await?;
        Ok(true)
    }

    /// Waits until a service that others rely on runs as asked. A release's own is waited for by its health.
    async fn await_start(&self, spec: &ServiceSpec, hash: &str) -> Outcome<()> {
        if Identity::of(&spec.name).release.is_some() {
            return Ok(());
        }
        let filters = HashMap::from([(
            "label".to_owned(),
            vec![format!("{SERVICE_NAME}={}", self.prefix.name(&spec.name)), format!("{}={hash}", label::HASH)],
        )]);
        let give_up = tokio::time::Instant::now() + START_LIMIT;
        while self.list_containers(filters.clone(), false).await?.is_empty() {
            if tokio::time::Instant::now() > give_up {
                return Err(node(format!("service {} did not start within {} s", spec.name, START_LIMIT.as_secs())));
            }
            tokio::time::sleep(START_POLL).await;
        }
        Ok(())
    }

    /// Starts a command as a job of its own on the service's network; an existing one of the name is left running. Says
    /// how long ago it began.
    pub async fn ensure_job(
        &self,
        spec: &ServiceSpec,
        (name, command): (&str, &str),
        secrets: &BTreeMap<String, String>,
        folders: &Folders,
    ) -> Outcome<Duration> {
        let held = self.docker.inspect_service(&self.prefix.name(name), None::<InspectServiceOptions>).await;
        if let Some(held) = found(held, || format!("looking for {name}"))? {
            let begun = held.created_at.and_then(|at| at.parse::<Timestamp>().ok());
            return Ok(begun.map_or(Duration::ZERO, |at| {
                Duration::try_from(at.duration_until(Timestamp::now())).unwrap_or_default()
            }));
        }
        let parts = self.ensure_parts(spec, secrets).await?;
        let wanted = render_service(spec, Run::Once { name, command }, &parts, &self.prefix, folders);
        self.docker.create_service(wanted, None).await.doing(|| format!("starting {name}"))?;
        Ok(Duration::ZERO)
    }

    /// Starts a job that does nothing for so long: programs are started in it.
    pub async fn ensure_held(
        &self,
        spec: &ServiceSpec,
        span: Duration,
        secrets: &BTreeMap<String, String>,
        folders: &Folders,
    ) -> Outcome<()> {
        let parts = self.ensure_parts(spec, secrets).await?;
        let wanted = render_service(spec, Run::Held { seconds: span.as_secs() }, &parts, &self.prefix, folders);
        self.docker.create_service(wanted, None).await.doing(|| format!("starting {}", spec.name))?;
        Ok(())
    }

    /// Removes what streams left that an agent before us carried.
    pub async fn remove_held(&self) -> Outcome<()> {
        let options = ListServicesOptions { filters: Some(self.own(&[(label::ONCE, HELD)])), status: None };
        let services = self.docker.list_services(Some(options)).await.doing(|| "listing services".into())?;
        for name in services.into_iter().filter_map(|service| service.spec?.name) {
            self.remove_service(&name).await?;
        }
        Ok(())
    }

    async fn ensure_parts(&self, spec: &ServiceSpec, secrets: &BTreeMap<String, String>) -> Outcome<Parts> {
        let identity = Identity::of(&spec.name);
        let owner = identity.owner(&spec.name);
        let files = try_join_all(spec.files.iter().map(|file| self.ensure_config(owner, file))).await?;
        let secret_env = match secret_text(&spec.secret_env, secrets)? {
            text if text.is_empty() => None,
            text => Some(self.ensure_secret(owner, &text).await?),
        };
        Ok(Parts { files, secret_env })
    }

    /// Removes a service by its name in the engine with the configs and secrets that only it used, and waits until its
    /// containers are gone. Says whether it was there.
    pub async fn remove_service(&self, name: &str) -> Outcome<bool> {
        let doing = || format!("removing service {name}");
        let held = found(self.docker.inspect_service(name, None::<InspectServiceOptions>).await, doing)?;
        let Some(held) = held else { return Ok(false) };
        match self.docker.delete_service(name).await {
            Err(error) if !is_missing(&error) => return Err(error).doing(doing),
            _ => {}
        }
        // Ended here, because Swarm waits three seconds before it asks a container to stop, so that balancers notice, and
        // lets a job's task run to its end. Not removed: Swarm itself must let go of the task's network.
        let spec = held.spec.as_ref();
        let is_job = spec.and_then(|spec| spec.mode.as_ref()).is_some_and(|mode| mode.replicated_job.is_some());
        let template = spec.and_then(|spec| spec.task_template.as_ref()).and_then(|task| task.container_spec.as_ref());
        let grace = Duration::from_nanos(template.and_then(|c| c.stop_grace_period?.try_into().ok()).unwrap_or(0));
        let running = self.containers_of(name).await?;
        join_all(running.iter().map(async |container| {
            if is_job { self.kill_container(container).await } else { self.stop_container(container, grace).await }
        }))
        .await;
        let give_up = tokio::time::Instant::now() + GONE_LIMIT;
        while !self.containers_of(name).await?.is_empty() && tokio::time::Instant::now() < give_up {
            tokio::time::sleep(GONE_POLL).await;
        }
        let container = held.spec.and_then(|s| s.task_template).and_then(|t| t.container_spec).unwrap_or_default();
        let configs: Vec<_> = container.configs.into_iter().flatten().filter_map(|c| c.config_id).collect();
        let secrets: Vec<_> = container.secrets.into_iter().flatten().filter_map(|s| s.secret_id).collect();
        self.remove_unused(&configs, &secrets).await;
        Ok(true)
    }

    /// Every service of this installation.
    pub async fn list_services(&self) -> Outcome<Vec<HeldService>> {
        let options = ListServicesOptions { filters: Some(self.own(&[])), status: Some(true) };
        let services = self.docker.list_services(Some(options)).await.doing(|| "listing services".into())?;
        let held = services.into_iter().filter_map(|service| {
            let status = service.service_status.unwrap_or_default();
            let count = |n: Option<u64>| n.and_then(|n| n.try_into().ok()).unwrap_or_default();
            let spec = service.spec?;
            let labels = spec.labels.unwrap_or_default();
            Some(HeldService {
                name: self.plan_name(&spec.name?),
                slug: labels.get(label::SLUG).cloned(),
                release: labels.get(label::RELEASE).and_then(|n| n.parse().ok()).map(ReleaseNumber),
                running: count(status.running_tasks),
                wanted: count(status.desired_tasks),
            })
        });
        Ok(held.collect())
    }

    /// A plan's name for the engine's.
    pub fn plan_name(&self, name: &str) -> String {
        let start = self.prefix.name("");
        name.strip_prefix(start.as_str()).unwrap_or(name).to_owned()
    }
}

/// The secret environment: NUL-separated `KEY=value`.
fn secret_text(env: &BTreeMap<String, SecretText>, secrets: &BTreeMap<String, String>) -> Outcome<String> {
    let pairs = env.iter().map(|(key, text)| {
        let value = text.reveal(secrets).map_err(|name| internal(format!("no value came for the secret {name}")))?;
        Ok(format!("{key}={value}"))
    });
    Ok(pairs.collect::<Outcome<Vec<_>>>()?.join("\0"))
}
