//! `td`, the command-line client of Magrathea: reads the arguments, runs one command, turns its end into an exit code.

mod attach;
mod cli;
mod client;
mod command;
mod context;
mod exit;
mod follow;
mod human;
mod printer;
mod progress;
mod settings;
mod sign;
mod source;
mod stream;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::exit::{Exit, Failure};
use crate::printer::Printer;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse_from(cli::split_colon(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to fail; there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let printer = Printer::new(&settings::Terminal::read(), cli.globals.quiet);
    let json = cli.globals.json;
    let end = run(cli, &printer);
    end.unwrap_or_else(|failure| {
        if json {
            printer.failure_json(&failure);
        } else {
            printer.failure(&failure);
        }
        failure.exit
    })
    .into()
}

fn run(cli: cli::Cli, printer: &Printer) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(command::run(cli, printer));
    // An abandoned upload may still be reading; nobody waits for it.
    runtime.shutdown_background();
    end
}
