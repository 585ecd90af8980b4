//! `td cluster …`.

mod info;
mod list;

pub use list::print;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the clusters
    List,
    /// Show a cluster's nodes and the layer services on them
    Info(info::Arguments),
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List => list::run(context).await,
        Command::Info(arguments) => info::run(context, &arguments).await,
    }
}
