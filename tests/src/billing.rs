//! How long a month of many instances takes to close and to export, and how large a year of their hours is.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::push::Figure;
use crate::{Ended, Lab, run};

/// A year whose months are over, and the one that is closed.
const YEAR: u32 = 2023;
const MONTH: &str = "2023-11";

const RATES: &str = "\
issuer: Bench
currency: EUR
prices:
  - from: 2020-01-01
    meters:
      base: 5
      requests: {price: 0.10}
      sent: {price: 0.08, included: 1}
      disk: {price: 0.10, included: 1}
      database: {price: 0.30}
      cpu: {price: 0.02}
      memory: {price: 0.005}
";

/// A statement in the gateway's own database, as its user: usage of long ago cannot be made otherwise.
pub fn sql(lab: &Lab, text: &str) -> Ended {
    let socket = lab.home.join("gateway/postgres/run");
    let url = format!("host='{}' user=magrathea dbname=magrathea", socket.display());
    run(Command::new("setpriv")
        .args([
            "--reuid=magrathea",
            "--regid=magrathea",
            "--init-groups",
            "psql",
            "-qAt",
            "-v",
            "ON_ERROR_STOP=1",
            &url,
        ])
        .args(["-c", text])
        .current_dir("/"))
    .ok()
}

/// Makes a year of hours for `MAGRATHEA_BENCH_INSTANCES` instances, 10,000 unless it says otherwise, closes a month and exports it.
pub fn measure(lab: &Lab) -> Vec<Figure> {
    let instances = std::env::var("MAGRATHEA_BENCH_INSTANCES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_u32);
    std::fs::write(lab.home.join("rates.yml"), RATES).unwrap();
    let made = timed(|| fill(lab, instances));
    let size =
        sql(lab, "SELECT pg_size_pretty(pg_total_relation_size('usage_hours')), count(*) FROM usage_hours").stdout;
    let (size, rows) = size.trim().split_once('|').unwrap();
    eprintln!("{rows} hours of {instances} instances, {size}, made in {:.0} s", made.as_secs_f64());

    let sums = "sum(requests), sum(sent), sum(received), sum(files) + sum(code) + sum(backups) + sum(logs), sum(database), sum(cpu), sum(memory)";
    let copy = format!(
        "COPY (SELECT instance, {sums} FROM usage_hours WHERE hour >= '{MONTH}-01Z' AND hour < '{YEAR}-12-01Z' GROUP BY 1) TO STDOUT"
    );
    sql(lab, &copy);
    let reference = timed(|| drop(sql(lab, &copy)));
    let close = timed(|| drop(lab.td(&lab.home, &["billing", "close", "--month", MONTH, "--confirm", MONTH]).ok()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("focus.csv");
    let args = ["billing", "export", "--month", MONTH, "--format", "focus", "--output", file.to_str().unwrap()];
    let export = timed(|| drop(lab.td(&lab.home, &args).ok()));
    let written = std::fs::metadata(&file).unwrap().len() / 1_000_000;
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let ratio = |time: Duration| format!("{:.1}", time.as_secs_f64() / reference.as_secs_f64());
    let row = |what: String, time: Duration, target| (what, seconds(time), seconds(reference), ratio(time), target);
    vec![
        row(format!("close a month of {instances} instances; reference: the sums by psql"), close, "-"),
        row(format!("export it ({written} MB)"), export, "≤ 10 s"),
        (format!("a year of hours of {instances} instances"), size.to_owned(), "-".into(), "-".into(), "-"),
    ]
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Instances that were there for that year alone, so that nothing looks after them today.
fn fill(lab: &Lab, instances: u32) {
    sql(lab, &format!(
        "WITH made AS (INSERT INTO apps (id, organisation, name, destroyed)
             SELECT gen_random_uuid(), o.id, 'bench-billing', '{YEAR}-12-31T23:59:59Z' FROM organisations o WHERE o.name = 'operator'
             RETURNING id)
         INSERT INTO instances (id, app, label, cluster, created, destroyed)
             SELECT gen_random_uuid(), made.id, 'n' || n, 'local', '{YEAR}-01-01Z', '{YEAR}-12-31T23:59:59Z'
             FROM made, generate_series(1, {instances}) AS n"));
    // Without its constraints the table is filled in minutes; rows lie as they came, month by month.
    sql(lab, "ALTER TABLE usage_hours DROP CONSTRAINT usage_hours_pkey, DROP CONSTRAINT usage_hours_instance_fkey");
    for month in 1..=12 {
        std::thread::scope(|scope| {
            for days in ["0 days' AND '14 days 23 hours", "15 days' AND '31 days"] {
                scope.spawn(move || fill_part(lab, month, days));
            }
        });
    }
    sql(lab, "SET maintenance_work_mem = '1GB'; ALTER TABLE usage_hours ADD PRIMARY KEY (instance, hour)");
    sql(lab, "VACUUM ANALYZE usage_hours");
}

fn fill_part(lab: &Lab, month: u32, days: &str) {
    sql(lab, &format!(
        "INSERT INTO usage_hours (instance, hour, requests, received, sent, egress, cpu, memory, files, code, database, logs,
             status_2xx, hits, misses, https)
         SELECT i.id, h, n % 5000, n * 700, n * 90000, n * 100, n * 40, n * 900000000000, n * 3600000000, n * 360000000,
             n * 1800000000, n * 36000000, n % 5000, n % 4000, n % 1000, n % 5000
         FROM generate_series('{YEAR}-{month:02}-01Z'::timestamptz,
                 '{YEAR}-{month:02}-01Z'::timestamptz + interval '1 month' - interval '1 hour', '1 hour') AS h
         CROSS JOIN LATERAL (SELECT i.id, (abs(uuid_hash(i.id)::bigint + extract(epoch FROM h)::bigint * 7919) % 9000 + 1) AS n
             FROM instances i JOIN apps a ON a.id = i.app WHERE a.name = 'bench-billing') AS i
         WHERE h - '{YEAR}-{month:02}-01Z'::timestamptz BETWEEN interval '{days}'"));
}
