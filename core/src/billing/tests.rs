//! The laws of charges, and what price lists and exports look like.

use std::sync::LazyLock;

use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::*;
use crate::names::{AppId, InstanceId, OrganisationId};

const RATES: &str = "\
issuer: Example Hosting
currency: EUR
time_zone: Europe/Berlin
prices:
  - from: 2026-01-01
    meters:
      base: 5.00
      requests: {price: 0.10}
      sent: {price: 0.08, included: 50, steps: [{above: 1000, price: 0.05}]}
      disk: {price: 0.10, included: 1}
      database: {price: 0.30}
    clusters:
      milan: {disk: {price: 0.20}}
    organisations:
      acme: {base: 4, disk: {price: 0.15}}
  - from: 2026-11-16
    meters: {base: 6, sent: {price: 0.09, included: 50, steps: [{above: 1000, price: 0.05}]}}
";

fn rates() -> Rates {
    static PARSED: LazyLock<Rates> =
        LazyLock::new(|| parse_rates("rates.yml", RATES).unwrap_or_else(|error| panic!("{error}")));
    PARSED.clone()
}

fn month(text: &str) -> (Month, Period) {
    let month: Month = text.parse().unwrap();
    (month, month.period(&rates().zone()))
}

fn subject(organisation: &str, cluster: &str) -> Subject {
    Subject {
        organisation: OrganisationId(Uuid::from_u128(1)),
        organisation_name: organisation.into(),
        app: AppId(Uuid::from_u128(2)),
        app_name: "shop".parse().unwrap(),
        instance: InstanceId(Uuid::from_u128(3)),
        label: "production".parse().unwrap(),
        cluster: cluster.parse().unwrap(),
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        destroyed: None,
    }
}

fn statement(text: &str) -> Statement {
    let (month, period) = month(text);
    let Rates { issuer, currency, time_zone, .. } = rates();
    Statement { month, period, issuer, currency, time_zone }
}

fn export(format: Format, statement: &Statement, charges: &[Charge]) -> String {
    let rows: String = charges.iter().enumerate().map(|(n, charge)| format.row(statement, n, charge)).collect();
    format!("{}{rows}{}", format.head(statement), format.tail())
}

fn brief(charges: &[Charge]) -> String {
    let line = |c: &Charge| {
        let quantity = c.quantity.map(|q| q.to_string()).unwrap_or_default();
        format!("{} {quantity} × {} = {}\n", c.price_id.as_deref().unwrap_or("-"), c.price.unwrap_or_default(), c.cost)
    };
    charges.iter().map(line).collect()
}

#[test]
fn all_mistakes_of_a_file_are_shown_at_once() {
    let text = "issuer: Example\n\
                currency: EURO\n\
                time_zone: Europe/Atlantis\n\
                prices:\n\
                \x20 - from: 2026-11-31\n\
                \x20   meters: {base: -1, sent: {price: 0,08}, disk: {included: 5}, dsik: {price: 1}}\n\
                \x20   clusters: {Milan: {}}\n";
    let show = |text: &str| {
        let findings = parse_rates("rates.yml", text).unwrap_err().0.into_iter();
        findings
            .map(|d| format!("{}:{} {} [{}] {}\n", d.line, d.column, d.message, d.path, d.hint.unwrap_or_default()))
            .collect::<String>()
    };
    insta::assert_snapshot!(show(text), @r#"
    2:11 `currency` wants the code of a currency, not "EURO" [currency] as in EUR or USD (ISO 4217)
    3:12 `time_zone` wants the name of a time zone, not "Europe/Atlantis" [time_zone] as in Europe/Berlin or UTC
    5:11 `prices[0].from` wants a day, not "2026-11-31" [prices[0].from] as in 2026-11-01
    6:20 `prices[0].meters.base` wants a price below a million with up to six decimals, as in 0.08, not "-1" [prices[0].meters.base] 
    6:40 unknown key `08` in `prices[0].meters.sent` [prices[0].meters.sent.08] known keys: price, included, steps
    6:51 `prices[0].meters.disk` lacks the key `price` [prices[0].meters.disk] add `price`: a price, as in 0.08
    6:66 unknown key `dsik` in `prices[0].meters` [prices[0].meters.dsik] did you mean `disk`?
    7:16 the key `Milan` is not valid: cluster name "Milan" must start with a lower-case letter [prices[0].clusters.Milan] 
    "#);
    let order = "issuer: E\ncurrency: EUR\nprices:\n  - {from: 2026-02-01, meters: {sent: {price: 1, included: 9, steps: [{above: 5, price: 1}]}}}\n  - {from: 2026-02-01, meters: {}}\n";
    insta::assert_snapshot!(show(order) + &show("issuer: E\ncurrency: EUR\nprices: []\n"), @r"
    4:79 the step above 5 begins where an earlier price holds [prices[0].meters.sent.steps[0].above] it must be more than 9: steps ascend, from what is included on
    5:12 the list from 2026-02-01 stands after the one from 2026-02-01 [prices[1].from] put the oldest first, each day once
    3:9 there is no price list [prices] add a list with `from` and `meters`
    ");
}

#[test]
fn the_schema_accepts_what_the_parser_does() {
    let validator = jsonschema::validator_for(&rates_json_schema()).unwrap();
    let tree: serde_json::Value = crate::yaml::parse("f", RATES).unwrap().to_json();
    assert!(validator.is_valid(&tree));
}

#[test]
fn the_example_is_understood() {
    let example = parse_rates("rates.yml", include_str!("../../../examples/rates.yml")).unwrap();
    assert_eq!(example.prices.len(), 2);
}

#[test]
fn the_nearest_price_holds_and_a_change_splits_the_month() {
    let gb = 1_000_000_000_u128;
    let (_, november) = month("2026-11");
    let disk = 2 * gb * u128::from(november.seconds());
    let used: Used = [(Meter::Sent, vec![990 * gb, 20 * gb]), (Meter::Disk, vec![disk, 0])].into();
    let show = |organisation, cluster| brief(&charge(&rates(), november, &subject(organisation, cluster), &used));
    insta::assert_snapshot!(show("other", "rome"), @r"
    2026-01-01/all/base/1 0.5 × 5 = 2.50
    2026-11-16/all/base/1 0.5 × 6 = 3.00
    2026-01-01/all/sent/included 50 × 0 = 0
    2026-01-01/all/sent/1 940 × 0.08 = 75.20
    2026-11-16/all/sent/1 10 × 0.09 = 0.90
    2026-11-16/all/sent/2 10 × 0.05 = 0.50
    2026-01-01/all/disk/included 1 × 0 = 0
    2026-01-01/all/disk/1 1 × 0.1 = 0.10
    ");
    let disk_of = |organisation, cluster| {
        let shown = show(organisation, cluster);
        shown.lines().filter(|line| line.contains("/disk/")).map(str::to_owned).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(disk_of("other", "milan"), "2026-01-01/cluster/milan/disk/1 2 × 0.2 = 0.40");
    assert_eq!(disk_of("acme", "milan"), "2026-01-01/organisation/acme/disk/1 2 × 0.15 = 0.30");
}

#[test]
fn an_instance_costs_its_base_for_as_long_as_it_was_there() {
    let (_, june) = month("2026-06");
    let mut there = subject("other", "rome");
    there.created = june.from + jiff::SignedDuration::from_hours(24 * 10);
    there.destroyed = Some(june.from + jiff::SignedDuration::from_hours(24 * 25));
    assert_eq!(brief(&charge(&rates(), june, &there, &Used::new())), "2026-01-01/all/base/1 0.5 × 5 = 2.50\n");
    there.destroyed = Some(june.from - jiff::SignedDuration::from_hours(1));
    assert!(charge(&rates(), june, &there, &Used::new()).is_empty());
}

#[test]
fn late_usage_becomes_one_correction() {
    let (october, period) = month("2026-10");
    let at = |requests: u128| -> Vec<Charge> {
        charge(&rates(), period, &subject("other", "rome"), &[(Meter::Requests, vec![requests])].into())
    };
    let mut billed = Billed::new();
    let add = |billed: &mut Billed, charges: &[Charge]| {
        for charge in charges {
            let sum = billed.entry((charge.instance.unwrap(), charge.meter.unwrap())).or_default();
            sum.quantity += charge.quantity.unwrap();
            sum.consumed += charge.consumed.unwrap();
            sum.cost += charge.cost;
        }
    };
    add(&mut billed, &at(10_000_000));
    assert!(corrections(october, period, &at(10_000_000), billed.clone()).is_empty());
    let late = corrections(october, period, &at(12_500_000), billed.clone());
    assert_eq!(brief(&late), "- 2.5 × 0 = 0.25\n");
    assert_eq!((late[0].kind, late[0].corrects), (Kind::Correction, Some(october)));
    add(&mut billed, &late);
    assert!(corrections(october, period, &at(12_500_000), billed).is_empty(), "corrected once");
}

#[test]
fn exports_look_like_this() {
    let (october, period) = month("2026-10");
    let used: Used = [(Meter::Requests, vec![2_000_000]), (Meter::Sent, vec![51_123_456_789])].into();
    let mut charges = charge(&rates(), period, &subject("acme", "milan"), &used);
    let credit = Charge {
        kind: Kind::Adjustment,
        app: None,
        app_name: None,
        instance: None,
        label: None,
        cluster: None,
        meter: None,
        price_id: None,
        consumed: None,
        quantity: None,
        price: None,
        cost: "-1.5".parse().unwrap(),
        description: "for the outage, \"sorry\"".into(),
        adjustment: Some(Uuid::from_u128(9)),
        ..charges[0].clone()
    };
    charges.push(credit);
    let sent = [(Meter::Requests, vec![3_000_000])].into();
    let now = charge(&rates(), month("2026-09").1, &subject("acme", "milan"), &sent);
    charges.extend(corrections(october.previous(), month("2026-09").1, &now[1..], Billed::new()));
    let statement = statement("2026-10");
    insta::assert_snapshot!("focus", export(Format::Focus, &statement, &charges));
    insta::assert_snapshot!("short", export(Format::Csv, &statement, &charges));
    let json = export(Format::Json, &statement, &charges);
    insta::assert_snapshot!("json", json);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    let back: Vec<Charge> = serde_json::from_value(read["charges"].clone()).unwrap();
    assert_eq!(export(Format::Json, &statement, &back), json);
}

fn meter_price() -> impl Strategy<Value = MeterPrice> {
    let price = || (0_i64..2_000_000).prop_map(|micro| Decimal::new(micro, 6));
    (price(), 0_u32..100, proptest::collection::vec((1_u32..200, price()), 0..4)).prop_map(
        |(price, included, steps)| {
            let mut above = included;
            let steps = steps.into_iter().map(|(further, price)| {
                above += further;
                Step { above: above.into(), price }
            });
            MeterPrice { price, included: included.into(), steps: steps.collect() }
        },
    )
}

fn exact(price: &MeterPrice, before: Decimal, after: Decimal) -> Decimal {
    price.split(before, after).iter().map(|part| part.quantity * part.price).sum()
}

proptest! {
    #[test]
    fn steps_are_continuous_and_monotone(price in meter_price(), one in 0_i64..1_000_000, more in 0_i64..1_000_000) {
        let (low, high) = (Decimal::new(one, 3), Decimal::new(one + more, 3));
        let cost = |upto| exact(&price, Decimal::ZERO, upto);
        prop_assert!(cost(low) <= cost(high));
        // No more than the dearest price for what is between: nothing jumps.
        let dearest = price.steps.iter().map(|step| step.price).chain([price.price]).max().unwrap();
        prop_assert!(cost(high) - cost(low) <= (high - low) * dearest);
        // Cut anywhere, it costs the same.
        prop_assert_eq!(cost(low) + exact(&price, low, high), cost(high));
        let parts: Decimal = price.split(low, high).iter().map(|part| part.quantity).sum();
        prop_assert_eq!(parts, high - low);
    }

    #[test]
    fn a_change_to_the_same_prices_changes_no_quantity(
        price in meter_price(),
        amounts in proptest::collection::vec(0_u64..1_000_000_000_000_000, 1..5),
    ) {
        let list = |from: &str| PriceList {
            from: from.parse().unwrap(),
            meters: Meters { disk: Some(price.clone()), ..Meters::default() },
            clusters: Default::default(),
            organisations: Default::default(),
        };
        let days = ["2026-01-01", "2026-11-05", "2026-11-11", "2026-11-20", "2026-11-30"];
        let split = Rates { prices: days.iter().take(amounts.len()).map(|day| list(day)).collect(), ..rates() };
        let whole = Rates { prices: vec![list(days[0])], ..rates() };
        let period = month("2026-11").1;
        prop_assert_eq!(split.segments(period).len(), amounts.len());
        let amounts: Vec<u128> = amounts.into_iter().map(u128::from).collect();
        let sum = |rates: &Rates, amounts: Vec<u128>| {
            let charges = charge(rates, period, &subject("x", "y"), &[(Meter::Disk, amounts)].into());
            let quantity: Decimal = charges.iter().filter_map(|c| c.quantity).sum();
            let exact: Decimal = charges.iter().map(|c| c.quantity.unwrap() * c.price.unwrap()).sum();
            (quantity, exact)
        };
        prop_assert_eq!(sum(&split, amounts.clone()), sum(&whole, vec![amounts.iter().sum()]));
    }

    #[test]
    fn rows_sum_to_the_total_in_every_format(requests in 0_u64..u64::MAX, sent in 0_u64..u64::MAX, disk in 0_u64..u64::MAX) {
        let used: Used = [
            (Meter::Requests, vec![u128::from(requests), 5]),
            (Meter::Sent, vec![u128::from(sent), 7]),
            (Meter::Disk, vec![u128::from(disk), u128::from(disk)]),
        ].into();
        let charges = charge(&rates(), month("2026-11").1, &subject("acme", "milan"), &used);
        let statement = statement("2026-11");
        let sum_of = |format, column: usize| -> Decimal {
            let text = export(format, &statement, &charges);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            reader.records().map(|row| row.unwrap()[column].parse::<Decimal>().unwrap()).sum()
        };
        prop_assert_eq!(sum_of(Format::Focus, 0), total(&charges));
        prop_assert_eq!(sum_of(Format::Csv, 12), total(&charges));
        for charge in &charges {
            prop_assert!(charge.cost.scale() <= 2);
        }
    }
}
