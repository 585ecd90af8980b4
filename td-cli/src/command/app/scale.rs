//! `td app scale`.

use magrathea_core::api::{AutomaticInfo, Counts, ProcessInfo, Scale, WindowInfo};
use magrathea_core::capacity::cpus;
use magrathea_core::names::{LabelName, ProcessName};
use magrathea_core::units::{Span, count};

use crate::command::deploy::{each, follow_each};
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::clean;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The label, and the number of replicas by process type; without a number it shows what there is
    #[arg(value_name = "LABEL|PROCESS=COUNT", value_parser = part)]
    parts: Vec<Part>,
    /// Wait this long for another deploy of the instance to end; without it td refuses at once
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Span>,
}

#[derive(Debug, Clone)]
enum Part {
    Label(LabelName),
    Count(ProcessName, Option<u16>),
}

fn part(text: &str) -> Result<Part, String> {
    let Some((process, count)) = text.split_once('=') else {
        return text.parse().map(Part::Label).map_err(|error| format!("{error}"));
    };
    let process = process.parse().map_err(|error| format!("{error}"))?;
    match count {
        "default" => Ok(Part::Count(process, None)),
        _ => match count.parse() {
            Ok(count) => Ok(Part::Count(process, Some(count))),
            Err(_) => Err(format!("{count:?} is not a number of replicas; as in web=3, or web=default")),
        },
    }
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (mut label, mut counts) = (None, Counts::new());
    for part in &arguments.parts {
        match part {
            Part::Label(name) if label.is_none() => label = Some(name.to_string()),
            Part::Label(name) => return Err(Failure::usage(format!("{name} is a second label"))),
            Part::Count(process, count) => {
                if counts.insert(process.clone(), *count).is_some() {
                    return Err(Failure::usage(format!("{process} is named twice")));
                }
            }
        }
    }
    let label = label.as_deref().or(context.globals.label.as_deref());
    if counts.is_empty() {
        let (client, place) = context.place_of(label).await?;
        let answer = client.get(&place.segments("scale"), &place.query()).await?;
        return context.show(answer, |printer, processes: Vec<ProcessInfo>| {
            table::print(
                printer,
                ["PROCESS", "WANTED", "RUNNING", "MAGRATHEA.YML", "BUSY", "MEMORY", "CPUS", "PROCESSES"],
                processes.iter().map(row),
            );
            for process in &processes {
                notes(process).into_iter().for_each(|note| printer.note(note));
            }
        });
    }
    let body = Scale { counts, wait: arguments.wait.map(Span::whole_seconds) };
    let (client, places) = context.places_of(label).await?;
    let scale = async |place: &Place| client.post_with(&place.segments("scale"), &place.query(), &body).await;
    let begun = each(&places, scale, |place| context.printer.note(format!("scaling {place}"))).await?;
    follow_each(context, begun).await
}

fn row(process: &ProcessInfo) -> [String; 8] {
    let cpus = process.millicpus.map(|millis| cpus(millis.into()));
    [
        process.process.to_string(),
        format!("{}{}", process.wanted, if process.scaled.is_some() { " (set)" } else { "" }),
        or_dash(process.running),
        process.automatic.as_ref().map_or_else(|| process.manifest.to_string(), describe_automatic),
        or_dash(process.busy.as_ref().map(|busy| format!("{} of {}", busy.requests, busy.at_once))),
        or_dash(process.memory.map(human::size)),
        or_dash(cpus),
        or_dash(process.processes),
    ]
}

/// As in `1–3 at 70%`.
pub fn describe_automatic(automatic: &AutomaticInfo) -> String {
    format!("{}–{} at {}", automatic.min, automatic.max, automatic.target)
}

/// Which window is open, or begins next.
pub fn describe_window(automatic: &AutomaticInfo) -> Option<String> {
    let least = |window: &WindowInfo| count(window.min, "replica");
    match (&automatic.window, &automatic.next_window) {
        (Some(window), _) => Some(format!("a window wants at least {} until {:.0}", least(window), window.until)),
        (None, Some(next)) => Some(format!("from {:.0} a window wants at least {}", next.from, least(next))),
        (None, None) => None,
    }
}

fn notes(process: &ProcessInfo) -> Vec<String> {
    let name = &process.process;
    let mut notes = Vec::new();
    if let Some(automatic) = &process.automatic {
        match automatic.rests {
            true => notes.push(format!("{name}: automatic scaling rests; {name}=default gives the number back to it")),
            false => notes.push(format!("{name}: the number follows the load")),
        }
        notes.extend(describe_window(automatic).map(|window| format!("{name}: {window}")));
    }
    notes.extend(process.advice.as_ref().map(|advice| format!("{name}: advice: {}", clean(advice))));
    notes
}
