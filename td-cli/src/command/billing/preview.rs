//! `td billing preview`.

use magrathea_core::api::{MeterCosts, MonthPreview};
use magrathea_core::billing::{Charge, Kind, Meter, Month};
use magrathea_core::units::count;

use super::{money, quantity};
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The month, as in 2026-11; else the present one
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    /// Of this organisation alone, instance by instance
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut query = Query::new();
    query.extend(arguments.month.map(|month| ("month".to_owned(), month.to_string())));
    query.extend(arguments.org.iter().map(|org| ("organisation".to_owned(), org.clone())));
    let answer = context.client()?.get_long(&["billing", "preview"], &query).await?;
    context.show(answer, |printer, preview: MonthPreview| {
        if arguments.org.is_some() {
            print_charges(printer, &preview.charges);
        } else {
            print_organisations(printer, &preview);
        }
        tell(printer, &preview);
    })
}

fn tell(printer: &Printer, preview: &MonthPreview) {
    let MonthPreview { month, currency, total, closed, gaps, .. } = preview;
    let state = if closed.is_some() { "closed" } else { "as far as it is known" };
    printer.note(format!("{month} ({state}): {} {currency}", money(*total)));
    if *gaps > 0 {
        let gaps = count(*gaps, "gap");
        printer.warning(&format!("something may not have been counted in {month}: {gaps}; see td usage"));
    }
}

fn print_organisations(printer: &Printer, preview: &MonthPreview) {
    let rows = preview.organisations.iter().flat_map(|organisation| {
        let row = |meter: &MeterCosts| {
            let amount = or_dash(meter.quantity.map(quantity));
            [
                organisation.name.clone(),
                what(meter.kind, meter.meter),
                amount,
                or_dash(meter.unit.as_ref()),
                money(meter.cost),
            ]
        };
        let total = [organisation.name.clone(), "total".into(), "-".into(), "-".into(), money(organisation.total)];
        organisation.meters.iter().map(row).chain([total]).collect::<Vec<_>>()
    });
    table::print(printer, ["ORGANISATION", "WHAT", "QUANTITY", "UNIT", "COST"], rows);
}

fn print_charges(printer: &Printer, charges: &[Charge]) {
    let rows = charges.iter().map(|charge| {
        [
            or_dash(charge.app_name.as_ref()),
            or_dash(charge.label.as_ref()),
            or_dash(charge.cluster.as_ref()),
            charge.description.clone(),
            or_dash(charge.quantity.map(quantity)),
            or_dash(charge.meter.map(Meter::pricing_unit)),
            or_dash(charge.price.map(|price| price.normalize())),
            money(charge.cost),
        ]
    });
    table::print(printer, ["APP", "LABEL", "CLUSTER", "WHAT", "QUANTITY", "UNIT", "PRICE", "COST"], rows);
}

fn what(kind: Kind, meter: Option<Meter>) -> String {
    match (kind, meter) {
        (Kind::Usage, Some(meter)) => meter.title().to_owned(),
        (_, Some(meter)) => format!("{} ({})", meter.title(), kind.as_str()),
        (kind, None) => kind.as_str().to_owned(),
    }
}
