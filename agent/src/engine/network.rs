//! Networks: an overlay per instance, and the closed bridge for builds.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};

use super::{Engine, found, is_missing, label};
use crate::fail::{Doing, Outcome};

/// Tasks that were just removed hold their network a little longer; those on other nodes end what they have first.
const RELEASE_TRIES: u32 = 900;
const RELEASE_PAUSE: Duration = Duration::from_millis(100);

/// Two containers on such a bridge cannot reach each other.
const NO_INTER_CONTAINER: (&str, &str) = ("com.docker.network.bridge.enable_icc", "false");
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

impl Engine {
    /// Makes an instance's network. Says whether it was missing.
    pub async fn ensure_overlay(&self, name: &str) -> Outcome<bool> {
        let request = NetworkCreateRequest {
            driver: Some("overlay".into()),
            scope: Some("swarm".into()),
            attachable: Some(false),
            labels: Some(self.labels([(label::SLUG, name)])),
            ..NetworkCreateRequest::default()
        };
        // Not asked for before: the engine shows networks whose removal it did not finish, and only the swarm, which
        // refuses a second of the name, knows which one there is.
        self.create_network(&self.prefix.name(name), request).await
    }

    /// Makes the bridge on which builds reach package registries; its interface bears the network's name.
    pub async fn ensure_build_bridge(&self) -> Outcome<String> {
        let name = self.prefix.name("build");
        let options = HashMap::from(
            [NO_INTER_CONTAINER, (BRIDGE_NAME, name.as_str())].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let request = NetworkCreateRequest {
            driver: Some("bridge".into()),
            options: Some(options),
            labels: Some(self.labels([])),
            ..NetworkCreateRequest::default()
        };
        let inspected = self.docker.inspect_network(&name, None::<InspectNetworkOptions>).await;
        // A second bridge of a name would be made without complaint.
        if found(inspected, || format!("looking for network {name}"))?.is_none() {
            self.create_network(&name, request).await?;
        }
        Ok(name)
    }

    async fn create_network(&self, name: &str, mut request: NetworkCreateRequest) -> Outcome<bool> {
        name.clone_into(&mut request.name);
        match self.docker.create_network(request).await {
            Ok(_) => Ok(true),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
            Err(error) => Err(error).doing(|| format!("making network {name}")),
        }
    }

    /// Removes a network by its name in the engine. Says whether it was there.
    pub async fn remove_network(&self, name: &str) -> Outcome<bool> {
        let mut tries = 0;
        loop {
            match self.docker.remove_network(name).await {
                Ok(()) => return Ok(true),
                // The engine fails with this when the swarm has removed it already and its own part lingers.
                Err(error) if is_missing(&error) || error.to_string().ends_with("not found") => return Ok(tries > 0),
                Err(_) if tries < RELEASE_TRIES => {
                    tries += 1;
                    tokio::time::sleep(RELEASE_PAUSE).await;
                }
                Err(error) => return Err(error).doing(|| format!("removing network {name}")),
            }
        }
    }

    /// The names of this installation's networks.
    pub async fn list_networks(&self) -> Outcome<Vec<String>> {
        let options = ListNetworksOptions { filters: Some(self.own(&[])) };
        let networks = self.docker.list_networks(Some(options)).await.doing(|| "listing networks".into())?;
        Ok(networks.into_iter().filter_map(|n| n.name).collect())
    }

    pub(super) fn labels<const N: usize>(&self, more: [(&str, &str); N]) -> HashMap<String, String> {
        let own = [(label::OWNER, self.prefix.as_str())];
        own.into_iter().chain(more).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}
