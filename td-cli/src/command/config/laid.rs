//! `td config show` and `td config diff`: what the layers were told, now or at some time, and how that differs.

use magrathea_core::api::{Configuration, ConfigurationTexts, RestoreLayer, RestoredLayer, TextDifference};
use magrathea_core::names::Layer;

use super::history::SHORT;
use crate::client::Client;
use crate::command::release::print_texts;
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::printer::{Look, clean};

#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// The configuration, as `td config history` lists them; the newest when absent
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Of this layer alone
    #[arg(long, value_name = "LAYER", value_parser = layer)]
    layer: Option<Layer>,
}

#[derive(Debug, clap::Args)]
pub struct DiffArguments {
    /// The configuration to begin with; the one before when absent
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// The configuration to end with; the newest when absent
    #[arg(value_name = "TO")]
    to: Option<String>,
    /// Of this layer alone
    #[arg(long, value_name = "LAYER", value_parser = layer)]
    layer: Option<Layer>,
}

#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// The configuration, as `td config history` lists them
    #[arg(value_name = "ID")]
    id: String,
    /// The layer that is put back
    #[arg(long, value_name = "LAYER", value_parser = layer)]
    layer: Layer,
}

fn layer(text: &str) -> Result<Layer, String> {
    let found = Layer::ALL.into_iter().find(|layer| layer.as_str() == text);
    found.ok_or_else(|| format!("the layers are {}", Layer::ALL.map(Layer::as_str).join(", ")))
}

pub async fn show(context: &Context<'_>, arguments: &ShowArguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let id = choose(&client, &place, arguments.id.as_ref()).await?;
    let path = ["apps", &place.app, "instances", &place.label, "configurations", &id];
    let mut configuration: ConfigurationTexts = client.get(&path, &place.query()).await?;
    configuration.texts.retain(|name, _| is_of(name, arguments.layer));
    if context.globals.json {
        context.printer.json(&configuration);
        return Ok(Exit::Done);
    }
    for (name, text) in &configuration.texts {
        context.printer.data(context.printer.on_stdout(Look::Bold, &format!("# {}", clean(name))));
        for line in text.lines() {
            context.printer.data(clean(line));
        }
        context.printer.data("");
    }
    Ok(Exit::Done)
}

pub async fn diff(context: &Context<'_>, arguments: &DiffArguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let id = choose(&client, &place, arguments.to.as_ref()).await?;
    let path = ["apps", &place.app, "instances", &place.label, "configurations", &id, "diff"];
    let mut query = place.query();
    query.extend(arguments.from.iter().map(|from| ("from".to_owned(), from.clone())));
    let mut texts: Vec<TextDifference> = client.get(&path, &query).await?;
    texts.retain(|text| is_of(&text.name, arguments.layer));
    if context.globals.json {
        context.printer.json(&texts);
    } else if texts.is_empty() {
        context.printer.data("no differences");
    } else {
        print_texts(context.printer, &texts);
    }
    Ok(Exit::Done)
}

pub async fn restore(context: &Context<'_>, arguments: &RestoreArguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let path = ["apps", &place.app, "instances", &place.label, "configurations", &arguments.id, "restore"];
    let restored: RestoredLayer =
        client.post_with(&path, &place.query(), &RestoreLayer { layer: arguments.layer }).await?;
    if context.globals.json {
        context.printer.json(&restored);
    } else if restored.differences.is_empty() {
        context.printer.note(format!("the layer {} of {place} is so already", arguments.layer));
    } else {
        print_texts(context.printer, &restored.differences);
        context
            .printer
            .note(format!("the layer {} of {place} is as in {}, until the next deploy", arguments.layer, arguments.id));
    }
    Ok(Exit::Done)
}

/// The names of texts begin with their layer's.
fn is_of(name: &str, layer: Option<Layer>) -> bool {
    layer.is_none_or(|layer| name.split('/').next() == Some(layer.as_str()))
}

async fn choose(client: &Client, place: &Place, id: Option<&String>) -> Result<String, Failure> {
    if let Some(id) = id {
        return Ok(id.clone());
    }
    let newest: Vec<Configuration> = client.get(&["apps", &place.app, "configurations"], &place.narrow(1)).await?;
    let id = newest.into_iter().next().map(|newest| newest.id.chars().take(SHORT).collect());
    id.ok_or_else(|| {
        Failure::say(Exit::Failed, format!("nothing was laid for {place} yet")).hint("deploy it first: td app deploy")
    })
}
