//! The agent's command line: reads the options and hands over.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use magrathea_agent::config::{Cli, Command};
use magrathea_agent::{clean, enrol, run, run_measure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).unwrap_or_default();
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Enrol(options) => enrol::run_enrol(&options).await,
            Command::Run(options) => run::run_agent(&options).await,
            Command::Stop(options) => clean::run_stop(&options).await,
            Command::Clean(options) => clean::run_clean(&options).await,
            Command::Measure(options) => run_measure(&options).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
