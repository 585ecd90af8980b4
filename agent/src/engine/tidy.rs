//! Taking away everything that this installation made in the engine, and nothing else.

use bollard::query_parameters::ListServicesOptions;
use futures_util::future::join_all;

use super::Engine;
use crate::fail::{Doing, Outcome};

impl Engine {
    /// The names in the engine of all of this installation's services, jobs among them.
    async fn own_services(&self) -> Outcome<Vec<String>> {
        let options = ListServicesOptions { filters: Some(self.own(&[])), status: None };
        let services = self.docker.list_services(Some(options)).await.doing(|| "listing services".into())?;
        Ok(services.into_iter().filter_map(|service| service.spec?.name).collect())
    }

    /// Removes all services. Says whether there were any.
    pub async fn remove_all_services(&self) -> Outcome<bool> {
        let names = self.own_services().await?;
        let removed = join_all(names.iter().map(|name| self.remove_service(name))).await;
        removed.into_iter().collect::<Outcome<Vec<_>>>()?;
        Ok(!names.is_empty())
    }

    /// Removes services, one-offs, networks, configs, secrets and release images.
    pub async fn remove_everything(&self) -> Outcome<()> {
        if self.swarm_state().await? == "manager" {
            self.remove_all_services().await?;
            let (configs, secrets) = self.list_objects().await?;
            self.remove_unused(&configs, &secrets).await;
        }
        for container in self.list_containers(self.own(&[]), true).await? {
            self.remove_container(&container.id.unwrap_or_default()).await?;
        }
        for network in self.list_networks().await? {
            self.remove_network(&network).await?;
        }
        for image in self.list_release_images().await? {
            if let Err(error) = self.remove_image(&image.id).await {
                tracing::warn!(%error, "an image stays");
            }
        }
        Ok(())
    }

    /// Whether no service at all runs in the swarm, whoever's.
    pub async fn swarm_is_empty(&self) -> Outcome<bool> {
        let services = self.docker.list_services(None::<ListServicesOptions>).await;
        services.map(|all| all.is_empty()).doing(|| "listing services".into())
    }
}
