//! The containers of instances and the files that the engine writes what they say to.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::query_parameters::InspectContainerOptions;
use magrathea_core::logs::LogLayer;
use magrathea_core::names::ReleaseNumber;

use super::replicas::SERVICE_NAME;
use super::{Engine, found, label};
use crate::fail::Outcome;
use crate::logs::{Found, Speaker};

/// Swarm's own label on a task's container: the service's name, a slot and the task's id.
const TASK_NAME: &str = "com.docker.swarm.task.name";

impl Engine {
    /// All containers of instances that the engine still has, running or not. `known` holds the paths of those that were
    /// told before.
    pub async fn speakers(&self, known: &mut HashMap<String, PathBuf>) -> Outcome<Vec<Found>> {
        let containers = self.list_containers(self.own(&[(label::SLUG, "")]), true).await?;
        known.retain(|id, _| containers.iter().any(|container| container.id.as_ref() == Some(id)));
        let mut all = Vec::new();
        for summary in containers {
            let (Some(container), Some(labels)) = (summary.id, summary.labels) else { continue };
            let Some(speaker) = self.speaker(&labels) else { continue };
            let path = match known.get(&container) {
                Some(path) => path.clone(),
                None => {
                    let inspected = self.docker.inspect_container(&container, None::<InspectContainerOptions>).await;
                    let inspected = found(inspected, || "looking for a container's log".into())?;
                    // It has none before it was started.
                    let Some(path) = inspected.and_then(|c| c.log_path).filter(|path| !path.is_empty()) else {
                        continue;
                    };
                    known.insert(container.clone(), path.clone().into());
                    path.into()
                }
            };
            all.push(Found { container, path, speaker });
        }
        Ok(all)
    }

    fn speaker(&self, labels: &HashMap<String, String>) -> Option<Speaker> {
        let slug = labels.get(label::SLUG)?;
        let layer = match labels.get(label::LAYER).map(String::as_str) {
            Some("db") => LogLayer::Db,
            Some("support") => LogLayer::Cron,
            _ => LogLayer::App,
        };
        let service = labels.get(SERVICE_NAME)?;
        let slot = labels.get(TASK_NAME).and_then(|task| task.strip_prefix(service.as_str())?.split('.').nth(1));
        Some(Speaker {
            slug: slug.clone(),
            layer,
            replica: replica_name(slug, &self.plan_name(service), slot.unwrap_or("1")),
            release: labels.get(label::RELEASE).and_then(|number| number.parse().ok()).map(ReleaseNumber),
        })
    }
}

/// `i0123456789ab-web-v12` and slot 2: `web.2`.
fn replica_name(slug: &str, service: &str, slot: &str) -> String {
    let own = service.strip_prefix(slug).and_then(|rest| rest.strip_prefix('-')).unwrap_or(service);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let kind = own.rsplit_once("-v").filter(|(_, number)| is_number(number)).map_or(own, |(kind, _)| kind);
    format!("{kind}.{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_have_short_names() {
        for (service, expect) in [
            ("i0123456789ab-web-v12", "web.2"),
            ("i0123456789ab-memcached", "memcached.2"),
            ("i0123456789ab-hook-very", "hook-very.2"),
            ("other", "other.2"),
        ] {
            assert_eq!(replica_name("i0123456789ab", service, "2"), expect);
        }
    }
}
