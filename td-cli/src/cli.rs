//! The grammar: `td NOUN VERB`, with `NOUN:VERB` accepted for hands that know Heroku or Dokku.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::command::{
    access, app, billing, cert, cluster, completions, config, deploy, drain, gateway, git_credential, grant, key,
    login, man, org, person, preview, quota, release, run, task, team, timeline, token, usage,
};
use crate::exit::Exit;

/// Deploys applications to static clusters of your own servers.
#[derive(Debug, Parser)]
#[command(name = "td", version, max_term_width = 100)]
#[command(after_help = after_help())]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Variables that stand for no option.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("TD_TOKEN", "the token, instead of the one in credentials.json"),
    ("TD_CA", "a PEM file with the gateway's CA, instead of the one in credentials.json"),
    ("NO_COLOR", "no colours, even on a terminal"),
    ("CLICOLOR_FORCE", "colours, even in a pipe"),
];

fn after_help() -> String {
    let codes: Vec<_> = Exit::ALL.iter().map(|(code, meaning)| format!("  {}  {meaning}", code.code())).collect();
    let variables: Vec<_> = ENVIRONMENT.iter().map(|(name, meaning)| format!("  {name:<14}  {meaning}")).collect();
    format!("Exit codes:\n{}\n\nEnvironment:\n{}", codes.join("\n"), variables.join("\n"))
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The app; else the `app:` of the nearest magrathea.yml
    #[arg(short, long, global = true, env = "TD_APP", hide_env_values = true, value_name = "APP")]
    pub app: Option<String>,
    /// The label of the app's magrathea.yml
    #[arg(short, long, global = true, value_name = "LABEL")]
    pub label: Option<String>,
    /// Only on this one of the label's clusters
    #[arg(long, global = true, value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// Print the API's own object on stdout; an error is the last line on stderr, a JSON object too
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, no hints, no table headers
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Work as if started in this folder
    #[arg(short = 'C', long, global = true, value_name = "FOLDER", default_value = ".", hide_default_value = true)]
    pub folder: PathBuf,
    /// The gateway's address; else the one in the credentials
    #[arg(long, global = true, env = "TD_GATEWAY", hide_env_values = true, value_name = "URL")]
    pub gateway: Option<String>,
    /// Where credentials.json lies; else ~/.config/magrathea
    #[arg(long, global = true, env = "TD_CONFIG_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub config_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Applications: describe, deploy, look at, take away
    #[command(subcommand)]
    App(app::Command),
    /// Deploys: what is running and what has been
    #[command(subcommand)]
    Deploy(deploy::Command),
    /// Releases: what was made, and going back
    #[command(subcommand)]
    Release(release::Command),
    /// Instances of branches, which live for a time
    #[command(subcommand)]
    Preview(preview::Command),
    /// Named commands of the release that serves
    #[command(subcommand)]
    Task(task::Command),
    /// Commands that run detached
    #[command(subcommand)]
    Run(run::Command),
    /// Secret values that an app gets as environment, and the history of its configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Where logs are sent to
    #[command(subcommand)]
    Drain(drain::Command),
    /// What usage costs: previews, closed months, exports
    #[command(subcommand)]
    Billing(billing::Command),
    /// How much traffic may be taken in a month
    #[command(subcommand)]
    Quota(quota::Command),
    /// TLS certificates of your own
    #[command(subcommand)]
    Cert(cert::Command),
    /// Clusters and their nodes
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// The gateway's version, SSH address and host key
    Gateway(gateway::Arguments),
    /// Log in to a gateway with an SSH key
    Login(login::LoginArguments),
    /// Accept an invitation with an SSH key
    Join(login::JoinArguments),
    /// End the session
    Logout,
    /// Who you are and what you may do
    Whoami,
    /// Organisations: the operator's customers, and the operator
    #[command(subcommand)]
    Org(org::Command),
    /// People
    #[command(subcommand)]
    Person(person::Command),
    /// Teams: people who have their roles together
    Team(team::Team),
    /// Who has which role where
    #[command(subcommand)]
    Grant(grant::Command),
    /// SSH keys
    Key(key::Key),
    /// Tokens for programs, and sessions
    Token(token::Token),
    /// Named IP lists, and from where the gateway may be used
    Access(access::Access),
    /// Everything at a glance: clusters, instances, running deploys
    Status,
    /// Who did what, newest first
    Timeline(timeline::Arguments),
    /// What instances use: traffic, disk, CPU and memory
    Usage(usage::Usage),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Give git the token for pushes over HTTPS
    #[command(hide = true)]
    GitCredential(git_credential::Arguments),
    /// Write the man pages to a folder
    #[command(hide = true)]
    Man(man::Arguments),
    /// Print this reference as markdown
    #[command(hide = true)]
    Reference,
}

/// Turns `td app:deploy …` into `td app deploy …`; only the first argument is looked at, so no value is ever split.
pub fn split_colon(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    for (n, argument) in arguments.enumerate() {
        match argument.to_str().and_then(|text| text.split_once(':')) {
            Some((noun, verb)) if n == 1 && !noun.starts_with('-') => out.extend([noun.into(), verb.into()]),
            _ => out.push(argument),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_the_first_argument_is_split() {
        let split = |words: &[&str]| split_colon(words.iter().map(OsString::from));
        assert_eq!(split(&["td", "app:deploy", "a:b"]), ["td", "app", "deploy", "a:b"]);
        assert_eq!(split(&["td", "--gateway=https://x", "app"]), ["td", "--gateway=https://x", "app"]);
        assert_eq!(split(&["td"]), ["td"]);
    }
}
