//! The only ways to come by an app for a person: what one may not see at all answers as if it did not exist.

use magrathea_core::names::{AppName, ClusterName, LabelName};
use magrathea_core::people::{Place, Verb};
use magrathea_core::previews::LabelPattern;

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::apps::{self, App};
use crate::db::instances::{self, Instance};

/// An instance as people name it. The cluster may be left out of a label that lives on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceName {
    pub app: AppName,
    pub label: LabelName,
    pub cluster: Option<ClusterName>,
}

/// How much of an app an act is about.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'a> {
    /// All of it.
    Whole,
    Label(&'a LabelName),
    Labels(&'a LabelPattern),
    /// At least one of its labels; which one is checked later.
    Some,
}

fn place<'a>(app: &App, reach: Reach<'a>) -> Place<'a> {
    let (organisation, app) = (app.organisation_id, app.id);
    match reach {
        Reach::Whole => Place::App { organisation, app },
        Reach::Label(label) => Place::Label { organisation, app, label },
        Reach::Labels(pattern) => Place::Labels { organisation, app, pattern },
        Reach::Some => Place::SomeLabel { organisation, app },
    }
}

/// The app, when the actor may do this with it.
pub async fn find_app(
    client: &impl Client,
    actor: &Actor,
    name: &AppName,
    verb: Verb,
    reach: Reach<'_>,
) -> Result<App, ApiError> {
    let app = apps::load_app(client, name).await?;
    let app = app.filter(|app| sees(actor, app)).ok_or_else(|| no_app(name))?;
    require(actor, &app, verb, reach)?;
    Ok(app)
}

/// Whether the actor may know that the app exists.
pub fn sees(actor: &Actor, app: &App) -> bool {
    actor.access.sees(place(app, Reach::Some))
}

/// Refuses what the actor may not do with an app that they may see.
pub fn require(actor: &Actor, app: &App, verb: Verb, reach: Reach<'_>) -> Result<(), ApiError> {
    if actor.may(verb, place(app, reach)) {
        return Ok(());
    }
    let name = &app.name;
    let what = match reach {
        Reach::Whole => format!("the whole app {name}"),
        Reach::Label(label) => format!("{name} ({label})"),
        Reach::Labels(pattern) => format!("{name} ({pattern})"),
        Reach::Some => format!("the app {name}"),
    };
    // A label that one may not see is a label that does not exist.
    if let Reach::Label(label) = reach
        && !actor.access.sees(place(app, reach))
    {
        return Err(no_instance(name, label));
    }
    Err(forbidden(actor, verb, &what))
}

/// Refuses what is not the actor's to do at a place that they may see.
pub fn require_at(actor: &Actor, verb: Verb, at: Place<'_>, what: &str) -> Result<(), ApiError> {
    if actor.may(verb, at) { Ok(()) } else { Err(forbidden(actor, verb, what)) }
}

/// The instances that a name stands for: the one on the cluster that it names, else one on each cluster that the label
/// lives on; at least one.
pub async fn instances_of(client: &impl Client, app: &App, name: &InstanceName) -> Result<Vec<Instance>, ApiError> {
    let InstanceName { label, cluster, .. } = name;
    let mut of_label = instances::list_app_instances(client, app.id).await?;
    of_label.retain(|instance| instance.label == *label);
    if of_label.is_empty() {
        return Err(no_instance(&app.name, label));
    }
    let Some(cluster) = cluster else { return Ok(of_label) };
    let lives_on = list(of_label.iter().map(|instance| &instance.cluster));
    of_label.retain(|instance| instance.cluster == *cluster);
    if of_label.is_empty() {
        let message = format!("{} has no instance with the label {label} on {cluster}", app.name);
        return Err(ApiError::new(Code::InstanceNotFound, message).with_hint(format!("it lives on {lives_on}")));
    }
    Ok(of_label)
}

/// The one that it stands for, where there can be only one.
pub async fn instance_of(client: &impl Client, app: &App, name: &InstanceName) -> Result<Instance, ApiError> {
    let mut of_label = instances_of(client, app, name).await?;
    match (of_label.pop(), of_label.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let clusters = of_label.iter().chain(&last).map(|instance| &instance.cluster);
            Err(several_clusters(&app.name, &name.label, clusters))
        }
    }
}

/// The error that a label lives on several clusters and none of them was named.
pub fn several_clusters<'a>(
    app: &AppName,
    label: &LabelName,
    clusters: impl Iterator<Item = &'a ClusterName> + Clone,
) -> ApiError {
    let all = list(clusters.clone());
    let mut error = ApiError::new(Code::ClusterAmbiguous, format!("{app} ({label}) lives on several clusters: {all}"));
    error.clusters = clusters.map(ToString::to_string).collect();
    error.with_hint(format!("name one: --cluster CLUSTER, or {app}.{label}.CLUSTER over SSH"))
}

fn list<'a>(clusters: impl Iterator<Item = &'a ClusterName>) -> String {
    clusters.map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
}

/// The instance that a person names, when they may do this with its label.
pub async fn find_instance(
    client: &impl Client,
    actor: &Actor,
    name: &InstanceName,
    verb: Verb,
) -> Result<Instance, ApiError> {
    let app = find_app(client, actor, &name.app, verb, Reach::Label(&name.label)).await?;
    instance_of(client, &app, name).await
}

/// The instances of an app that somebody may see, of one label or of all, on one cluster or on all.
pub async fn visible_instances(
    client: &impl Client,
    actor: &Actor,
    app: &AppName,
    (label, cluster): (Option<&LabelName>, Option<&ClusterName>),
) -> Result<Vec<Instance>, ApiError> {
    let app = find_app(client, actor, app, Verb::Look, label.map_or(Reach::Some, Reach::Label)).await?;
    let mut instances = instances::list_app_instances(client, app.id).await?;
    instances.retain(|instance| label.is_none_or(|label| *label == instance.label));
    instances.retain(|instance| cluster.is_none_or(|cluster| *cluster == instance.cluster));
    instances.retain(|instance| actor.may(Verb::Look, instance.place()));
    Ok(instances)
}

/// The error that there is no such app, or none for this person.
pub fn no_app(name: &AppName) -> ApiError {
    ApiError::new(Code::AppNotFound, format!("there is no app {name}"))
        .with_hint(format!("td app create {name} makes it, td app list lists yours"))
}

/// The error that there is no such instance, or none for this person.
pub fn no_instance(name: &AppName, label: &LabelName) -> ApiError {
    ApiError::new(Code::InstanceNotFound, format!("{name} has no instance with the label {label}"))
}

fn forbidden(actor: &Actor, verb: Verb, what: &str) -> ApiError {
    let doing = match verb {
        Verb::Look => "see",
        Verb::Deploy => "deploy or configure",
        Verb::Operate => "operate",
        Verb::Administer => "administer",
        Verb::Costs => "see the costs of",
    };
    let limited = if actor.access.limits.is_some() { " with this token" } else { "" };
    ApiError::new(Code::Forbidden, format!("you may not {doing} {what}{limited}")).with_hint(format!(
        "it takes the role {}; `td whoami` shows yours, an administrator can give it with `td grant add`",
        verb.least_role()
    ))
}
