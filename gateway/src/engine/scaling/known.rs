//! What of the serving plans following the load needs, read once for each plan.

use std::collections::BTreeMap;

use magrathea_core::manifest::Scaling;
use magrathea_core::names::{InstanceId, WEB};
use magrathea_core::plan::{Plan, Spec};

use crate::db::instances::{self, Instance};
use crate::db::{Client, DbError, plans, releases};
use crate::engine::pipeline::replicas_in;

/// An instance as it serves.
#[derive(Debug, Clone)]
pub struct Standing {
    pub instance: Instance,
    pub slug: String,
    generation: u64,
    /// Of web.
    pub replicas: u16,
    /// Requests that one replica answers at once; zero when it is not known.
    pub at_once: u32,
    /// Where the number is left to the load.
    pub scaling: Option<Scaling>,
}

/// All instances that serve something.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<InstanceId, Standing>);

impl Known {
    pub fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.0.values()
    }

    /// Reads what has changed.
    pub async fn refresh(&mut self, client: &impl Client) -> Result<(), DbError> {
        let serving: BTreeMap<_, _> = releases::list_generations(client).await?.into_iter().collect();
        self.0.retain(|id, standing| serving.get(id) == Some(&standing.generation));
        for (id, generation) in serving {
            if self.0.contains_key(&id) {
                continue;
            }
            let Some(instance) = instances::load_instance(client, id).await? else { continue };
            let Some(plan) = plans::load_serving_plan(client, id).await? else { continue };
            let resolved = match plan.release() {
                Some(release) => releases::load_resolved(client, id, release).await?,
                None => None,
            };
            let scaling = resolved.and_then(|resolved| resolved.sections.app_layer.replicas.scaling().cloned());
            let replicas = replicas_in(&plan, WEB).unwrap_or(0);
            let at_once = at_once(&plan).unwrap_or(0);
            self.0.insert(id, Standing { slug: id.slug(), instance, generation, replicas, at_once, scaling });
        }
        Ok(())
    }
}

/// Requests that one of a plan's replicas answers at once.
pub fn at_once(plan: &Plan) -> Option<u32> {
    plan.resources.iter().find_map(|resource| match &resource.spec {
        Spec::Route(route) => route.at_once,
        _ => None,
    })
}
