//! `td completions`: a completion script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell, as in `td completions bash > /etc/bash_completion.d/td`
    shell: Shell,
}

pub fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "td", &mut script);
    context.printer.data(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
