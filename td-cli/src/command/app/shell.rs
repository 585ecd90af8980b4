//! `td app shell`, `td app run`, `td app db` and `td app sftp`: programs at an instance, joined to the terminal or the pipe here.

use magrathea_core::api::{RunInfo, StartRun};
use magrathea_core::names::ProcessName;
use magrathea_core::remote::command_line;
use magrathea_core::units::Span;
use magrathea_core::wire::Tty;

use crate::attach::attach;
use crate::client::Query;
use crate::command::run::print_detached;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal;

#[derive(Debug, clap::Args)]
pub struct Shell {
    /// Run this instead of an interactive shell; one word is a command line
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
    /// No terminal on the other side, though there is one here
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// The replica, by the start of its container's id; see `td app info --json`
    #[arg(long, value_name = "ID")]
    replica: Option<String>,
    /// In a replica of this process type, as in queue; web when absent
    #[arg(long, value_name = "PROCESS")]
    process: Option<ProcessName>,
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The command; one word is a command line. An interactive shell when absent
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
    /// No terminal on the other side, though there is one here
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Do not wait for it: print its id and leave it to itself; see `td run`
    #[arg(short, long, requires = "command")]
    detach: bool,
    /// With --detach: end it after this long, a day at most
    #[arg(long, value_name = "DURATION", default_value = "1h", requires = "detach")]
    time_limit: Span,
}

#[derive(Debug, clap::Args)]
pub struct Db {
    /// Run this SQL and end; otherwise it is read from the terminal or the pipe
    #[arg(short, long, value_name = "SQL")]
    execute: Option<String>,
}

pub async fn shell(context: &Context<'_>, arguments: &Shell) -> Result<Exit, Failure> {
    let tty = terminal::tty().filter(|_| !arguments.no_tty);
    let mut query = Query::new();
    query.extend(arguments.replica.clone().map(|replica| ("replica".to_owned(), replica)));
    query.extend(arguments.process.as_ref().map(|process| ("process".to_owned(), process.to_string())));
    program(context, "shell", &arguments.command, tty, query).await
}

pub async fn run(context: &Context<'_>, arguments: &Run) -> Result<Exit, Failure> {
    if arguments.detach {
        return detach(context, arguments).await;
    }
    let tty = terminal::tty().filter(|_| !arguments.no_tty);
    program(context, "run", &arguments.command, tty, Query::new()).await
}

/// The SFTP protocol on stdin and stdout.
pub async fn sftp(context: &Context<'_>) -> Result<Exit, Failure> {
    program(context, "sftp", &[], None, Query::new()).await
}

pub async fn db(context: &Context<'_>, arguments: &Db) -> Result<Exit, Failure> {
    let command: Vec<String> = arguments.execute.iter().cloned().collect();
    let tty = terminal::tty().filter(|_| command.is_empty());
    program(context, "db", &command, tty, Query::new()).await
}

async fn detach(context: &Context<'_>, arguments: &Run) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let wanted =
        StartRun { command: command_line(&arguments.command), time_limit: Some(arguments.time_limit.0.as_secs()) };
    let run: RunInfo = client.post_with(&place.segments("runs"), &place.query(), &wanted).await?;
    print_detached(context, &run, &place);
    Ok(Exit::Done)
}

async fn program(
    context: &Context<'_>,
    door: &str,
    command: &[String],
    tty: Option<Tty>,
    mut query: Query,
) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    query.extend(place.query());
    if !command.is_empty() {
        query.push(("command".into(), command_line(command)));
    }
    if let Some(tty) = &tty {
        query.push(("term".into(), tty.term.clone()));
        query.push(("cols".into(), tty.size.cols.to_string()));
        query.push(("rows".into(), tty.size.rows.to_string()));
    }
    let stream = client.websocket(&place.segments(door), &query).await?;
    attach(stream, tty.as_ref()).await
}
