//! `td config …`: secret values. They are masked wherever they are not asked for by name.

mod change;
mod file;
mod history;
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
    /// Who changed which value when
    History,
    /// Give the database a new password, without dropping a request
    RotateDb,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Set(arguments) => set::run(context, &arguments).await,
        Command::Unset(arguments) => unset::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Edit(arguments) => file::edit(context, &arguments).await,
        Command::Import(arguments) => file::import(context, &arguments).await,
        Command::Export => file::export(context).await,
        Command::History => history::run(context).await,
        Command::RotateDb => rotate::run(context).await,
    }
}

/// As in `for all labels`.
fn describe_label(label: Option<&str>) -> String {
    label.map_or("for all labels".into(), |label| format!("for the label {label}"))
}
