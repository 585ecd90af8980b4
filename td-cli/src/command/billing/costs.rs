//! `td billing costs`.

use magrathea_core::api::{ClusterCosts, Costs, InstanceCosts, Takes};
use magrathea_core::billing::Month;
use magrathea_core::units::count;

use super::{money, quantity};
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The month, as in 2026-11; else the present one
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    /// After so many days without a request an instance counts as forgotten
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    idle_days: u16,
    /// Only instances that are forgotten
    #[arg(long)]
    forgotten: bool,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut query: Query = vec![("idle_days".into(), arguments.idle_days.to_string())];
    query.extend(arguments.month.map(|month| ("month".to_owned(), month.to_string())));
    let answer = context.client()?.get_long(&["billing", "costs"], &query).await?;
    context.show(answer, |printer, costs: Costs| {
        let cells = |takes: Takes| [takes.cpu, takes.memory, takes.disk, takes.sent].map(quantity);
        if !arguments.forgotten {
            let rows = costs.clusters.into_iter().map(|one: ClusterCosts| {
                let [cpu, memory, disk, sent] = cells(one.takes);
                [one.cluster, one.instances.to_string(), money(one.earned), cpu, memory, disk, sent]
            });
            let header =
                ["CLUSTER", "INSTANCES", "EARNED", "CORE-HOURS", "MEMORY GB-HOURS", "DISK GB-MONTHS", "SENT GB"];
            table::print(printer, header, rows);
            printer.data("");
        }
        let lost = costs.instances.iter().filter(|one| one.forgotten).count();
        let shown = costs.instances.into_iter().filter(|one| one.forgotten || !arguments.forgotten);
        let rows = shown.map(|one: InstanceCosts| {
            let [_, memory, disk, _] = cells(one.takes);
            let state = match (one.forgotten, one.preview) {
                (true, true) => "forgotten preview",
                (true, false) => "forgotten",
                (false, true) => "preview",
                (false, false) => "-",
            };
            let requests = one.takes.requests.to_string();
            [one.organisation, one.app, one.label, one.cluster, money(one.earned), memory, disk, requests, state.into()]
        });
        let header = [
            "ORGANISATION",
            "APP",
            "LABEL",
            "CLUSTER",
            "EARNED",
            "MEMORY GB-HOURS",
            "DISK GB-MONTHS",
            "REQUESTS",
            "STATE",
        ];
        table::print(printer, header, rows);
        printer.note(format!("{}, amounts in {}", costs.month, costs.currency));
        if lost > 0 {
            let lost = count(u32::try_from(lost).unwrap_or(u32::MAX), "instance");
            printer.note(format!("{lost} without a request for {} days", arguments.idle_days));
        }
    })
}
