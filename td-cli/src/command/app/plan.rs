//! `td app plan`: what a deploy would do, without doing it.

use std::collections::BTreeMap;

use magrathea_core::api::{PlanPreview, SourceInfo};
use magrathea_core::names::Layer;
use magrathea_core::plan::{Change, ChangeKind, FieldChange};
use magrathea_core::units::count;
use serde_json::Value;

use super::upload::upload;
use super::values;
use crate::context::{Context, locate};
use crate::exit::{Exit, Failure};
use crate::printer::{Look, Printer, clean};
use crate::source::{self, Sent, Version};

/// Most lines shown of a text that changed.
const MAX_LINES: usize = 40;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    version: Version,
    /// Show every value of the configuration, defaults as well
    #[arg(long)]
    values: bool,
    /// Print one rendered text, as in `routing/route/backend`
    #[arg(long, value_name = "NAME", conflicts_with = "values")]
    rendered: Option<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let folder = locate(&context.globals.folder)?;
    let app = context.app(None)?;
    let client = context.client()?;
    let mut source = source::choose(&folder, arguments.version)?;
    source.info.label = context.globals.label.clone();
    source.info.cluster = context.globals.cluster.clone();
    let segments = ["apps", app.as_str(), "plan"];
    let plan = async |info: &SourceInfo| -> Result<Value, Failure> {
        upload(&client, &segments, &source.kind, info, &Sent::default()).await
    };
    let clusters = match plan(&source.info).await {
        Ok(answer) => return show(context, arguments, answer),
        // The label lives on several: each has a plan of its own.
        Err(failure) if !failure.clusters.is_empty() && arguments.rendered.is_none() => failure.clusters,
        Err(failure) => return Err(failure),
    };
    let mut plans = Vec::new();
    for cluster in clusters {
        plans.push(plan(&SourceInfo { cluster: Some(cluster), ..source.info.clone() }).await?);
    }
    if context.globals.json {
        context.printer.json(&plans);
        return Ok(Exit::Done);
    }
    plans.into_iter().try_fold(Exit::Done, |_, plan| show(context, arguments, plan))
}

fn show(context: &Context<'_>, arguments: &Arguments, answer: Value) -> Result<Exit, Failure> {
    if let Some(name) = &arguments.rendered {
        let preview: PlanPreview = serde_json::from_value(answer).map_err(Failure::not_understood)?;
        return print_rendered(context.printer, &preview.rendered, name);
    }
    context.show(answer, |printer, preview: PlanPreview| {
        let PlanPreview { app, label, cluster, buildpack, .. } = &preview;
        printer.data(format!("{app}, label {label} on {cluster}, buildpack {buildpack}\n"));
        print_changes(printer, &preview.changes);
        printer.data("");
        values::print(printer, &preview.values, arguments.values);
        for warning in &preview.warnings {
            printer.warning(warning);
        }
        printer.note("\nnothing was changed; to do it: td app deploy");
    })
}

fn print_rendered(printer: &Printer, rendered: &BTreeMap<String, String>, name: &str) -> Result<Exit, Failure> {
    let text = rendered.get(name).ok_or_else(|| {
        let names: Vec<_> = rendered.keys().map(String::as_str).collect();
        Failure::usage(format!("no text is called {name}")).hint(format!("there are: {}", names.join(", ")))
    })?;
    printer.data(clean(text.trim_end()));
    Ok(Exit::Done)
}

fn print_changes(printer: &Printer, changes: &[Change]) {
    if changes.is_empty() {
        printer.data("no changes but a new release of the same");
        return;
    }
    for layer in Layer::ALL {
        let mut here = changes.iter().filter(|change| change.layer == layer).peekable();
        if here.peek().is_some() {
            printer.data(printer.on_stdout(Look::Bold, layer.as_str()));
        }
        for change in here {
            let (mark, look) = match change.change {
                ChangeKind::Add => ("+", Look::Green),
                ChangeKind::Change => ("~", Look::Yellow),
                ChangeKind::Remove => ("-", Look::Red),
            };
            printer.data(format!("  {} {}", printer.on_stdout(look, mark), clean(&change.key)));
            for field in &change.fields {
                print_field(printer, field);
            }
        }
    }
    let count = |kind| changes.iter().filter(|change| change.change == kind).count();
    let (add, change, remove) = (count(ChangeKind::Add), count(ChangeKind::Change), count(ChangeKind::Remove));
    printer.data(format!("\n{add} to add, {change} to change, {remove} to remove"));
}

fn print_field(printer: &Printer, field: &FieldChange) {
    let (old, new) = (field.old.as_deref(), field.new.as_deref());
    let path = clean(&field.path);
    if !old.is_some_and(|text| text.contains('\n')) && !new.is_some_and(|text| text.contains('\n')) {
        printer.data(format!("      {path}: {} -> {}", shorten(old), shorten(new)));
        return;
    }
    printer.data(format!("      {path}:"));
    let (gone, come) = differing_lines(old.unwrap_or_default(), new.unwrap_or_default());
    let lines = gone.iter().map(|line| (Look::Red, '-', line)).chain(come.iter().map(|line| (Look::Green, '+', line)));
    for (look, mark, line) in lines.take(MAX_LINES) {
        printer.data(format!("        {}", printer.on_stdout(look, &format!("{mark} {}", clean(line)))));
    }
    let hidden = (gone.len() + come.len()).saturating_sub(MAX_LINES);
    if hidden > 0 {
        printer.data(format!("        … {} more; --rendered shows the whole text", count(hidden, "line")));
    }
}

/// The block of lines that differs, without what both begin and end with.
fn differing_lines<'t>(old: &'t str, new: &'t str) -> (Vec<&'t str>, Vec<&'t str>) {
    let (mut old, mut new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    while !old.is_empty() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    (old.split_off(same), new.split_off(same))
}

fn shorten(value: Option<&str>) -> String {
    match value {
        None => "(none)".into(),
        Some("") => "\"\"".into(),
        Some(text) => match text.strip_prefix("sha256:") {
            Some(hash) => format!("sha256:{}", hash.get(..12).unwrap_or(hash)),
            None => clean(text).into_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        for (old, new, gone, come) in [
            ("a\nb\nc", "a\nx\nc", vec!["b"], vec!["x"]),
            ("a\nb", "a\nb\nc", vec![], vec!["c"]),
            ("a\na", "a", vec!["a"], vec![]),
            ("", "a", vec![], vec!["a"]),
            ("same", "same", vec![], vec![]),
        ] {
            assert_eq!(differing_lines(old, new), (gone, come), "{old:?} {new:?}");
        }
    }
}
