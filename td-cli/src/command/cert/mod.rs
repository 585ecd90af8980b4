//! `td cert …`: certificates of one's own, named by `routing.tls` in magrathea.yml.

mod list;
mod set;
mod unset;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Store a certificate chain with its key
    Set(set::Arguments),
    /// List the stored certificates
    List,
    /// Forget a certificate
    Unset(unset::Arguments),
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Set(arguments) => set::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Unset(arguments) => unset::run(context, &arguments).await,
    }
}
