//! Swarm configs and secrets: named by their content, so that one that exists is right and none is ever changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{ConfigSpec, SecretSpec};
use bollard::query_parameters::{ListConfigsOptions, ListSecretsOptions};
use magrathea_core::plan::{FileSpec, hash_text};

use super::{Engine, ReadyFile, ReadySecret, found, label};
use crate::fail::{Doing, Outcome};

impl Engine {
    /// Stores a rendered file for the services of `owner` (a slug or a layer service's name).
    pub async fn ensure_config(&self, owner: &str, file: &FileSpec) -> Outcome<ReadyFile> {
        let name = self.content_name(owner, &file.content);
        let doing = || format!("storing {}", file.target);
        let held = found(self.docker.inspect_config(&name).await, doing)?;
        let id = match held.and_then(|config| config.id) {
            Some(id) => id,
            None => {
                let spec = ConfigSpec {
                    name: Some(name.clone()),
                    labels: Some(self.labels([(label::SLUG, owner)])),
                    data: Some(STANDARD.encode(&file.content)),
                    ..ConfigSpec::default()
                };
                match self.docker.create_config(spec).await {
                    Ok(created) => created.id,
                    Err(error) => {
                        self.docker.inspect_config(&name).await.map_err(|_| error).doing(doing)?.id.unwrap_or_default()
                    }
                }
            }
        };
        Ok(ReadyFile { id, name, target: file.target.clone(), mode: file.mode })
    }

    /// Stores a secret for the services of `owner`.
    pub async fn ensure_secret(&self, owner: &str, content: &str) -> Outcome<ReadySecret> {
        let name = self.content_name(owner, content);
        let doing = || "storing the secret environment".to_owned();
        let held = found(self.docker.inspect_secret(&name).await, doing)?;
        let id = match held.and_then(|secret| secret.id) {
            Some(id) => id,
            None => {
                let spec = SecretSpec {
                    name: Some(name.clone()),
                    labels: Some(self.labels([(label::SLUG, owner)])),
                    data: Some(STANDARD.encode(content)),
                    ..SecretSpec::default()
                };
                match self.docker.create_secret(spec).await {
                    Ok(created) => created.id,
                    Err(error) => {
                        self.docker.inspect_secret(&name).await.map_err(|_| error).doing(doing)?.id.unwrap_or_default()
                    }
                }
            }
        };
        Ok(ReadySecret { id, name })
    }

    /// Removes those of these configs and secrets that no service uses any more.
    pub async fn remove_unused(&self, configs: &[String], secrets: &[String]) {
        // The engine refuses to remove what is in use, which is just what is wanted.
        for id in configs {
            let _ = self.docker.delete_config(id).await;
        }
        for id in secrets {
            let _ = self.docker.delete_secret(id).await;
        }
    }

    /// The ids of all of this installation's configs and secrets.
    pub async fn list_objects(&self) -> Outcome<(Vec<String>, Vec<String>)> {
        let configs = ListConfigsOptions { filters: Some(self.own(&[])) };
        let configs = self.docker.list_configs(Some(configs)).await.doing(|| "listing configs".into())?;
        let secrets = ListSecretsOptions { filters: Some(self.own(&[])) };
        let secrets = self.docker.list_secrets(Some(secrets)).await.doing(|| "listing secrets".into())?;
        Ok((configs.into_iter().filter_map(|c| c.id).collect(), secrets.into_iter().filter_map(|s| s.id).collect()))
    }

    fn content_name(&self, owner: &str, content: &str) -> String {
        let hash = hash_text(&format!("{owner}\0{content}"));
        self.prefix.name(&format!("{owner}-{}", hash.get(..20).unwrap_or(&hash)))
    }
}
