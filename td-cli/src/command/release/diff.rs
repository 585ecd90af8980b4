//! `td release diff`.

use magrathea_core::api::{Difference, Differing, ReleaseDiff, TextDifference};

use super::Number;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::{Look, Printer, clean};

/// Most names shown of a kind.
const MAX_NAMES: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The release to begin with; the one before that which serves when absent
    #[arg(value_name = "FROM")]
    from: Option<Number>,
    /// The release to end with; the one that serves when absent
    #[arg(value_name = "TO")]
    to: Option<Number>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let to = match arguments.to {
        Some(Number(number)) => number,
        None => super::rollback::serving(&client, &place).await?,
    };
    let from = match arguments.from {
        Some(Number(number)) => number,
        None => super::rollback::before(&client, &place, to).await?,
    };
    let path = ["apps", &place.app, "instances", &place.label, "releases", &to.0.to_string(), "diff"];
    let mut query = place.query();
    query.push(("from".into(), from.0.to_string()));
    let answer = client.get(&path, &query).await?;
    context.show(answer, |printer, diff: ReleaseDiff| render(printer, &diff))
}

fn render(printer: &Printer, diff: &ReleaseDiff) {
    printer.data(format!("from {} to {}", diff.from, diff.to));
    match &diff.files {
        Some(files) => print_names(printer, "files", files),
        None => printer.data("\nfiles: one of the sources is not kept any more"),
    }
    if !diff.settings.is_empty() {
        title(printer, "settings");
        for setting in &diff.settings {
            let side = |value: &Option<String>| clean(value.as_deref().unwrap_or("-")).into_owned();
            printer.data(format!("  {}: {} -> {}", clean(&setting.path), side(&setting.from), side(&setting.to)));
        }
    }
    print_names(printer, "values", &diff.values);
    print_texts(printer, &diff.rendered);
    let same = diff.files.as_ref().is_some_and(Vec::is_empty) && diff.settings.is_empty() && diff.values.is_empty();
    if same && diff.rendered.is_empty() {
        printer.data("no differences");
    }
}

/// Texts that differ, line by line.
pub fn print_texts(printer: &Printer, texts: &[TextDifference]) {
    for text in texts {
        title(printer, &text.name);
        for line in text.diff.lines() {
            let look = match line.chars().next() {
                Some('+') => Some(Look::Green),
                Some('-') => Some(Look::Red),
                _ => None,
            };
            let line = clean(line);
            match look {
                Some(look) => printer.data(format!("  {}", printer.on_stdout(look, &line))),
                None => printer.data(format!("  {line}")),
            }
        }
    }
}

fn title(printer: &Printer, name: &str) {
    printer.data(format!("\n{}", printer.on_stdout(Look::Bold, &clean(name))));
}

fn print_names(printer: &Printer, what: &str, all: &[Differing]) {
    if all.is_empty() {
        return;
    }
    title(printer, what);
    for differing in all.iter().take(MAX_NAMES) {
        let (mark, look) = match differing.difference {
            Difference::Added => ("+", Look::Green),
            Difference::Changed => ("~", Look::Yellow),
            Difference::Removed => ("-", Look::Red),
        };
        printer.data(format!("  {} {}", printer.on_stdout(look, mark), clean(&differing.name)));
    }
    if all.len() > MAX_NAMES {
        printer.data(format!("  … {} more", all.len() - MAX_NAMES));
    }
}
