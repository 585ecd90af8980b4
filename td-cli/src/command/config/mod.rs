//! `td config …`: secret values, which are masked wherever they are not asked for by name, and the history of what the
//! layers were told.

mod change;
mod file;
mod history;
mod laid;
mod list;
mod rotate;
mod set;
mod unset;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Set secret values and deploy what serves with them
    Set(set::Arguments),
    /// Forget secret values
    Unset(unset::Arguments),
    /// List the names of the values that are set
    List,
    /// Edit the values in your editor
    Edit(file::EditArguments),
    /// Set the values of a .env file
    Import(file::ImportArguments),
    /// Print the values themselves, as a .env file
    Export,
    /// Who changed which value when, and when the layers were told something else
    History(history::Arguments),
    /// What the layers were told, now or at some time
    Show(laid::ShowArguments),
    /// How what the layers were told differs
    #[command(after_help = "As in `td config diff --layer proxy`: the last change of what the cache was told.")]
    Diff(laid::DiffArguments),
    /// Put one layer back to how it was: proxy or routing
    #[command(after_help = RESTORE_HELP)]
    Restore(laid::RestoreArguments),
    /// Give the database a new password, without dropping a request
    RotateDb,
}

/// Told below the help.
const RESTORE_HELP: &str = "What serves stays the release that it is; the next deploy lays the layer anew, as its magrathea.yml says. \
    The other layers come back with their release: td release rollback.";

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Set(arguments) => set::run(context, &arguments).await,
        Command::Unset(arguments) => unset::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Edit(arguments) => file::edit(context, &arguments).await,
        Command::Import(arguments) => file::import(context, &arguments).await,
        Command::Export => file::export(context).await,
        Command::History(arguments) => history::run(context, &arguments).await,
        Command::Show(arguments) => laid::show(context, &arguments).await,
        Command::Diff(arguments) => laid::diff(context, &arguments).await,
        Command::Restore(arguments) => laid::restore(context, &arguments).await,
        Command::RotateDb => rotate::run(context).await,
    }
}

/// As in `for all labels`.
fn describe_label(label: Option<&str>) -> String {
    label.map_or("for all labels".into(), |label| format!("for the label {label}"))
}
