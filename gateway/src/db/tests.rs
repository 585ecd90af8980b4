//! Every query on a real PostgreSQL.

use magrathea_core::names::{AppName, ClusterName, LabelName};
use magrathea_core::people::Access;
use magrathea_core::usage::{Batch, Level, Metric, Row as UsageRow};
use uuid::Uuid;

use super::config_values::ValueKey;
use super::timeline::NewEntry;
use super::*;
use crate::actor::{Actor, Credential};
use crate::hub::NodeRef;
use crate::seal::Seal;
use crate::testing;

fn app_name() -> AppName {
    "blog".parse().unwrap()
}

fn label(text: &str) -> LabelName {
    text.parse().unwrap()
}

fn cluster() -> ClusterName {
    "local".parse().unwrap()
}

fn node() -> NodeRef {
    NodeRef { cluster: cluster(), node: "node1".parse().unwrap() }
}

fn seal() -> Seal {
    Seal::new(&[1; 32]).unwrap()
}

async fn admin(conn: &Connection) -> Actor {
    people::ensure_admin(conn).await.unwrap()
}

#[tokio::test]
async fn migrations_run_once_and_must_not_change() {
    let db = testing::db().await;
    migrate(&db).await.unwrap();
    let conn = db.conn().await.unwrap();
    conn.execute("UPDATE schema_migrations SET checksum = 'other' WHERE name = '0001_foundation'", &[]).await.unwrap();
    let error = migrate(&db).await.unwrap_err().to_string();
    assert!(error.contains("0001_foundation differs"), "{error}");
    conn.execute("DELETE FROM schema_migrations", &[]).await.unwrap();
    conn.execute("INSERT INTO schema_migrations VALUES ('9999_future', '')", &[]).await.unwrap();
    let error = migrate(&db).await.unwrap_err().to_string();
    assert!(error.contains("newer gateway"), "{error}");
}

#[tokio::test]
async fn two_gateways_may_migrate_at_once() {
    let db = testing::db().await;
    db.conn().await.unwrap().batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    let (one, two) = tokio::join!(migrate(&db), migrate(&db));
    one.unwrap();
    two.unwrap();
}

#[tokio::test]
async fn a_token_tells_whose_it_is_until_it_expires() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let actor = admin(&conn).await;
    assert_eq!(admin(&conn).await, actor, "made once");
    let new = tokens::NewToken {
        person: actor.person,
        hash: &[7; 32],
        name: "laptop",
        kind: tokens::TokenKind::Token,
        limits: None,
        key: None,
        days: None,
    };
    let id = tokens::insert_token(&conn, &new).await.unwrap();
    let expected = Actor { credential: Credential::Token(id), ..actor };
    assert_eq!(people::load_actor(&conn, &[7; 32]).await.unwrap(), Some(expected.clone()));
    assert_eq!(people::reload_actor(&conn, &expected).await.unwrap(), Some(expected.clone()));
    assert_eq!(people::load_actor(&conn, &[8; 32]).await.unwrap(), None);
    let used = conn.query_one("SELECT last_used IS NOT NULL FROM tokens", &[]).await.unwrap();
    assert!(used.try_get::<_, bool>(0).unwrap());
    conn.execute("UPDATE tokens SET expires = now() - interval '1 second'", &[]).await.unwrap();
    assert_eq!(people::load_actor(&conn, &[7; 32]).await.unwrap(), None);
    assert_eq!(people::reload_actor(&conn, &expected).await.unwrap(), None);
}

#[tokio::test]
async fn an_app_name_is_taken_until_the_app_is_destroyed() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let actor = admin(&conn).await;
    let first = apps::insert_app(&conn, actor.organisation, &app_name()).await.unwrap();
    assert_eq!(first.organisation, "operator");
    let error = apps::insert_app(&conn, actor.organisation, &app_name()).await.unwrap_err();
    assert!(error.violates(apps::NAME_TAKEN));
    assert_eq!(apps::load_app(&conn, &app_name()).await.unwrap(), Some(first.clone()));
    apps::destroy_app(&conn, first.id).await.unwrap();
    assert_eq!(apps::load_app(&conn, &app_name()).await.unwrap(), None);
    let second = apps::insert_app(&conn, actor.organisation, &app_name()).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(apps::list_apps(&conn).await.unwrap(), [second]);
}

#[tokio::test]
async fn an_instance_keeps_its_ids_and_never_shares_them() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let app = apps::insert_app(&conn, admin(&conn).await.organisation, &app_name()).await.unwrap();
    let ensure = async |text| instances::ensure_instance(&conn, app.id, &label(text), &cluster()).await.unwrap();
    let one = ensure("default").await;
    assert_eq!(ensure("default").await, one);
    assert!(one.uid >= 200_000);
    let two = ensure("staging").await;
    assert_ne!(one.uid, two.uid);

    assert_eq!(instances::load_instance(&conn, one.id).await.unwrap().as_ref(), Some(&one));
    assert_eq!(instances::load_instance_by_slug(&conn, &one.id.slug()).await.unwrap().as_ref(), Some(&one));
    assert_eq!(instances::list_instances(&conn).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(instances::list_app_instances(&conn, app.id).await.unwrap().len(), 2);
    assert_eq!(instances::count_instances(&conn).await.unwrap(), [("local".to_owned(), 2)].into());

    instances::destroy_instance(&conn, one.id).await.unwrap();
    assert_eq!(instances::load_instance(&conn, one.id).await.unwrap(), None);
    let again = ensure("default").await;
    assert_ne!((again.id, again.uid), (one.id, one.uid));
    assert_ne!(again.uid, two.uid);
}

#[tokio::test]
async fn an_instance_secret_is_made_once() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let app = apps::insert_app(&conn, admin(&conn).await.organisation, &app_name()).await.unwrap();
    let id = instances::ensure_instance(&conn, app.id, &label("default"), &cluster()).await.unwrap().id;
    let ensure = async |value: &str| {
        instances::ensure_secret(&conn, &seal(), id, "DB_PASSWORD", || value.to_owned()).await.unwrap()
    };
    assert_eq!(ensure("first").await, "first");
    assert_eq!(ensure("second").await, "first");
    let replace = async |old: &str, new: &str| {
        let next = |found: Option<&str>| Ok((found == Some(old)).then(|| new.to_owned()));
        instances::update_secret(&conn, &seal(), id, "DB_PASSWORD", next).await.unwrap()
    };
    assert_eq!(replace("other", "third").await, "first");
    assert_eq!(replace("first", "third").await, "third");
    assert_eq!(replace("third", "first").await, "first");
    let row = conn.query_one("SELECT sealed FROM instance_secrets", &[]).await.unwrap();
    assert!(!row.try_get::<_, &[u8]>(0).unwrap().windows(5).any(|w| w == b"first"), "sealed at rest");
}

#[tokio::test]
async fn a_label_sees_its_own_value_before_the_apps() {
    let db = testing::db().await;
    let mut conn = db.conn().await.unwrap();
    let actor = admin(&conn).await;
    let app = apps::insert_app(&conn, actor.organisation, &app_name()).await.unwrap().id;
    let staging = label("staging");
    let tx = conn.transaction().await.unwrap();
    for (of, key, value) in
        [(None, "A", "app"), (Some(&staging), "A", "old"), (Some(&staging), "A", "own"), (None, "B", "app")]
    {
        let key = ValueKey { app, label: of, key };
        let entry = config_values::set_value(&tx, &seal(), &actor, key, value).await.unwrap();
        assert_eq!(entry.label.as_deref(), of.map(LabelName::as_str));
    }
    tx.commit().await.unwrap();
    let load = async |of: &str| config_values::load_values(&conn, &seal(), app, &label(of), None).await.unwrap();
    let values = |a: &str| [("A".to_owned(), a.to_owned()), ("B".to_owned(), "app".to_owned())].into();
    assert_eq!(load("staging").await, values("own"));
    assert_eq!(load("default").await, values("app"));
    assert_eq!(config_values::list_values(&conn, app).await.unwrap().len(), 3);
    assert_eq!(apps::load_app(&conn, &app_name()).await.unwrap().unwrap().config_version, 4);

    let key = ValueKey { app, label: Some(&staging), key: "A" };
    assert!(config_values::unset_value(&conn, &actor, key).await.unwrap());
    assert!(!config_values::unset_value(&conn, &actor, key).await.unwrap());
    assert_eq!(load("staging").await, values("app"));
    assert_eq!(apps::load_config_version(&conn, app).await.unwrap(), 5);

    // As they were.
    let at = async |version: i64| {
        let values = config_values::load_values(&conn, &seal(), app, &staging, Some(version)).await.unwrap();
        values.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(at(0).await, [""; 0]);
    assert_eq!(at(1).await, ["A=app"]);
    assert_eq!(at(2).await, ["A=old"]);
    assert_eq!(at(4).await, ["A=own", "B=app"]);
    assert_eq!(at(9).await, ["A=app", "B=app"]);
    // No release needs the label's own, which are set no more.
    assert_eq!(config_values::forget_former(&conn).await.unwrap(), 2);
    assert_eq!(config_values::forget_former(&conn).await.unwrap(), 0);
    assert_eq!(at(9).await, ["A=app", "B=app"]);
    assert_eq!(config_values::list_changes(&conn, app, 10).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_node_token_works_once_and_not_for_ever() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    nodes::insert_node_token(&conn, &node(), &[1; 32]).await.unwrap();
    nodes::insert_node_token(&conn, &node(), &[2; 32]).await.unwrap();
    assert_eq!(nodes::use_node_token(&conn, &[1; 32]).await.unwrap(), Some(node()));
    assert_eq!(nodes::use_node_token(&conn, &[1; 32]).await.unwrap(), None);
    conn.execute("UPDATE node_tokens SET expires = now() - interval '1 second'", &[]).await.unwrap();
    assert_eq!(nodes::use_node_token(&conn, &[2; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn an_observation_is_stored_once_per_enrolment() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    nodes::enrol_node(&conn, &node(), "aa").await.unwrap();
    assert!(nodes::acknowledge(&conn, &node(), 1).await.unwrap());
    assert!(!nodes::acknowledge(&conn, &node(), 1).await.unwrap());
    nodes::touch_node(&conn, &node()).await.unwrap();
    let known = nodes::load_node(&conn, &node()).await.unwrap().unwrap();
    assert_eq!((known.certificate_serial.as_str(), known.acknowledged), ("aa", 1));
    assert!(known.last_seen.is_some());
    nodes::enrol_node(&conn, &node(), "bb").await.unwrap();
    let known = nodes::load_node(&conn, &node()).await.unwrap().unwrap();
    assert_eq!((known.certificate_serial.as_str(), known.acknowledged), ("bb", 0));
}

#[tokio::test]
async fn a_certificate_is_replaced_and_its_key_is_sealed() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let actor = admin(&conn).await;
    let subjects = ["blog.example".to_owned()];
    for key in ["KEY1\n", "KEY2\n"] {
        let expires = jiff::Timestamp::from_second(2_000_000_000).unwrap();
        let new = certificates::NewCertificate { name: "blog", chain: "CHAIN\n", key, subjects: &subjects, expires };
        let info = certificates::upsert_certificate(&conn, &seal(), &actor, actor.organisation, &new).await.unwrap();
        assert_eq!((info.subjects.as_slice(), info.expires), (subjects.as_slice(), expires));
    }
    let pem = certificates::load_certificate_pem(&conn, &seal(), "blog").await.unwrap();
    assert_eq!(pem.as_deref(), Some("CHAIN\nKEY2\n"));
    assert_eq!(certificates::list_certificates(&conn).await.unwrap().len(), 1);
    assert!(certificates::load_certificate(&conn, "blog").await.unwrap().is_some());
    assert!(certificates::delete_certificate(&conn, "blog").await.unwrap());
    assert!(!certificates::delete_certificate(&conn, "blog").await.unwrap());
    assert_eq!(certificates::load_certificate_pem(&conn, &seal(), "blog").await.unwrap(), None);
}

#[tokio::test]
async fn the_timeline_is_append_only() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let actor = admin(&conn).await;
    for (actor, app, message) in [(Some(&actor), Some("blog"), "one"), (None, None, "two")] {
        let entry = NewEntry { actor, action: "test", app, message, ..NewEntry::default() };
        timeline::append(&conn, entry).await.unwrap();
    }
    let all = timeline::list(&conn, &actor.access, Default::default(), 10).await.unwrap();
    let nothing = Access::default();
    assert!(timeline::list(&conn, &nothing, Default::default(), 10).await.unwrap().is_empty());
    let lines: Vec<_> = all.iter().map(|e| (e.actor.as_str(), e.message.as_str())).collect();
    assert_eq!(lines, [("gateway", "two"), ("admin", "one")]);
    let name = app_name();
    let of = timeline::Of { app: Some(&name), ..timeline::Of::default() };
    assert_eq!(timeline::list(&conn, &actor.access, of, 10).await.unwrap().len(), 1);
    for sql in ["UPDATE timeline SET message = ''", "DELETE FROM timeline", "TRUNCATE timeline"] {
        assert!(conn.batch_execute(sql).await.is_err(), "{sql}");
    }
}

fn batch(ledger: u128, number: u64, rows: &[(&str, &str, Metric, u64)]) -> Batch {
    let row = |(slug, hour, metric, amount): &(&str, &str, Metric, u64)| UsageRow {
        slug: (*slug).to_owned(),
        hour: hour.parse().unwrap(),
        usage: [(*metric, *amount)].into_iter().collect(),
    };
    let rows = rows.iter().map(row).collect();
    Batch { ledger: Uuid::from_u128(ledger), number, rows, levels: Vec::new(), gaps: Vec::new(), refused: 0 }
}

#[tokio::test]
async fn a_batch_of_usage_counts_once_and_only_for_instances_of_its_cluster() {
    let db = testing::db().await;
    let conn = db.conn().await.unwrap();
    let admin = admin(&conn).await;
    let app = apps::insert_app(&conn, admin.organisation, &app_name()).await.unwrap();
    let own = instances::ensure_instance(&conn, app.id, &label("production"), &cluster()).await.unwrap();
    let other = instances::ensure_instance(&conn, app.id, &label("production"), &"far".parse().unwrap()).await.unwrap();
    let (own_slug, other_slug) = (own.id.slug(), other.id.slug());
    let now = "2026-11-22T10:30:00Z".parse().unwrap();
    let mut first = batch(
        1,
        1,
        &[
            (&own_slug, "2026-11-22T09:00:00Z", Metric::Sent, 100),
            (&own_slug, "2026-11-22T10:00:00Z", Metric::Sent, 10),
            (&own_slug, "2026-11-22T10:00:00Z", Metric::Hits, u64::MAX),
            (&own_slug, "2027-11-22T10:00:00Z", Metric::Sent, 1),
            (&other_slug, "2026-11-22T10:00:00Z", Metric::Requests, 7),
        ],
    );
    let level = |at: &str, bytes| Level {
        slug: own_slug.clone(),
        at: at.parse().unwrap(),
        bytes: [(Metric::Files, bytes)].into(),
    };
    first.levels = vec![level("2026-11-22T10:10:00Z", 5)];
    let added = usage::add_batch(&conn, &node(), &first, now).await.unwrap();
    assert_eq!(added, usage::Added { is_new: true, strangers: [(other_slug, 7)].into() });
    // An instance that was destroyed still gets what it used.
    instances::destroy_instance(&conn, own.id).await.unwrap();
    let mut second = batch(1, 2, &[(&own_slug, "2026-11-22T10:00:00Z", Metric::Hits, u64::MAX)]);
    second.levels = vec![level("2026-11-22T10:05:00Z", 4)];
    for (batch, is_new) in [(&first, false), (&second, true), (&second, false), (&first, false)] {
        assert_eq!(usage::add_batch(&conn, &node(), batch, now).await.unwrap().is_new, is_new);
    }
    // No other node adds to its ledger.
    let stranger = NodeRef { cluster: cluster(), node: "node2".parse().unwrap() };
    assert!(!usage::add_batch(&conn, &stranger, &batch(1, 3, &[]), now).await.unwrap().is_new);
    // Each node holds a part.
    let mut others = batch(2, 1, &[]);
    others.levels = vec![level("2026-11-22T10:01:00Z", 3)];
    assert!(usage::add_batch(&conn, &stranger, &others, now).await.unwrap().is_new);
    let time = |text: &str| text.parse().unwrap();
    let stretches = [
        (time("2026-11-22T09:00:00Z"), time("2026-11-22T10:00:00Z")),
        (time("2026-11-22T10:00:00Z"), time("2026-11-22T11:00:00Z")),
    ];
    let sums = usage::sum_hours(&conn, &[own.id], &stretches).await.unwrap();
    let of = |n: usize| [Metric::Sent, Metric::Hits].map(|metric| sums[n].2.get(metric));
    assert_eq!((sums[0].0, of(0)), (0, [100, 0]));
    assert_eq!((sums[1].0, of(1)), (1, [11, i32::MAX as u64]));
    let levels = usage::list_levels(&conn, &[own.id]).await.unwrap();
    assert_eq!(levels[&own.id], [(Metric::Files, 8)].into());
}
