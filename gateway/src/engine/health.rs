//! What makes the replicas of each process type count as healthy: from the configuration to what a node is asked.

use std::time::Duration;

use magrathea_core::manifest::{Health, Resolved, WorkerHealth};
use magrathea_core::names::{Layer, WEB};
use magrathea_core::plan::{Resource, ServiceMode, ServiceSpec, Spec};
use magrathea_core::units::Span;
use magrathea_core::wire::{AwaitHealthy, HttpProbe, Probe};
use magrathea_layers::replica_port;

use super::layout::{Site, hosts_of};
use crate::remote::AS_APP;

/// A worker without a check of its own is healthy when it has run for so long: one that cannot start has ended by then.
const SETTLED: Span = Span(Duration::from_secs(2));
/// Between questions where the file says nothing: a page is asked again at once…
const AT_ONCE: Span = Span(Duration::from_millis(20));
/// …but not when wrong answers count, and a command costs more than a request.
const PATIENT: Span = Span(Duration::from_secs(1));

/// The check of one process type.
pub struct Check<'a> {
    pub process: &'a str,
    pub health: AwaitHealthy,
}

/// The checks of all process types among these resources.
pub fn checks<'a>(site: &Site, resolved: &Resolved, replicas: &[&'a Resource]) -> Vec<Check<'a>> {
    let services = replicas.iter().filter_map(|resource| match &resource.spec {
        Spec::Service(service) => Some((process_of(resource)?, &**service)),
        _ => None,
    });
    services.map(|(process, service)| Check { process, health: check(site, resolved, process, service) }).collect()
}

/// The process type whose replicas a resource is.
pub fn process_of(resource: &Resource) -> Option<&str> {
    (resource.layer == Layer::App).then(|| resource.key.strip_prefix("app/")).flatten()
}

fn check(site: &Site, resolved: &Resolved, process: &str, service: &ServiceSpec) -> AwaitHealthy {
    let app = &resolved.sections.app_layer;
    let worker = app.workers.iter().find(|(name, _)| name.as_str() == process).map(|(_, worker)| &worker.health);
    let of_worker = (process != WEB).then(|| worker.cloned().unwrap_or_default());
    let own = of_worker.unwrap_or_else(|| common(&app.health));
    let probe = match &own.command {
        Some(command) => {
            let line = [AS_APP, "bash", "-c", command].map(str::to_owned).to_vec();
            Probe::Command { command: line, title: command.clone() }
        }
        None if process == WEB => web_probe(site, resolved),
        None => Probe::Running { span: SETTLED },
    };
    let is_patient = own.attempts.is_some() || own.command.is_some();
    AwaitHealthy {
        service: service.name.clone(),
        replicas: match service.mode {
            ServiceMode::Replicated(replicas) => replicas,
            ServiceMode::Global => 1,
        },
        probe,
        attempts: own.attempts,
        interval: own.interval.unwrap_or(if is_patient { PATIENT } else { AT_ONCE }),
        attempt_timeout: own.attempt_timeout,
        timeout: own.timeout,
    }
}

/// What every process type's check has.
fn common(health: &Health) -> WorkerHealth {
    WorkerHealth {
        command: health.command.clone(),
        attempts: health.attempts,
        interval: health.interval,
        attempt_timeout: health.attempt_timeout,
        timeout: health.timeout,
    }
}

fn web_probe(site: &Site, resolved: &Resolved) -> Probe {
    let health = &resolved.sections.app_layer.health;
    let port = replica_port(site.instance.uid);
    if health.tcp {
        return Probe::Tcp { port };
    }
    let number = |text: &str| text.parse().ok();
    let (low, high) = match health.expect.split_once('-') {
        Some((low, high)) => (number(low), number(high)),
        None => (number(&health.expect), number(&health.expect)),
    };
    let host = hosts_of(site, resolved).into_iter().find(|host| !host.starts_with("*."));
    Probe::Http(HttpProbe {
        port,
        host: host.unwrap_or_else(|| "localhost".to_owned()),
        path: health.path.clone(),
        expect_low: low.unwrap_or(200),
        expect_high: high.unwrap_or(499),
        contains: health.contains.clone(),
    })
}
