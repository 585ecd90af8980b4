//! The gateway's program: options, log, runtime, one command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use magrathea_gateway::commands;
use magrathea_gateway::config::{self, Cli, Command};
use magrathea_gateway::git;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Hook(hook) = &cli.command {
        return git::hook::run(hook);
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(config::log_filter()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // Two threads: the gateway waits more than it works, and every thread costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        Command::Serve(options) => runtime.block_on(commands::serve(options)),
        Command::Init(options) => runtime.block_on(commands::init(options)),
        Command::NodeToken(options) => runtime.block_on(commands::node_token(options)),
        // Run above: it needs no runtime.
        Command::Hook(_) => Ok(()),
        Command::Openapi => Ok(writeln!(std::io::stdout(), "{}", commands::openapi_json()?)?),
        Command::Errors => Ok(write!(std::io::stdout(), "{}", commands::errors_markdown())?),
    }
}
