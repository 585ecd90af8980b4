//! The agent's options; the only place that reads them.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use magrathea_core::units::Span;

/// Acts beside its node's Docker Engine on the gateway's behalf.
#[derive(Debug, Parser)]
#[command(name = "magrathea-agent", version)]
pub struct Cli {
    /// What is logged, as in `info` or `magrathea_agent=debug`.
    #[arg(long, global = true, env = "MAGRATHEA_LOG", default_value = "info")]
    pub log: String,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Exchange a one-time token for this node's certificate.
    Enrol(EnrolOptions),
    /// Serve the gateway until a signal comes.
    Run(EngineOptions),
    /// Stop this installation's services on the engine; data stays.
    Stop(EngineOptions),
    /// Remove everything that this installation made on the node, with its data.
    Clean(EngineOptions),
    /// Count how much of a disk a folder takes; the agent runs it itself.
    #[command(hide = true)]
    Measure(MeasureOptions),
}

#[derive(Debug, Clone, Args)]
pub struct MeasureOptions {
    #[arg(long)]
    pub folder: PathBuf,
    /// How many threads count; enough to keep a disk busy when absent.
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub struct EnrolOptions {
    /// The gateway's API, as in https://127.0.0.1:7443.
    #[arg(long)]
    pub gateway: String,
    /// PEM of the gateway's CA: the only one trusted.
    #[arg(long)]
    pub ca: PathBuf,
    /// Holds the one-time token.
    #[arg(long)]
    pub token_file: PathBuf,
    /// The agent's folder.
    #[arg(long)]
    pub data: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct EngineOptions {
    /// The agent's folder.
    #[arg(long)]
    pub data: PathBuf,
    /// Starts the name of everything made in the engine, so that installations can share one.
    #[arg(long, default_value = "mag")]
    pub prefix: Prefix,
    /// The engine's socket.
    #[arg(long, default_value = "unix:///var/run/docker.sock")]
    pub docker: String,
    /// How often the gateway is told what instances used.
    #[arg(long, default_value = "1m", env = "MAGRATHEA_USAGE_EVERY")]
    pub usage_every: Span,
    /// How often it is looked how much disk each instance takes.
    #[arg(long, default_value = "5m", env = "MAGRATHEA_DISK_EVERY")]
    pub disk_every: Span,
}

/// The start of every engine object's name: a lower-case letter, then up to 11 letters or digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The engine's name for a plan's.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }
}

impl FromStr for Prefix {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() <= 12
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(Prefix(text.to_owned()))
        } else {
            Err("must be 1 to 12 lower-case letters or digits, a letter first")
        }
    }
}
