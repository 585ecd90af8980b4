//! `td preview …`: instances of branches, which live for a time.

use jiff::Timestamp;
use magrathea_core::api::{ExtendPreview, InstanceInfo, PreviewInfo};
use magrathea_core::previews::spell_label;
use magrathea_core::units::Span;
use serde_json::{Value, json};

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the app's previews: their branch, age, expiry, and what each has cost
    #[command(after_help = "The cost is in GiB-hours: the memory that its replicas reserved, times the hours.")]
    List,
    /// Let a preview live longer, or shorter
    Extend(Extend),
    /// Destroy a preview with its data
    Destroy(Which),
}

#[derive(Debug, clap::Args)]
pub struct Extend {
    #[command(flatten)]
    which: Which,
    /// From now on, as in 7d; up to 365d
    expire: Span,
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// As in preview-login-form, or preview/login-form
    #[arg(value_name = "LABEL", id = "preview")]
    label: String,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List => list(context).await,
        Command::Extend(arguments) => extend(context, &arguments).await,
        Command::Destroy(which) => destroy(context, &which).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let all: Vec<InstanceInfo> = context.client()?.get(&["apps", app.as_str(), "instances"], &Query::new()).await?;
    let previews: Vec<InstanceInfo> = all
        .into_iter()
        .filter(|instance| instance.preview.is_some() && context.means(&instance.label, &instance.cluster))
        .collect();
    if context.globals.json {
        context.printer.json(&previews);
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows = previews.iter().filter_map(|instance| Some((instance, instance.preview.as_ref()?)));
    let rows = rows.map(|(instance, preview)| {
        [
            instance.label.clone(),
            preview.branch.clone(),
            instance.cluster.clone(),
            instance.state.clone(),
            human::age(instance.created, now),
            describe_expiry(preview, now),
            format!("{:.2} GiB h", preview.memory_gib_hours),
            or_dash(instance.urls.first()),
        ]
    });
    let header = ["LABEL", "BRANCH", "CLUSTER", "STATE", "AGE", "EXPIRES", "COST", "URL"];
    table::print(context.printer, header, rows);
    Ok(Exit::Done)
}

/// As in `in 6d`.
pub fn describe_expiry(preview: &PreviewInfo, now: Timestamp) -> String {
    if preview.expires <= now { "now".into() } else { format!("in {}", human::age(now, preview.expires)) }
}

async fn extend(context: &Context<'_>, Extend { which, expire }: &Extend) -> Result<Exit, Failure> {
    let (app, label) = (context.app(None)?, spell_label(&which.label));
    let body = ExtendPreview { expire: expire.to_string() };
    let path = ["apps", app.as_str(), "instances", &label, "preview"];
    let answer: Value = context.client()?.put_with(&path, &context.on_cluster(), &body).await?;
    context.show(answer, |printer, instance: InstanceInfo| {
        let expiry = instance.preview.as_ref().map(|preview| describe_expiry(preview, Timestamp::now()));
        printer.note(format!("{app} ({label}) expires {}", expiry.unwrap_or_default()));
    })
}

async fn destroy(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let (app, label) = (context.app(None)?, spell_label(&which.label));
    let path = ["apps", app.as_str(), "instances", &label, "preview"];
    context.client()?.delete(&path, &context.on_cluster()).await?;
    context.done(&json!({"app": app, "label": label}));
    context.printer.note(format!("destroyed {app} ({label}) with its files and database"));
    Ok(Exit::Done)
}
