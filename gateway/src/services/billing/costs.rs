//! The operator's own view: which cluster earns, and which instance takes room without anybody coming.

use std::collections::BTreeMap;

use jiff::Timestamp;
use magrathea_core::api::{ClusterCosts, Costs, InstanceCosts, Takes};
use magrathea_core::billing::{Meter, Month, Period, Used};
use magrathea_core::names::InstanceId;
use magrathea_core::people::{Place, Verb};
use rust_decimal::Decimal;

use super::preview::all_charges;
use super::{charge_period, load_period, load_rates, period_of};
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::billing;
use crate::services::access::require_at;
use crate::state::State;

/// What clusters and instances use and earn in a month, the present one when none is named. An instance is forgotten that had
/// no request for so many days.
pub async fn costs(state: &State, actor: &Actor, month: Option<Month>, days: u16) -> Result<Costs, ApiError> {
    require_at(actor, Verb::Costs, Place::Platform, "all organisations")?;
    let conn = state.db.conn().await?;
    let rates = load_rates(state, actor).await?;
    let now = Timestamp::now();
    let month = month.unwrap_or_else(|| Month::of(now, &rates.zone()));
    let stored = billing::load_month(&conn, month).await?;
    let (rates, period) = match &stored {
        Some(stored) => (&stored.rates, stored.statement.period),
        None => (&rates, period_of(&rates, month, billing::list_months(&conn, 1).await?.first())),
    };
    let (subjects, sums) = load_period(&conn, rates, period, None).await?;
    let charges = match stored {
        Some(_) => all_charges(&conn, month, None).await?,
        None => charge_period(rates, period, (&subjects, &sums)),
    };
    let mut earned: BTreeMap<InstanceId, Decimal> = BTreeMap::new();
    for charge in &charges {
        if let Some(instance) = charge.instance {
            *earned.entry(instance).or_default() += charge.cost;
        }
    }
    let (idle, previews) = billing::list_idle(&conn, days, now).await?;
    let nothing = Used::new();
    let mut instances = Vec::with_capacity(subjects.len());
    let mut clusters: BTreeMap<String, ClusterCosts> = BTreeMap::new();
    for subject in subjects {
        let takes = takes(sums.get(&subject.instance).unwrap_or(&nothing), period);
        let earned = earned.get(&subject.instance).copied().unwrap_or_default();
        let cluster = subject.cluster.to_string();
        let empty =
            || ClusterCosts { cluster: cluster.clone(), instances: 0, earned: Decimal::ZERO, takes: Takes::default() };
        let of_cluster = clusters.entry(cluster.clone()).or_insert_with(empty);
        of_cluster.instances += 1;
        of_cluster.earned += earned;
        of_cluster.takes += takes;
        instances.push(InstanceCosts {
            organisation: subject.organisation_name,
            app: subject.app_name.to_string(),
            label: subject.label.to_string(),
            cluster,
            preview: previews.contains(&subject.instance),
            earned,
            takes,
            forgotten: idle.contains(&subject.instance),
        });
    }
    // Sorting is stable: those that earn the same stay in the order of their names.
    instances.sort_by_key(|one| one.earned);
    let currency = rates.currency.clone();
    Ok(Costs { month, currency, clusters: clusters.into_values().collect(), instances })
}

fn takes(used: &Used, period: Period) -> Takes {
    let amount = |meter: Meter| used.get(&meter).into_iter().flatten().sum::<u128>();
    let quantity = |meter: Meter| meter.quantity(amount(meter), period.seconds()).normalize();
    Takes {
        cpu: quantity(Meter::Cpu),
        memory: quantity(Meter::Memory),
        disk: quantity(Meter::Disk) + quantity(Meter::Database),
        sent: quantity(Meter::Sent),
        requests: u64::try_from(amount(Meter::Requests)).unwrap_or(u64::MAX),
    }
}
