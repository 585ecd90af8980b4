//! `td release …`: what was made, how it differs, and going back.

mod diff;
mod info;
mod list;
mod rollback;

pub use diff::print_texts;

use std::str::FromStr;

use magrathea_core::names::ReleaseNumber;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the app's releases, newest first
    List(list::Arguments),
    /// Show a release
    Info(info::Arguments),
    /// What is different in a release than in another
    #[command(after_help = "Files, settings, the names of values, and what the layers were told. \
                            The release's own number counts as no difference.")]
    Diff(diff::Arguments),
    /// Bring an earlier release back, with the configuration and the values that it had
    #[command(after_help = "Nothing is built, and the release hook does not run again: data stay as they are.")]
    Rollback(rollback::Arguments),
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list::run(context, &arguments).await,
        Command::Info(arguments) => info::run(context, &arguments).await,
        Command::Diff(arguments) => diff::run(context, &arguments).await,
        Command::Rollback(arguments) => rollback::run(context, &arguments).await,
    }
}

/// A release's number, as in `v12` or `12`.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub ReleaseNumber);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('v').unwrap_or(text).parse();
        number.map(|number| Number(ReleaseNumber(number))).map_err(|_| "a release is called as in v12".to_owned())
    }
}
