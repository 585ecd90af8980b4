//! `td config import`, `export` and `edit`: values as a `.env` text.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use magrathea_core::dotenv;

use super::change::{Changes, Staging, change};
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings;

#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// A `.env` file; `-` reads stdin
    file: PathBuf,
    /// Forget the values that the file does not have
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    staging: Staging,
}

#[derive(Debug, clap::Args)]
pub struct EditArguments {
    #[command(flatten)]
    staging: Staging,
}

/// `td config export`: the values themselves, which takes the role operator and stands on the timeline.
pub async fn export(context: &Context<'_>) -> Result<Exit, Failure> {
    let values = load(context).await?;
    if context.globals.json {
        context.printer.json(&values);
    } else {
        for line in dotenv::print(&values).lines() {
            context.printer.data(line);
        }
    }
    Ok(Exit::Done)
}

/// `td config import`.
pub async fn import(context: &Context<'_>, arguments: &ImportArguments) -> Result<Exit, Failure> {
    let text = if arguments.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("stdin is not text")?;
        text
    } else {
        let file = &arguments.file;
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?
    };
    let new = read(&text)?;
    let changes = if arguments.replace {
        differences(&load(context).await?, &new)
    } else {
        new.into_iter().map(|(key, value)| (key, Some(value))).collect()
    };
    send(context, changes, arguments.staging).await
}

/// `td config edit`: in $VISUAL or $EDITOR; what was changed there is changed, all at once.
pub async fn edit(context: &Context<'_>, arguments: &EditArguments) -> Result<Exit, Failure> {
    let old = load(context).await?;
    // Made with mode 0600, in a folder of its own, and gone with it.
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut file = tempfile::Builder::new().suffix(".env").tempfile_in(&folder).context("no temporary file")?;
    let head = "# One KEY=\"value\" a line. A line that goes forgets its value. Save and leave the editor to apply.\n";
    file.write_all(format!("{head}{}", dotenv::print(&old)).as_bytes()).context("the temporary file")?;
    let path = file.into_temp_path();
    let editor = settings::editor();
    // An editor may be a command with options.
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(&path).status();
    let status = status.with_context(|| format!("the editor {editor} cannot be started"))?;
    if !status.success() {
        return Err(Failure::say(
            Exit::Failed,
            format!("the editor {editor} ended with {status}; nothing was changed"),
        ));
    }
    let text = std::fs::read_to_string(&path).context("the edited file cannot be read")?;
    send(context, differences(&old, &read(&text)?), arguments.staging).await
}

async fn load(context: &Context<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let app = context.app(None)?;
    let label = context.globals.label.clone();
    let query: Query = label.map(|label| ("label".to_owned(), label)).into_iter().collect();
    context.client()?.get(&["apps", app.as_str(), "config-values"], &query).await
}

fn read(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    dotenv::parse(text).map_err(|error| Failure::new(Exit::Usage, error).hint("nothing was changed"))
}

async fn send(context: &Context<'_>, changes: Changes, staging: Staging) -> Result<Exit, Failure> {
    if changes.is_empty() {
        context.printer.note("nothing is different");
        return Ok(Exit::Done);
    }
    change(context, changes, staging).await
}

fn differences(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Changes {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
    let set = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    gone.chain(set.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}
