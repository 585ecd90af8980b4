//! What happens to this installation's containers, as the engine tells it.

use std::collections::HashMap;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt};

use super::replicas::SERVICE_NAME;
use super::{Engine, label};
use crate::fail::{Doing, Outcome};

/// Something that happened to a container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    pub container: String,
    /// The plan's name of its service.
    pub service: String,
    pub slug: Option<String>,
    pub role: Option<String>,
    pub happening: Happening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Started,
    /// The engine was asked to end it.
    Told,
    Died {
        exit_code: Option<i64>,
    },
}

impl Engine {
    /// Everything from now on, though it is listened to later; ends when the engine goes away.
    pub fn container_events(&self) -> impl Stream<Item = Outcome<ContainerEvent>> + Send + '_ {
        let mut filters = self.own(&[]);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), ["start", "kill", "die"].map(str::to_owned).to_vec());
        self.docker.events(Some(from_now(filters))).filter_map(move |event| async move {
            match event.doing(|| "listening to the engine".into()) {
                Ok(message) => self.understand(message).map(Ok),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Tells when a container of this installation, a job's too, began or went; everything from now on, though it is
    /// listened to later.
    pub fn container_changes(&self) -> impl Stream<Item = Outcome<()>> + Send + '_ {
        let mut filters = self.own(&[]);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), ["start", "destroy"].map(str::to_owned).to_vec());
        self.docker
            .events(Some(from_now(filters)))
            .map(|event| event.map(drop).doing(|| "listening to the engine".into()))
    }

    fn understand(&self, message: EventMessage) -> Option<ContainerEvent> {
        let actor = message.actor?;
        let attributes: HashMap<_, _> = actor.attributes?;
        // A job's container is nobody's replica.
        if attributes.contains_key(label::ONCE) {
            return None;
        }
        let happening = match message.action?.as_str() {
            "start" => Happening::Started,
            "kill" => Happening::Told,
            "die" => Happening::Died { exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()) },
            _ => return None,
        };
        Some(ContainerEvent {
            container: actor.id?,
            service: self.plan_name(attributes.get(SERVICE_NAME)?),
            slug: attributes.get(label::SLUG).cloned(),
            role: attributes.get(label::ROLE).cloned(),
            happening,
        })
    }
}

/// The connection is made when the stream is first read: what happens until then is told as well.
fn from_now(filters: HashMap<String, Vec<String>>) -> EventsOptions {
    let now = jiff::Timestamp::now();
    let since = format!("{}.{:09}", now.as_second(), now.subsec_nanosecond());
    EventsOptions { since: Some(since), filters: Some(filters), ..EventsOptions::default() }
}
