//! An instance that somebody may operate, and the way from there to an open door.

use std::collections::BTreeMap;
use std::sync::Arc;

use magrathea_core::manifest::Task;
use magrathea_core::names::{AppName, InstanceId, LabelName, Layer, ProcessName};
use magrathea_core::people::Verb;
use magrathea_core::plan::{Plan, ServiceSpec, Spec};
use magrathea_core::wire::StreamSpec;

use super::guard::guard;
use super::{one_off_of, service_of};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::App;
use crate::db::instances::Instance;
use crate::db::{Client, apps, instances, plans, releases};
use crate::doors::{DoorKind, NewDoor};
use crate::engine::{Site, load_secrets_of, nodes_of, process_of};
use crate::hub::{CallError, NodeRef, StreamHandle};
use crate::services::access::{InstanceName, Reach, find_app, instance_of};
use crate::state::State;

/// What serves at an instance.
pub struct Place {
    pub site: Site,
    app: App,
    plan: Plan,
    configured: releases::Configured,
}

impl Place {
    /// Finds it, when the actor may operate it.
    pub async fn find(state: &Arc<State>, actor: &Actor, name: &InstanceName) -> Result<Self, ApiError> {
        Place::find_to(state, actor, name, Verb::Operate).await
    }

    /// Finds it, when the actor may do this there.
    pub async fn find_to(state: &Arc<State>, actor: &Actor, name: &InstanceName, verb: Verb) -> Result<Self, ApiError> {
        let conn = state.db.conn().await?;
        let app = find_app(&conn, actor, &name.app, verb, Reach::Label(&name.label)).await?;
        let instance = instance_of(&conn, &app, name).await?;
        let place = Place::load(state, &conn, &app, instance).await?;
        place.ok_or_else(|| not_serving(&name.app, &name.label))
    }

    /// The place of something that was begun with the right to it.
    pub async fn of_instance(state: &Arc<State>, id: InstanceId) -> Result<Self, ApiError> {
        let conn = state.db.conn().await?;
        let gone = || ApiError::new(Code::InstanceNotFound, "the instance is no more");
        let instance = instances::load_instance(&conn, id).await?.ok_or_else(gone)?;
        let app = apps::load_app_of(&conn, id).await?.ok_or_else(gone)?;
        Place::load(state, &conn, &app, instance).await?.ok_or_else(gone)
    }

    /// None when it serves nothing.
    async fn load(
        state: &Arc<State>,
        conn: &impl Client,
        app: &App,
        instance: Instance,
    ) -> Result<Option<Self>, ApiError> {
        let Some(plan) = plans::load_serving_plan(conn, instance.id).await? else { return Ok(None) };
        let Some(row) = releases::load_serving(conn, instance.id).await? else { return Ok(None) };
        let made = releases::load_configured(conn, instance.id, row.release).await?;
        let Some(configured) = made else { return Ok(None) };
        let site = Site::new(state, instance).map_err(crate::engine::into_api)?;
        Ok(Some(Place { site, app: app.clone(), plan, configured }))
    }

    pub fn service(&self, key: &str) -> Option<&ServiceSpec> {
        service_of(&self.plan, key)
    }

    /// The release's own service.
    pub fn web(&self) -> Result<&ServiceSpec, ApiError> {
        let instance = &self.site.instance;
        self.service("app/web").ok_or_else(|| not_serving(&instance.app_name, &instance.label))
    }

    /// The service of one of the release's process types; of the one that visitors reach when none is named.
    pub fn process(&self, name: Option<&ProcessName>) -> Result<&ServiceSpec, ApiError> {
        let Some(name) = name else { return self.web() };
        self.service(&format!("app/{name}")).ok_or_else(|| {
            let known: Vec<_> = self.plan.resources.iter().filter_map(process_of).collect();
            ApiError::new(Code::ServiceMissing, format!("the release has no process type {name}"))
                .with_hint(format!("it has {}", known.join(", ")))
        })
    }

    /// A service like the release's own, for a container that runs one command.
    pub fn one_off(&self, kind: &str) -> Result<ServiceSpec, ApiError> {
        Ok(one_off_of(self.web()?, &self.site.slug(), kind))
    }

    /// The named commands of what serves.
    pub fn tasks(&self) -> &BTreeMap<String, Task> {
        &self.configured.resolved.sections.tasks
    }

    pub fn is_protected(&self) -> bool {
        self.configured.resolved.is_protected()
    }

    pub fn has_database(&self) -> bool {
        self.plan.resources.iter().any(|resource| matches!(resource.spec, Spec::Database(_)))
    }

    /// The id of one of the cluster's own images.
    pub fn image(&self, name: &str) -> Result<String, ApiError> {
        let reports = self.site.needed_nodes().into_iter().filter_map(|node| self.site.state.hub.report(&node));
        let image = reports.into_iter().find_map(|report| report.images.get(name).cloned());
        image.ok_or_else(|| {
            ApiError::new(Code::NodeUnavailable, format!("the cluster's nodes have no image {name:?}"))
                .with_hint("build the images on the node with layers/images/build.sh")
        })
    }

    /// The values that the release's service names.
    pub async fn secrets(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let values = load_secrets_of(&self.site, &self.configured).await.map_err(crate::engine::into_api)?;
        let names = self.web()?.secret_env.values().flat_map(|text| text.names());
        Ok(names.filter_map(|name| values.get_key_value(name)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// Opens a door with this stream behind it, on the first node of the layer that has what it leads to.
    pub async fn open(
        &self,
        actor: &Actor,
        kind: DoorKind,
        detail: &str,
        layer: Layer,
        stream: StreamSpec,
    ) -> Result<StreamHandle, ApiError> {
        let (state, instance) = (&self.site.state, &self.site.instance);
        let new =
            NewDoor { actor, kind, app: Some(&self.app), label: Some(&instance.label), verb: Verb::Operate, detail };
        let door = state.doors.open(state, new).await?;
        let opened = tokio::select! {
            opened = self.open_stream(layer, stream) => opened,
            () = door.revoked() => Err(ApiError::new(Code::Forbidden, door.reason())),
        };
        match opened {
            Ok(handle) => Ok(guard(state, door, handle)),
            Err(error) => {
                door.close(&format!("failed: {error}")).await;
                Err(error)
            }
        }
    }

    async fn open_stream(&self, layer: Layer, stream: StreamSpec) -> Result<StreamHandle, ApiError> {
        let mut refusal: Option<ApiError> = None;
        for node in nodes_of(&self.site.instance.cluster, &self.site.cluster, layer) {
            match self.site.state.hub.open_stream(&node, stream.clone()).await {
                Ok(handle) => return Ok(handle),
                // The first is the one that should have had it.
                Err(error) => drop(refusal.get_or_insert_with(|| refused(&node, error))),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            ApiError::new(Code::NodeUnavailable, format!("no node of the cluster carries the layer {layer}"))
        }))
    }
}

fn not_serving(name: &AppName, label: &LabelName) -> ApiError {
    ApiError::new(Code::NotServing, format!("{name} ({label}) serves nothing yet"))
        .with_hint("deploy it: td app deploy")
}

fn refused(node: &NodeRef, error: CallError) -> ApiError {
    match error {
        CallError::Action(error) => {
            let mut refused = ApiError::new(Code::ActionFailed, error.message);
            refused.hint = error.hint;
            refused
        }
        CallError::NotConnected | CallError::Lost | CallError::Timeout => {
            ApiError::new(Code::NodeUnavailable, format!("node {node}: {error}"))
                .with_hint("see `td cluster info`, and whether the node's agent runs")
        }
    }
}
