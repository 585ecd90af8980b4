//! The only ways to come by an app for a person: what one may not see at all answers as if it did not exist.

use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::{Place, Verb};
use magrathea_core::previews::LabelPattern;

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::apps::{self, App};
use crate::db::instances::{self, Instance};

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

/// The instances of an app's label, one on each cluster that it lives on; at least one.
pub async fn instances_of(client: &impl Client, app: &App, label: &LabelName) -> Result<Vec<Instance>, ApiError> {
    let mut of_label = instances::list_app_instances(client, app.id).await?;
    of_label.retain(|instance| instance.label == *label);
    if of_label.is_empty() { Err(no_instance(&app.name, label)) } else { Ok(of_label) }
}

/// The first of them, where one is enough.
pub async fn instance_of(client: &impl Client, app: &App, label: &LabelName) -> Result<Instance, ApiError> {
    let of_label = instances_of(client, app, label).await?;
    of_label.into_iter().next().ok_or_else(|| no_instance(&app.name, label))
}

/// The instance that a person names, when they may do this with its label.
pub async fn find_instance(
    client: &impl Client,
    actor: &Actor,
    (app, label): (&AppName, &LabelName),
    verb: Verb,
) -> Result<Instance, ApiError> {
    let app = find_app(client, actor, app, verb, Reach::Label(label)).await?;
    instance_of(client, &app, label).await
}

/// The instances of an app that somebody may see, of one label or of all.
pub async fn visible_instances(
    client: &impl Client,
    actor: &Actor,
    app: &AppName,
    label: Option<&LabelName>,
) -> Result<Vec<Instance>, ApiError> {
    let app = find_app(client, actor, app, Verb::Look, label.map_or(Reach::Some, Reach::Label)).await?;
    let mut instances = instances::list_app_instances(client, app.id).await?;
    instances.retain(|instance| label.is_none_or(|label| *label == instance.label));
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
