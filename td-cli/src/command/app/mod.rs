//! `td app …`.

mod create;
mod deploy;
mod destroy;
mod info;
mod init;
mod link;
mod list;
mod logs;
mod open;
mod plan;
mod promote;
mod scale;
mod shell;
mod tunnel;
mod upload;
mod validate;
mod values;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a magrathea.yml for what the folder holds
    Init(init::Arguments),
    /// Check magrathea.yml; needs no gateway
    #[command(after_help = "With `--label` it prints what the label comes to and where each value is from.")]
    Validate(validate::Arguments),
    /// Show what a deploy would add, change and remove
    Plan(plan::Arguments),
    /// Make an app without deploying it; in a git repository, with the remote to push to
    Create(Named),
    /// Set the git remote that `git push` deploys to
    #[command(after_help = "Over SSH, the gateway's host key goes into ~/.ssh/known_hosts.")]
    Link(link::Arguments),
    /// Deploy the HEAD commit, or a folder that is in no git repository
    #[command(after_help = "The first deploy makes the app. Ctrl-C detaches; the deploy goes on.")]
    Deploy(deploy::Arguments),
    /// Deploy the very image that one label serves under another, with that one's configuration
    #[command(after_help = "As in `td app promote staging production`. Nothing is built.")]
    Promote(promote::Arguments),
    /// Show how many replicas each process type has, or change it without a build
    #[command(after_help = SCALE_HELP)]
    Scale(scale::Arguments),
    /// List apps and where they live
    List,
    /// Show an app's instances: URL, state, release, what serves
    Info(Named),
    /// Show what an instance says, from all its replicas in the order of time
    #[command(after_help = "Escape sequences and control characters are shown as what they are, never acted on.")]
    Logs(logs::Arguments),
    /// Print an instance's URL and open it in the browser, if there is one
    Open(open::Arguments),
    /// Open a shell in a running replica, or run one command there
    #[command(after_help = SHELL_HELP)]
    Shell(shell::Shell),
    /// Run a command in a container of its own: the same release, configuration and files
    #[command(after_help = SHELL_HELP)]
    Run(shell::Run),
    /// Open a client of the app's own database
    Db(shell::Db),
    /// Speak SFTP on stdin and stdout, onto the app's writable paths: for `sftp -D`
    Sftp,
    /// Make a port of this machine lead to the app's database or memcached
    Tunnel(tunnel::Arguments),
    /// Take an app away with its data, or with --label one instance
    Destroy(destroy::Arguments),
}

const SCALE_HELP: &str = "As in `td app scale staging web=3 queue=1`. Later deploys keep it; `web=default` goes back to what \
                          magrathea.yml says.";

/// Told below the help of what joins a program to the terminal.
const SHELL_HELP: &str = "td ends with the program's own status. On a terminal, Enter ~ . leaves a session that hangs.";

/// An app, named or the one of the working folder.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The app; as --app
    #[arg(value_name = "APP")]
    name: Option<String>,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::run(context, &arguments),
        Command::Validate(arguments) => validate::run(context, &arguments),
        Command::Plan(arguments) => plan::run(context, &arguments).await,
        Command::Create(named) => create::run(context, &named).await,
        Command::Link(arguments) => link::run(context, &arguments).await,
        Command::Deploy(arguments) => deploy::run(context, &arguments).await,
        Command::Promote(arguments) => promote::run(context, &arguments).await,
        Command::Scale(arguments) => scale::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Info(named) => info::run(context, &named).await,
        Command::Logs(arguments) => logs::run(context, &arguments).await,
        Command::Open(arguments) => open::run(context, &arguments).await,
        Command::Shell(arguments) => shell::shell(context, &arguments).await,
        Command::Run(arguments) => shell::run(context, &arguments).await,
        Command::Db(arguments) => shell::db(context, &arguments).await,
        Command::Sftp => shell::sftp(context).await,
        Command::Tunnel(arguments) => tunnel::run(context, &arguments).await,
        Command::Destroy(arguments) => destroy::run(context, &arguments).await,
    }
}
