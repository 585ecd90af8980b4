//! `td release list`.

use jiff::Timestamp;
use magrathea_core::api::{Release, ReleaseState};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::{Printer, clean};
use crate::table::{self, or_dash};

/// Characters of a commit's id, and of its message.
const COMMIT: usize = 8;
const MESSAGE: usize = 50;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many releases of each instance
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: u32,
    /// Also those that never served
    #[arg(long)]
    failed: bool,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let mut query = context.on_cluster();
    query.push(("limit".into(), arguments.limit.to_string()));
    if let Some(label) = &context.globals.label {
        query.push(("label".into(), label.clone()));
    }
    let answer = context.client()?.get(&["apps", app.as_str(), "releases"], &query).await?;
    let failed = arguments.failed;
    context.show(answer, |printer, mut releases: Vec<Release>| {
        releases.retain(|release| failed || release.state != ReleaseState::Failed);
        print(printer, &releases);
    })
}

fn print(printer: &Printer, releases: &[Release]) {
    let now = Timestamp::now();
    // One cluster is not told of, several are.
    let first = releases.first().map(|release| &release.cluster);
    let are_several = releases.iter().any(|release| Some(&release.cluster) != first);
    let rows = releases.iter().map(|release| {
        let info = &release.release;
        let commit = info.commit.as_ref().map(|commit| commit.chars().take(COMMIT).collect::<String>());
        let message = info.message.as_deref().unwrap_or("-");
        [
            info.number.to_string(),
            if are_several { format!("{} on {}", release.label, release.cluster) } else { release.label.clone() },
            describe_state(release).to_owned(),
            human::age(info.created, now),
            or_dash(commit),
            format!("c{}", release.config_version),
            human::size(info.size),
            or_dash(release.person.clone()),
            clean(&shorten(message)).into_owned(),
        ]
    });
    let header = ["RELEASE", "LABEL", "STATE", "AGE", "COMMIT", "CONFIG", "SIZE", "BY", "MESSAGE"];
    table::print(printer, header, rows);
}

/// The first line, cut.
fn shorten(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.chars().count() <= MESSAGE {
        return line.to_owned();
    }
    line.chars().take(MESSAGE - 1).chain(['…']).collect()
}

/// What became of a release, in a word.
pub fn describe_state(release: &Release) -> &'static str {
    match release.state {
        _ if release.serving => "serving",
        ReleaseState::Made => "made",
        ReleaseState::Served => "kept",
        ReleaseState::Failed => "failed",
        ReleaseState::Pruned => "gone",
    }
}
