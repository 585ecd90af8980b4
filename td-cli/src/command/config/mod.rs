//! `td config …`: secret values. They are written, never read back.

mod list;
mod set;
mod unset;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Set secret values; they reach the app with its next deploy
    Set(set::Arguments),
    /// Forget secret values
    Unset(unset::Arguments),
    /// List the names of the values that are set
    List,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Set(arguments) => set::run(context, &arguments).await,
        Command::Unset(arguments) => unset::run(context, &arguments).await,
        Command::List => list::run(context).await,
    }
}

/// As in `for all labels`.
fn describe_label(label: Option<&str>) -> String {
    label.map_or("for all labels".into(), |label| format!("for the label {label}"))
}
