//! What a closed month would cost if it were closed now, less what was charged for it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Charge, Kind, Meter, Month, Period};
use crate::names::InstanceId;

/// What was charged for a month so far, corrections included, by instance and meter.
pub type Billed = BTreeMap<(InstanceId, Meter), Sum>;

/// Sums of a meter of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub consumed: Decimal,
    pub quantity: Decimal,
    pub cost: Decimal,
}

/// One row for each meter of each instance whose quantity or cost is another one than what was charged. `now` are the
/// month's charges by the prices that it was closed with.
pub fn corrections(month: Month, period: Period, now: &[Charge], mut billed: Billed) -> Vec<Charge> {
    let mut sums: BTreeMap<(InstanceId, Meter), (Sum, &Charge)> = BTreeMap::new();
    for charge in now {
        let (Some(instance), Some(meter)) = (charge.instance, charge.meter) else { continue };
        let (sum, _) = sums.entry((instance, meter)).or_insert((Sum::default(), charge));
        sum.consumed += charge.consumed.unwrap_or_default();
        sum.quantity += charge.quantity.unwrap_or_default();
        sum.cost += charge.cost;
    }
    let differ = |(key, (sum, example)): (_, (Sum, &Charge))| {
        let was = billed.remove(&key).unwrap_or_default();
        let is_same = sum.quantity == was.quantity && sum.cost == was.cost;
        (!is_same).then(|| Charge {
            kind: Kind::Correction,
            price_id: None,
            from: period.from,
            until: period.until,
            consumed: Some((sum.consumed - was.consumed).normalize()),
            quantity: Some((sum.quantity - was.quantity).normalize()),
            price: None,
            cost: sum.cost - was.cost,
            description: format!("{}, correction of {month}", key.1.title()),
            corrects: Some(month),
            ..example.clone()
        })
    };
    sums.into_iter().filter_map(differ).collect()
}
