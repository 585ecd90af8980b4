//! `td task …`: named commands of the release that serves.

use magrathea_core::api::{RunInfo, StartTask, TaskInfo};
use magrathea_core::units::Span;

use super::run::{print_detached, print_log};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::clean;
use crate::table;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the tasks of what serves, who may run each, and who does
    List,
    /// Run a task and print what it says, to its end
    #[command(
        after_help = "It ends with the task's own status. Ctrl-C leaves the task to itself: td run stop ends it."
    )]
    Run(Run),
}

#[derive(Debug, clap::Args)]
pub struct Run {
    /// The task's name in magrathea.yml
    #[arg(value_name = "TASK")]
    name: String,
    /// Do not wait for it: print the run's id and leave it to itself; see `td run`
    #[arg(short, long)]
    detach: bool,
    /// End it after this long, a day at most
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    time_limit: Span,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List => list(context).await,
        Command::Run(arguments) => start(context, &arguments).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let answer = client.get(&place.segments("tasks"), &place.query()).await?;
    context.show(answer, |printer, tasks: Vec<TaskInfo>| {
        let rows = tasks.iter().map(|task| {
            let running = task.running.as_ref().map(|run| format!("by {}: {}", run.person, run.id));
            let allowed = if task.allowed { "yes" } else { "no" };
            [
                task.name.clone(),
                task.role.to_string(),
                allowed.into(),
                table::or_dash(running),
                clean(&task.command).into_owned(),
            ]
        });
        table::print(printer, ["TASK", "ROLE", "ALLOWED", "RUNS", "COMMAND"], rows);
    })
}

async fn start(context: &Context<'_>, arguments: &Run) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let body = StartTask { time_limit: Some(arguments.time_limit.0.as_secs()) };
    let path = ["apps", &place.app, "instances", &place.label, "tasks", &arguments.name, "runs"];
    let run: RunInfo = client.post_with(&path, &place.query(), &body).await?;
    if !arguments.detach {
        context.printer.note(format!("{} at {place}: run {}", arguments.name, run.id));
        return print_log(context, run.id, true).await;
    }
    print_detached(context, &run, &place);
    Ok(Exit::Done)
}
