//! `td usage`: what instances use.

mod rows;
mod top;

use clap::Args;
use magrathea_core::api::UsageReport;
use magrathea_core::usage::{Metric, Step};

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::table;

/// Traffic is counted at the edge, as visitors see it
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Usage {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    arguments: Arguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What is used just now, the most first; Ctrl-C ends it
    Top(top::Arguments),
}

#[derive(Debug, Args)]
struct Arguments {
    /// Only apps of this organisation
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
    /// Where the time begins, as in 2026-11, 2026-11-22 or 2026-11-22T10:00:00Z; else this month
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Where it ends; a day or a month is part of it
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Add instances up and show them part by part: month, day or hour
    #[arg(long, value_name = "STEP", value_parser = step)]
    by: Option<Step>,
    /// Print every instance and part as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

fn step(text: &str) -> Result<Step, String> {
    text.parse()
}

/// What narrows it: like the timeline, the working folder does not.
fn narrowing(context: &Context<'_>, org: Option<&String>) -> Result<Query, Failure> {
    let mut query = Query::new();
    query.extend(org.map(|name| ("organisation".to_owned(), name.clone())));
    if context.globals.app.is_some() {
        query.push(("app".into(), context.app(None)?.to_string()));
    }
    query.extend(context.globals.label.iter().map(|label| ("label".to_owned(), label.clone())));
    query.extend(context.on_cluster());
    Ok(query)
}

pub async fn run(context: &Context<'_>, usage: &Usage) -> Result<Exit, Failure> {
    if let Some(Command::Top(arguments)) = &usage.command {
        return top::run(context, arguments).await;
    }
    let arguments = &usage.arguments;
    let mut query = narrowing(context, arguments.org.as_ref())?;
    let by = arguments.by.unwrap_or_default();
    let parameters = [("from", arguments.from.clone()), ("to", arguments.to.clone())];
    query.extend(parameters.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    query.push(("by".into(), by.as_str().to_owned()));
    let answer = context.client()?.get(&["usage"], &query).await?;
    context.show(answer, |printer, report: UsageReport| match (arguments.csv, by) {
        (true, _) => csv(printer, &report),
        (false, Step::Total) => {
            let header =
                ["APP", "LABEL", "CLUSTER", "REQUESTS", "RECEIVED", "SENT", "CACHED", "CPU", "MEMORY", "DISK NOW"];
            table::print(printer, header, rows::instances(&report));
            notes(printer, &report);
        }
        (false, step) => {
            let header = ["FROM", "REQUESTS", "RECEIVED", "SENT", "CACHED", "CPU", "MEMORY", "DISK", "SENT"];
            table::print(printer, header, rows::parts(&report, step));
            notes(printer, &report);
        }
    })
}

/// One line for each instance and part, with the API's own names and whole numbers.
fn csv(printer: &Printer, report: &UsageReport) {
    let metrics: Vec<&str> = Metric::ALL.iter().map(|metric| metric.as_str()).collect();
    printer.data(format!("from,until,organisation,app,label,cluster,instance,{}", metrics.join(",")));
    for row in &report.rows {
        let of = &row.of;
        let amounts: Vec<_> = Metric::ALL.iter().map(|metric| row.usage.get(*metric).to_string()).collect();
        let names = [&of.organisation, &of.app, &of.label, &of.cluster].map(String::as_str).join(",");
        printer.data(format!("{},{},{names},{},{}", row.from, row.until, of.instance, amounts.join(",")));
    }
}

fn notes(printer: &Printer, report: &UsageReport) {
    printer.note(format!(
        "\nfrom {} until {} ({}); traffic as visitors see it, cached: requests that a cache answered",
        rows::local(report.from, &report.time_zone),
        rows::local(report.until, &report.time_zone),
        report.time_zone
    ));
    for quota in &report.traffic_quotas {
        let line = format!("quota: this month {} took {quota}", quota.whose());
        if quota.holds().is_some() { printer.warning(&line) } else { printer.note(line) }
    }
    for gap in &report.gaps {
        let requests = gap.requests.map(|count| format!(" ({count} requests)")).unwrap_or_default();
        let (from, until) = (rows::local(gap.from, &report.time_zone), rows::local(gap.until, &report.time_zone));
        let what = gap.reason.describe();
        printer.warning(&format!(
            "from {from} until {until} something may be missing on {}/{}: {what}{requests}",
            gap.cluster, gap.node
        ));
    }
}
