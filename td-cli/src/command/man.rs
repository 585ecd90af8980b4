//! `td man`: the man pages, for packagers.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// An existing folder
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    clap_mangen::generate_to(Cli::command(), &arguments.folder)
        .with_context(|| format!("{} cannot be written to", arguments.folder.display()))?;
    context.printer.note(format!("wrote the man pages to {}", arguments.folder.display()));
    Ok(Exit::Done)
}
