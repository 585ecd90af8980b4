//! `td app validate`: everything that can be known without a gateway.

use std::collections::BTreeMap;

use magrathea_buildpacks::{Recipe, plan_build};
use magrathea_core::api::PlannedValue;
use magrathea_core::diagnostics::Diagnostics;
use magrathea_core::manifest::{self, Manifest, Resolved};
use magrathea_core::units::count;
use serde::Serialize;

use super::values;

use crate::context::{Context, locate, read_manifest};
use crate::exit::{Exit, Failure};
use crate::source::read_tree;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// With --label, show every value, defaults as well
    #[arg(long)]
    values: bool,
}

/// What --json prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    valid: bool,
    diagnostics: Diagnostics,
    /// Why a label cannot be built, by label.
    build: BTreeMap<String, String>,
    labels: BTreeMap<String, Label>,
}

#[derive(Debug, Serialize)]
struct Label {
    clusters: Vec<String>,
    branch: Option<String>,
    buildpack: String,
    reason: String,
    values: Vec<PlannedValue>,
}

pub fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let folder = locate(&context.globals.folder)?;
    let text = read_manifest(&folder)?;
    let parsed = match &text {
        Some(text) => manifest::parse_manifest(manifest::FILE_NAME, text),
        None => Ok((manifest::default_manifest(), Diagnostics::default())),
    };
    let (manifest, warnings) = match parsed {
        Ok(parsed) => parsed,
        Err(diagnostics) => return Ok(refuse(context, diagnostics)),
    };
    let labels = chosen(&manifest, context.globals.label.as_deref())?;
    let tree = read_tree(&folder)?;
    let mut report = Report { diagnostics: warnings, ..Report::default() };
    for (label, resolved) in &labels {
        let label = label.clone();
        match plan_build(&tree, &resolved.sections) {
            Ok(recipe) => drop(report.labels.insert(label, describe(resolved, recipe)?)),
            Err(error) => {
                let hint = error.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
                report.build.insert(label, format!("{}{hint}", error.message));
            }
        }
    }
    report.valid = report.build.is_empty();
    if context.globals.json {
        context.printer.json(&report);
    } else {
        print(context, arguments, &report, text.is_some());
    }
    Ok(if report.valid { Exit::Done } else { Exit::ManifestInvalid })
}

fn refuse(context: &Context<'_>, diagnostics: Diagnostics) -> Exit {
    if context.globals.json {
        context.printer.json(&Report { diagnostics, ..Report::default() });
        return Exit::ManifestInvalid;
    }
    let errors = diagnostics.0.iter().filter(|d| d.severity == magrathea_core::diagnostics::Severity::Error).count();
    context.printer.diagnostics(&diagnostics);
    context.printer.message(format!("\nmagrathea.yml has {}", count(errors, "error")));
    Exit::ManifestInvalid
}

/// The labels that are meant, each with its name in the file; a pattern is looked at for an example of a branch.
fn chosen(manifest: &Manifest, label: Option<&str>) -> Result<Vec<(String, Resolved)>, Failure> {
    let resolve = |name: String, said: &str| {
        let found = manifest.label_for(Some(said), None).map(|resolved| (name, resolved));
        found.map_err(|error| Failure::usage(format!("magrathea.yml: {error}")))
    };
    if let Some(label) = label {
        return Ok(vec![resolve(label.to_owned(), label)?]);
    }
    let labels = manifest.labels.keys().map(|label| resolve(label.to_string(), label.as_str()));
    let patterns = manifest.patterns.keys();
    let patterns = patterns.map(|pattern| resolve(pattern.to_string(), &format!("{}/example", pattern.prefix())));
    labels.chain(patterns).collect()
}

fn describe(resolved: &Resolved, recipe: Recipe) -> Result<Label, Failure> {
    Ok(Label {
        clusters: resolved.clusters.iter().map(ToString::to_string).collect(),
        branch: resolved.branch.clone(),
        buildpack: recipe.buildpack,
        reason: recipe.reason,
        values: values::list(resolved),
    })
}

fn print(context: &Context<'_>, arguments: &Arguments, report: &Report, has_file: bool) {
    let printer = context.printer;
    printer.diagnostics(&report.diagnostics);
    for (label, error) in &report.build {
        printer.message(format!("error: label {label}: {error}"));
    }
    if context.globals.label.is_some() {
        for label in report.labels.values() {
            values::print(printer, &label.values, arguments.values);
        }
    }
    if report.valid {
        printer.note(if has_file { "magrathea.yml is valid" } else { "no magrathea.yml: the defaults hold" });
        for (name, label) in &report.labels {
            let clusters = label.clusters.join(", ");
            let cluster = if clusters.is_empty() { "the gateway's only cluster" } else { &clusters };
            printer.note(format!("  {name} on {cluster}: {} ({})", label.buildpack, label.reason));
        }
    }
}
