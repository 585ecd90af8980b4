//! `td run …`: commands that run detached, as `td app run --detach` starts them.

use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::api::{RunInfo, RunLines, RunStatus};
use uuid::Uuid;

use crate::client::Query;
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::clean;
use crate::table::{self, or_dash};

/// How often a run that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the app's detached runs, newest first
    List,
    /// Print what a run said; with --follow until it ends
    #[command(after_help = "With --follow it ends with the run's own status.")]
    Log(Log),
    /// Stop a run
    Stop(Which),
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// The run's id, as `td app run --detach` printed it
    #[arg(value_name = "ID")]
    id: Uuid,
}

#[derive(Debug, clap::Args)]
pub struct Log {
    #[command(flatten)]
    which: Which,
    /// Wait for more until the run ends
    #[arg(short, long)]
    follow: bool,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List => list(context).await,
        Command::Log(arguments) => log(context, &arguments).await,
        Command::Stop(which) => stop(context, &which).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let answer = context.client()?.get(&["apps", app.as_str(), "runs"], &Query::new()).await?;
    context.show(answer, |printer, mut runs: Vec<RunInfo>| {
        runs.retain(|run| context.means(&run.label, &run.cluster));
        let now = Timestamp::now();
        let rows = runs.iter().map(|run| {
            let took = run.ended.map(|end| human::duration(end.duration_since(run.started).unsigned_abs()));
            let command: String = clean(&run.command).chars().take(60).collect();
            [
                run.id.to_string(),
                format!("{}/{}", run.app, run.label),
                describe(run),
                human::age(run.started, now),
                or_dash(took),
                run.person.clone(),
                command,
            ]
        });
        table::print(printer, ["ID", "INSTANCE", "STATUS", "AGE", "TOOK", "BY", "COMMAND"], rows);
    })
}

fn describe(run: &RunInfo) -> String {
    match run.exit_code {
        Some(code) => format!("{} ({code})", run.status.as_str()),
        None => run.status.as_str().to_owned(),
    }
}

async fn log(context: &Context<'_>, arguments: &Log) -> Result<Exit, Failure> {
    print_log(context, arguments.which.id, arguments.follow).await
}

/// Tells of a run that is left to itself.
pub fn print_detached(context: &Context<'_>, run: &RunInfo, place: &Place) {
    if context.globals.json {
        context.printer.json(run);
    } else {
        context.printer.data(run.id.to_string());
        context.printer.note(format!("runs at {place}; td run log --follow {} shows what it says", run.id));
    }
}

/// Prints what a run said; when it is followed, to its end, and with its own status.
pub async fn print_log(context: &Context<'_>, id: Uuid, follow: bool) -> Result<Exit, Failure> {
    let client = context.client()?;
    let id = id.to_string();
    let mut after = 0;
    loop {
        let query: Query = vec![("after".into(), after.to_string())];
        let answer: RunLines = client.get(&["runs", &id], &query).await?;
        for line in &answer.lines {
            context.printer.data(clean(&line.line));
            after = line.sequence;
        }
        if !answer.lines.is_empty() {
            continue;
        }
        let run = answer.run;
        match (follow, run.status) {
            (false, _) => return Ok(Exit::Done),
            (true, RunStatus::Running) => tokio::time::sleep(LOOK).await,
            (true, _) => return end(&run),
        }
    }
}

fn end(run: &RunInfo) -> Result<Exit, Failure> {
    match run.exit_code {
        Some(code) => Ok(Exit::Remote(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
        None => {
            let why = run.message.as_deref().unwrap_or("it has no exit status");
            Err(Failure::say(Exit::Failed, format!("the run {}: {why}", run.status.as_str())))
        }
    }
}

async fn stop(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let id = which.id.to_string();
    let run: RunInfo = context.client()?.post(&["runs", &id, "stop"], &serde_json::Value::Null).await?;
    context.done(&run);
    context.printer.note(format!("run {id}: {}", describe(&run)));
    Ok(Exit::Done)
}
