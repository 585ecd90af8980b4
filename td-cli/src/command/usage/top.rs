//! `td usage top`.

use std::collections::HashMap;
use std::time::Duration;

use magrathea_core::api::{UsageNow, UsageSince};
use magrathea_core::units::Span;
use magrathea_core::usage::{Metric, Usage};
use uuid::Uuid;

use super::rows::share;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only apps of this organisation
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
    /// How often it is looked
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    every: Span,
    /// End after so many looks
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u32>,
}

/// Looks closer together tell nothing: nodes are asked for what is under way every few seconds.
const SHORTEST: Duration = Duration::from_millis(500);

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let query = super::narrowing(context, arguments.org.as_ref())?;
    let client = context.client()?;
    let look = async || client.get::<UsageNow>(&["usage", "now"], &query).await;
    let printer = context.printer;
    let mut before = look().await?;
    for n in 0.. {
        if arguments.count.is_some_and(|count| n >= count) {
            break;
        }
        tokio::time::sleep(arguments.every.0.max(SHORTEST)).await;
        let after = look().await?;
        let rates = compare(&before, &after);
        if context.globals.json {
            printer.json_line(&rates.iter().map(Rate::json).collect::<Vec<_>>());
        } else {
            // From the top of the screen on, and nothing below.
            if printer.is_live() && !printer.raw("\x1b[H\x1b[2J") {
                break;
            }
            let header = ["APP", "LABEL", "CLUSTER", "REQUESTS/S", "RECEIVED/S", "SENT/S", "CACHED", "5XX/S", "CPU"];
            table::print(printer, header, rates.iter().map(row));
        }
        before = after;
    }
    Ok(Exit::Done)
}

/// What an instance used between two looks.
struct Rate<'a> {
    of: &'a UsageSince,
    used: Usage,
    seconds: f64,
}

impl Rate<'_> {
    fn per_second(&self, metric: Metric) -> f64 {
        self.used.get(metric) as f64 / self.seconds
    }

    fn json(&self) -> serde_json::Value {
        let rates: serde_json::Map<_, _> =
            self.used.iter().map(|(metric, _)| (metric.to_string(), self.per_second(metric).into())).collect();
        serde_json::json!({"of": self.of.of, "seconds": self.seconds, "per_second": rates})
    }
}

/// The busiest first; without those that used nothing.
fn compare<'a>(before: &UsageNow, after: &'a UsageNow) -> Vec<Rate<'a>> {
    let known: HashMap<Uuid, &Usage> = before.rows.iter().map(|row| (row.of.instance, &row.usage)).collect();
    let seconds = after.at.duration_since(before.at).as_secs_f64().max(0.001);
    let nothing = Usage::default();
    let rate = |row: &'a UsageSince| {
        // An agent that was started again begins at nothing; so does an instance that was not there before.
        let since = known.get(&row.of.instance).copied().unwrap_or(&nothing);
        let grown = |(metric, amount): (Metric, u64)| {
            let before = since.get(metric);
            (metric, if amount < before { amount } else { amount - before })
        };
        Rate { of: row, used: row.usage.iter().map(grown).collect(), seconds }
    };
    let mut rates: Vec<_> = after.rows.iter().map(rate).filter(|rate| !rate.used.is_empty()).collect();
    rates.sort_by(|a, b| {
        let key = |rate: &Rate<'_>| rate.used.get(Metric::Sent);
        key(b).cmp(&key(a)).then_with(|| a.of.of.cmp(&b.of.of))
    });
    rates
}

fn row(rate: &Rate<'_>) -> [String; 9] {
    let of = &rate.of.of;
    let bytes = |metric| human::size(rate.per_second(metric) as u64);
    [
        of.app.clone(),
        of.label.clone(),
        of.cluster.clone(),
        format!("{:.1}", rate.per_second(Metric::Requests)),
        bytes(Metric::Received),
        bytes(Metric::Sent),
        share(rate.used.get(Metric::Hits), rate.used.get(Metric::Requests)),
        format!("{:.1}", rate.per_second(Metric::Status5xx)),
        format!("{:.0} %", rate.per_second(Metric::Cpu) / 10.0),
    ]
}

#[cfg(test)]
mod tests {
    use magrathea_core::api::UsageOf;

    use super::*;

    #[test]
    fn rates_are_what_came_between() {
        let look = |at: &str, sums: &[(u128, u64)]| UsageNow {
            at: at.parse().unwrap(),
            rows: sums
                .iter()
                .map(|(id, sent)| UsageSince {
                    of: UsageOf {
                        organisation: "o".into(),
                        app: format!("app{id}"),
                        label: "default".into(),
                        cluster: "c".into(),
                        instance: Uuid::from_u128(*id),
                        destroyed: false,
                    },
                    usage: [(Metric::Sent, *sent)].into_iter().collect(),
                })
                .collect(),
        };
        let before = look("2026-11-22T10:00:00Z", &[(1, 100), (2, 500), (3, 1000)]);
        let after = look("2026-11-22T10:00:02Z", &[(1, 100), (2, 900), (3, 40), (4, 4000)]);
        let rates: Vec<_> = compare(&before, &after)
            .iter()
            .map(|rate| (rate.of.of.app.clone(), rate.per_second(Metric::Sent)))
            .collect();
        assert_eq!(rates, [("app4".to_owned(), 2000.0), ("app2".into(), 200.0), ("app3".into(), 20.0)]);
    }
}
