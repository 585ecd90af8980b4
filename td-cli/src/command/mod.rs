//! One file per command. Each takes what was typed, asks the gateway, and prints.

pub mod access;
pub mod app;
pub mod billing;
pub mod cert;
pub mod cluster;
pub mod completions;
pub mod config;
mod confirmation;
pub mod deploy;
pub mod drain;
mod ended;
pub mod gateway;
pub mod git_credential;
pub mod grant;
pub mod instances;
pub mod key;
pub mod login;
pub mod man;
pub mod org;
pub mod person;
pub mod preview;
pub mod quota;
mod reference;
pub mod release;
pub mod run;
mod status;
pub mod task;
pub mod team;
pub mod timeline;
pub mod token;
pub mod usage;
mod whoami;

use std::cell::OnceCell;

use magrathea_core::previews::spell_label;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;

pub async fn run(cli: Cli, printer: &Printer) -> Result<Exit, Failure> {
    let mut globals = cli.globals;
    // Whoever deploys also says how the branch is spelled; else only the label counts.
    let is_source = matches!(
        cli.command,
        Command::App(app::Command::Deploy(_) | app::Command::Plan(_) | app::Command::Validate(_))
    );
    if !is_source {
        globals.label = globals.label.map(|label| spell_label(&label));
    }
    let context = Context { globals, printer, guessed: OnceCell::new() };
    run_in(&context, cli.command).await.map_err(|failure| context.explain(failure))
}

async fn run_in(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::App(command) => app::run(context, command).await,
        Command::Deploy(command) => deploy::run(context, command).await,
        Command::Release(command) => release::run(context, command).await,
        Command::Preview(command) => preview::run(context, command).await,
        Command::Task(command) => task::run(context, command).await,
        Command::Run(command) => run::run(context, command).await,
        Command::Drain(command) => drain::run(context, command).await,
        Command::Quota(command) => quota::run(context, command).await,
        Command::Config(command) => config::run(context, command).await,
        Command::Billing(command) => billing::run(context, command).await,
        Command::Cert(command) => cert::run(context, command).await,
        Command::Cluster(command) => cluster::run(context, command).await,
        Command::Gateway(arguments) => gateway::run(context, &arguments).await,
        Command::Login(arguments) => login::login(context, &arguments).await,
        Command::Join(arguments) => login::join(context, &arguments).await,
        Command::Logout => login::logout(context).await,
        Command::Whoami => whoami::run(context).await,
        Command::Org(command) => org::run(context, command).await,
        Command::Person(command) => person::run(context, command).await,
        Command::Team(arguments) => team::run(context, arguments).await,
        Command::Grant(command) => grant::run(context, command).await,
        Command::Key(arguments) => key::run(context, arguments).await,
        Command::Token(arguments) => token::run(context, arguments).await,
        Command::Access(arguments) => access::run(context, arguments).await,
        Command::Status => status::run(context).await,
        Command::Timeline(arguments) => timeline::run(context, &arguments).await,
        Command::Usage(arguments) => usage::run(context, &arguments).await,
        Command::Completions(arguments) => completions::run(context, &arguments),
        Command::GitCredential(arguments) => git_credential::run(context, &arguments),
        Command::Man(arguments) => man::run(context, &arguments),
        Command::Reference => reference::run(context),
    }
}
