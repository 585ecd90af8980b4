//! What the gateway is told on its command line and in its environment. Nothing else reads either.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::tz::TimeZone;
use magrathea_core::manifest::find_zone;
use magrathea_core::names::{ClusterName, NodeName};
use magrathea_core::scaling::Pace;
use magrathea_core::units::Span;

/// The gateway of a Magrathea installation.
#[derive(Debug, Parser)]
#[command(name = "magrathea-gateway", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway.
    Serve(Serve),
    /// Sets the gateway up: keys, certificates, database and the first administrator. What exists is kept.
    Init(Init),
    /// Prints a one-time token with which a node's agent enrols; it is good for an hour.
    NodeToken(NodeToken),
    /// What git runs during a push: asks the gateway whether it is accepted.
    #[command(hide = true)]
    Hook(Hook),
    /// Prints the API's OpenAPI document.
    Openapi,
    /// Prints the reference of the API's error codes, in Markdown.
    Errors,
}

/// Where everything is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The folder of the gateway's keys, blobs and private database.
    #[arg(long, value_name = "DIR", env = "MAGRATHEA_DATA")]
    pub data: PathBuf,
    /// The clusters.yml.
    #[arg(long, value_name = "FILE", env = "MAGRATHEA_CLUSTERS")]
    pub clusters: PathBuf,
    /// The rates.yml: what usage costs.
    #[arg(long, value_name = "FILE", env = "MAGRATHEA_RATES")]
    pub rates: Option<PathBuf>,
    /// The PostgreSQL to use; a private one is run in the data folder when absent.
    #[arg(long, value_name = "URL", env = "MAGRATHEA_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Allows to run as root.
    #[arg(long)]
    pub allow_root: bool,
}

/// Where the gateway listens.
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// The address of the API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443", env = "MAGRATHEA_API")]
    pub api: SocketAddr,
    /// The address of the listener for agents.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7444", env = "MAGRATHEA_AGENTS")]
    pub agents: SocketAddr,
    /// The address of the SSH listener.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7422", env = "MAGRATHEA_SSH")]
    pub ssh: SocketAddr,
    /// The host name or address at which clients and agents reach the gateway; the listen address when absent.
    #[arg(long, value_name = "NAME", env = "MAGRATHEA_HOST")]
    pub host: Option<String>,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub listen: Listen,
    /// Networks that logs may be sent to, beside public addresses.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "MAGRATHEA_DRAIN_TO")]
    pub drain_to: Vec<ipnet::IpNet>,
    #[command(flatten)]
    pub pace: ScalePace,
    /// The time zone whose days and months usage is told in, as in Europe/Rome, where no rates.yml has one.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = time_zone, env = "MAGRATHEA_TIME_ZONE")]
    pub time_zone: TimeZone,
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    find_zone(name).ok_or_else(|| format!("there is no time zone {name:?}; write one as in Europe/Rome"))
}

/// How quickly automatic scaling follows the load.
#[derive(Debug, Args)]
pub struct ScalePace {
    /// How long replicas are busier than their target before there are more.
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "MAGRATHEA_SCALE_UP_AFTER")]
    pub scale_up_after: Span,
    /// How long fewer replicas would have done before there are fewer.
    #[arg(long, value_name = "DURATION", default_value = "5m", env = "MAGRATHEA_SCALE_DOWN_AFTER")]
    pub scale_down_after: Span,
    /// How long a number that was changed stays.
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "MAGRATHEA_SCALE_REST")]
    pub scale_rest: Span,
}

impl ScalePace {
    pub fn pace(&self) -> Pace {
        Pace { up: self.scale_up_after, down: self.scale_down_after, rest: self.scale_rest }
    }
}

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub listen: Listen,
    /// The file for the first administrator's credentials; kept when it exists, printed when absent.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct NodeToken {
    #[command(flatten)]
    pub place: Place,
    #[arg(long)]
    pub cluster: ClusterName,
    #[arg(long)]
    pub node: NodeName,
    /// The file for the token (mode 0600); printed when absent.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Hook {
    /// Git's name of the moment.
    pub event: HookEvent,
    /// Proves which push it is.
    #[arg(long, env = "MAGRATHEA_PUSH", hide_env_values = true)]
    pub push: String,
    /// Where the gateway listens for hooks.
    #[arg(long, env = "MAGRATHEA_PUSH_SOCKET")]
    pub socket: PathBuf,
    /// Where git keeps the new objects.
    #[arg(long, env = "GIT_QUARANTINE_PATH")]
    pub quarantine: Option<PathBuf>,
}

/// When git runs hooks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum HookEvent {
    PreReceive,
}

impl Listen {
    /// The host names and addresses that the server certificate is for.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let given = [Some(self.api.ip().to_string()), Some(self.agents.ip().to_string()), self.host.clone()];
        for name in given.into_iter().flatten() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// As in `https://127.0.0.1:7443`.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.reached(self.api))
    }

    /// `host:port` at which agents connect.
    pub fn connect(&self) -> String {
        self.reached(self.agents)
    }

    /// The host and port at which SSH clients connect.
    pub fn ssh_reached(&self) -> (String, u16) {
        (self.host.clone().unwrap_or_else(|| self.ssh.ip().to_string()), self.ssh.port())
    }

    fn reached(&self, address: SocketAddr) -> String {
        match &self.host {
            Some(host) if host.contains(':') => format!("[{host}]:{}", address.port()),
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    }
}

/// The folders in which programs are looked for.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The log filter, as in `info,magrathea_gateway=debug`. What russh says of hostile clients' packets is not told.
pub fn log_filter() -> String {
    std::env::var_os("MAGRATHEA_LOG").and_then(|v| v.into_string().ok()).unwrap_or_else(|| "info,russh=off".to_owned())
}
