//! Months on a real PostgreSQL: closed once, exported the same for ever, corrected in the next.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use magrathea_core::api::NewAdjustment;
use magrathea_core::billing::{Charge, Format, Kind, Meter, Month};
use magrathea_core::names::{InstanceId, OrganisationId};
use magrathea_core::people::{Access, Grant, Role, Scope};
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use super::*;
use crate::api::error::Code;
use crate::db::{apps, instances, organisations};
use crate::testing::{self, TestState};

const RATES: &str = "\
issuer: Example Hosting
currency: EUR
time_zone: Europe/Berlin
prices:
  - from: 2026-01-01
    meters:
      base: 5
      requests: {price: 0.10}
      sent: {price: 0.08, included: 1}
    organisations:
      acme: {base: 4}
";

struct World {
    inner: TestState,
    rates: PathBuf,
    acme: OrganisationId,
    shop: InstanceId,
    blog: InstanceId,
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Two organisations with an instance each, both since the beginning of August.
async fn world() -> World {
    let mut inner = testing::state().await;
    let rates = inner.folder.path().join("rates.yml");
    std::fs::write(&rates, RATES).unwrap();
    Arc::get_mut(&mut inner.state).unwrap().rates = Some(rates.clone());
    let conn = inner.state.db.conn().await.unwrap();
    let mut made = Vec::new();
    for (organisation, app) in [("acme", "shop"), ("zeta", "blog")] {
        let name = organisation.parse().unwrap();
        let organisation = organisations::insert_organisation(&conn, &name).await.unwrap();
        let app = apps::insert_app(&conn, organisation.id, &app.parse().unwrap()).await.unwrap();
        let (label, cluster) = ("production".parse().unwrap(), "local".parse().unwrap());
        let instance = instances::ensure_instance(&conn, app.id, &label, &cluster).await.unwrap();
        made.push((organisation.id, instance.id));
    }
    conn.execute("UPDATE instances SET created = '2026-07-31T22:00:00Z'", &[]).await.unwrap();
    drop(conn);
    World { inner, rates, acme: made[0].0, shop: made[0].1, blog: made[1].1 }
}

impl World {
    async fn used(&self, instance: InstanceId, hour: &str, requests: i64, sent: i64) {
        let conn = self.inner.state.db.conn().await.unwrap();
        let sql = "INSERT INTO usage_hours AS u (instance, hour, requests, sent) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (instance, hour) DO UPDATE SET requests = u.requests + excluded.requests, sent = u.sent + excluded.sent";
        conn.execute(sql, &[&instance.0, &at(hour), &requests, &sent]).await.unwrap();
    }

    async fn close(&self, text: &str) -> Result<ClosedMonth, ApiError> {
        close(&self.inner.state, &self.inner.admin, month(text), Some(month(text))).await
    }

    /// The bytes of an export, and the hash that was promised.
    async fn export(&self, actor: &Actor, text: &str, format: Format) -> (String, Option<String>) {
        let export = export(&self.inner.state, actor, month(text), format, None).await.unwrap();
        let sha256 = export.sha256.clone();
        let bytes: BytesMut = export.stream().try_collect().await.unwrap();
        (String::from_utf8(bytes.to_vec()).unwrap(), sha256)
    }

    async fn charges(&self, text: &str) -> Vec<Charge> {
        let conn = self.inner.state.db.conn().await.unwrap();
        preview::all_charges(&conn, month(text), None).await.unwrap()
    }

    fn accountant(&self, scope: Scope) -> Actor {
        let grants = vec![Grant { role: Role::Accountant, scope }];
        Actor { access: Arc::new(Access { grants, limits: None }), ..self.inner.admin.clone() }
    }
}

fn brief(charges: &[Charge]) -> String {
    let line = |c: &Charge| {
        let what = c.meter.map_or("-", Meter::as_str);
        let quantity = c.quantity.map(|q| q.normalize().to_string()).unwrap_or_default();
        let corrects = c.corrects.map(|month| format!(" of {month}")).unwrap_or_default();
        format!("{} {} {what} {quantity} = {}{corrects}\n", c.organisation_name, c.kind.as_str(), c.cost.normalize())
    };
    charges.iter().map(line).collect()
}

#[tokio::test]
async fn a_closed_month_is_the_same_for_ever() {
    let mut world = world().await;
    // The last hour of August in Berlin, the first and the last of September, the first of October.
    for hour in ["2026-08-31T21:00:00Z", "2026-08-31T22:00:00Z", "2026-09-30T21:00:00Z", "2026-09-30T22:00:00Z"] {
        world.used(world.shop, hour, 1_000_000, 1_500_000_000).await;
    }
    let admin = world.inner.admin.clone();
    let closed = world.close("2026-09").await.unwrap();
    insta::assert_snapshot!(brief(&world.charges("2026-09").await), @r"
    acme usage base 1 = 4
    acme usage requests 2 = 0.2
    acme usage sent 1 = 0
    acme usage sent 2 = 0.16
    zeta usage base 1 = 5
    ");
    assert_eq!((closed.charges, closed.total.to_string().as_str()), (5, "9.36"));
    let mut first = Vec::new();
    for format in Format::ALL {
        let (text, sha256) = world.export(&admin, "2026-09", format).await;
        assert_eq!(sha256.as_deref(), Some(hex::encode(Sha256::digest(&text)).as_str()));
        assert_eq!(sha256.as_ref(), closed.sha256.get(format.as_str()));
        first.push(text);
    }
    let sum: Decimal = first[0].lines().skip(1).map(|l| l.split(',').next().unwrap().parse::<Decimal>().unwrap()).sum();
    assert_eq!(sum, closed.total);

    // Names, prices and usage change; so does the process.
    let conn = world.inner.state.db.conn().await.unwrap();
    conn.batch_execute("UPDATE organisations SET name = 'other' WHERE name = 'acme'").await.unwrap();
    conn.batch_execute("UPDATE apps SET name = 'market' WHERE name = 'shop'").await.unwrap();
    drop(conn);
    std::fs::write(&world.rates, RATES.replace("base: 5", "base: 50")).unwrap();
    world.used(world.shop, "2026-09-10T00:00:00Z", 5, 5).await;
    world.inner.reopen();
    Arc::get_mut(&mut world.inner.state).unwrap().rates = Some(world.rates.clone());
    assert_eq!(world.close("2026-09").await.unwrap(), closed);
    for (format, first) in Format::ALL.into_iter().zip(&first) {
        assert_eq!(world.export(&admin, "2026-09", format).await.0, *first);
    }

    // The database itself refuses.
    let conn = world.inner.state.db.conn().await.unwrap();
    for sql in [
        "UPDATE billing_charges SET cost = 0",
        "DELETE FROM billing_charges",
        "TRUNCATE billing_charges",
        "UPDATE billing_months SET total = 0",
        "DELETE FROM billing_months",
        "INSERT INTO billing_charges SELECT month, 100, kind, organisation, organisation_name, app, app_name, instance, label,
             cluster, meter, price_id, starts, ends, consumed, quantity, price, cost, description, corrects, adjustment
         FROM billing_charges WHERE number = 1",
    ] {
        assert!(conn.batch_execute(sql).await.is_err(), "{sql}");
    }
    // Whoever gets past it is noticed.
    conn.batch_execute("SET session_replication_role = replica; UPDATE billing_charges SET cost = 0 WHERE number = 1; RESET session_replication_role")
        .await
        .unwrap();
    let export = export(&world.inner.state, &admin, month("2026-09"), Format::Csv, None).await.unwrap();
    let error = export.stream().try_collect::<BytesMut>().await.unwrap_err();
    assert!(error.to_string().contains("not what it was"), "{error}");
}

#[tokio::test]
async fn late_usage_and_adjustments_are_charged_in_the_next_month() {
    let world = world().await;
    let admin = &world.inner.admin;
    world.used(world.shop, "2026-08-10T00:00:00Z", 1_000_000, 0).await;
    world.close("2026-08").await.unwrap();
    world.used(world.shop, "2026-08-11T00:00:00Z", 2_000_000, 0).await;
    world.used(world.blog, "2026-08-11T00:00:00Z", 0, 3_000_000_000).await;
    let adjust = async |amount: &str, reason: &str| {
        let (amount, reason) = (amount.parse().unwrap(), reason.to_owned());
        adjust(&world.inner.state, admin, NewAdjustment { organisation: "acme".into(), amount, reason }).await
    };
    for (amount, reason) in
        [("0", "x"), ("1.005", "x"), ("1000000000", "x"), ("1", "=SUM(A1)"), ("1", " "), ("1", "a\nb")]
    {
        assert_eq!(adjust(amount, reason).await.unwrap_err().code, Code::AdjustmentInvalid, "{amount} {reason:?}");
    }
    let credit = adjust("-1.50", "for the outage of 3 August").await.unwrap();
    assert_eq!((credit.month, credit.currency.as_str()), (None, "EUR"));
    let shown = preview(&world.inner.state, admin, Some(month("2026-09")), None).await.unwrap();
    let closed = world.close("2026-09").await.unwrap();
    assert_eq!((shown.total, shown.closed), (closed.total, None), "what was shown is what is charged");
    insta::assert_snapshot!(brief(&world.charges("2026-09").await), @r"
    acme usage base 1 = 4
    zeta usage base 1 = 5
    acme correction requests 2 = 0.2 of 2026-08
    zeta correction sent 3 = 0.16 of 2026-08
    acme adjustment -  = -1.5
    ");
    let list = list_adjustments(&world.inner.state, admin, None).await.unwrap();
    assert_eq!(list[0].month, Some(month("2026-09")));
    world.close("2026-10").await.unwrap();
    assert!(world.charges("2026-10").await.iter().all(|charge| charge.kind == Kind::Usage), "charged once");
}

#[tokio::test]
async fn months_are_closed_in_their_order_when_they_are_over() {
    let world = world().await;
    let (state, admin) = (&world.inner.state, &world.inner.admin);
    let code = |result: Result<ClosedMonth, ApiError>| result.unwrap_err().code;
    let zone = "Europe/Berlin";
    let now = Month::of(Timestamp::now(), &magrathea_core::manifest::find_zone(zone).unwrap());
    assert_eq!(code(close(state, admin, now, Some(now)).await), Code::MonthOpen);
    let august = month("2026-08");
    assert_eq!(code(close(state, admin, august, None).await), Code::UsageIncomplete, "node1 is away");
    assert_eq!(code(close(state, admin, august, Some(now)).await), Code::ConfirmationMismatch);
    world.close("2026-08").await.unwrap();
    assert_eq!(code(world.close("2026-10").await), Code::MonthOpen, "September comes first");
    assert_eq!(code(world.close("2026-07").await), Code::MonthOpen);
    std::fs::write(&world.rates, RATES.replace("EUR", "USD")).unwrap();
    assert_eq!(code(world.close("2026-09").await), Code::RatesInvalid);
    std::fs::write(&world.rates, "currency: 1\n").unwrap();
    let error = world.close("2026-09").await.unwrap_err();
    assert!(error.code == Code::RatesInvalid && error.diagnostics.is_some());
    std::fs::remove_file(&world.rates).unwrap();
    assert_eq!(code(world.close("2026-09").await), Code::RatesMissing);
    // The zone moves its months; nothing is charged twice or left out.
    std::fs::write(&world.rates, RATES.replace("Europe/Berlin", "UTC")).unwrap();
    let september = world.close("2026-09").await.unwrap();
    assert_eq!((september.from, september.until), (at("2026-08-31T22:00:00Z"), at("2026-10-01T00:00:00Z")));
}

#[tokio::test]
async fn everybody_sees_their_own_costs() {
    let world = world().await;
    world.close("2026-09").await.unwrap();
    let state = &world.inner.state;
    let own = world.accountant(Scope::Organisation(world.acme));
    let months = list(state, &own).await.unwrap();
    assert_eq!((months[0].charges, months[0].total.to_string().as_str()), (1, "4.00"));
    let shown = preview(state, &own, Some(month("2026-09")), None).await.unwrap();
    assert_eq!(shown.organisations.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["acme"]);
    let (text, sha256) = world.export(&own, "2026-09", Format::Csv).await;
    assert!(text.contains("acme") && !text.contains("zeta") && sha256.is_none(), "{text}");
    assert_eq!(preview(state, &own, None, Some("zeta")).await.unwrap_err().code, Code::OrganisationNotFound);
    let refused = close(state, &own, month("2026-10"), None).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    assert_eq!(costs(state, &own, None, 14).await.unwrap_err().code, Code::Forbidden);
    let viewer = Actor {
        access: Arc::new(Access { grants: vec![Grant { role: Role::Viewer, scope: Scope::Platform }], limits: None }),
        ..own
    };
    assert_eq!(list(state, &viewer).await.unwrap_err().code, Code::Forbidden);
    let everybody = world.accountant(Scope::Platform);
    assert_eq!(list(state, &everybody).await.unwrap()[0].charges, 2);
}

#[tokio::test]
async fn closings_beside_each_other_and_broken_off_close_once() {
    let world = world().await;
    // However late it is broken off, the month is closed as a whole or not at all.
    for microseconds in (0..).step_by(1500) {
        let attempt = tokio::time::timeout(Duration::from_micros(microseconds), world.close("2026-08")).await;
        let conn = world.inner.state.db.conn().await.unwrap();
        let sql = "SELECT (SELECT count(*) FROM billing_months), (SELECT count(*) FROM billing_charges)";
        let row = conn.query_one(sql, &[]).await.unwrap();
        let counts: (i64, i64) = (row.try_get(0).unwrap(), row.try_get(1).unwrap());
        assert!(counts == (0, 0) || counts == (1, 2), "{counts:?}");
        // One that was broken off may still hold the lock for a moment.
        if matches!(attempt, Ok(Ok(_))) {
            break;
        }
    }
    let (one, two, three) = tokio::join!(world.close("2026-09"), world.close("2026-09"), world.close("2026-09"));
    let results = [one, two, three];
    let closed: Vec<_> = results.iter().flatten().collect();
    assert!(!closed.is_empty() && closed.iter().all(|month| *month == closed[0]));
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|error| error.code == Code::Locked));
    assert_eq!(world.charges("2026-09").await.len(), 2);
}

#[tokio::test]
async fn the_operator_sees_what_earns_and_what_is_forgotten() {
    let world = world().await;
    let now = Timestamp::now();
    let hour = magrathea_core::usage::hour_of(now).to_string();
    world.used(world.blog, &hour, 10, 0).await;
    let costs = costs(&world.inner.state, &world.inner.admin, None, 14).await.unwrap();
    let brief: Vec<_> = costs.instances.iter().map(|i| (i.app.as_str(), i.takes.requests, i.forgotten)).collect();
    assert_eq!(brief, [("shop", 0, true), ("blog", 10, false)]);
    assert_eq!((costs.clusters.len(), costs.clusters[0].instances), (1, 2));
    assert_eq!(costs.clusters[0].earned, costs.instances.iter().map(|i| i.earned).sum::<Decimal>());
}
