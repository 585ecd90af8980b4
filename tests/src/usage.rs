//! What was accounted to an app, and what accounting takes.

use std::collections::BTreeMap;

use crate::load::{processor_seconds, wrk};
use crate::push::Figure;
use crate::{Lab, site::Site};

/// By metric, from the beginning.
pub fn accounted(site: &Site) -> BTreeMap<String, u64> {
    let report = site.td(&["usage", "--json"]).ok().json();
    // Not to one of the same name that an earlier run has destroyed.
    let row = report["rows"].as_array().unwrap().iter().find(|row| row["destroyed"] == false);
    let amounts = row.and_then(|row| row["usage"].as_object()).into_iter().flatten();
    amounts.map(|(metric, amount)| (metric.clone(), amount.as_u64().unwrap())).collect()
}

/// One that is absent is nothing.
pub fn of(usage: &BTreeMap<String, u64>, metric: &str) -> u64 {
    usage.get(metric).copied().unwrap_or_default()
}

/// What the agent takes while the router answers as much as it can, beside what the router takes.
pub fn measure_counting(lab: &Lab) -> Vec<Figure> {
    const SECONDS: u32 = 20;
    let site = Site::new(lab, "bench-counting");
    site.file("index.html", "<h1>counted</h1>").file("magrathea.yml", "proxy: {kind: none}\n");
    site.deploy().ok();
    let url = format!("http://127.0.0.1:{}/index.html", lab.http);
    // By then the process that the deploy replaced has ended.
    wrk(2, &url, Some(&site.host()), None, None);
    let agent = lab.pid("magrathea-agent");
    let router = lab.docker(&["ps", "-q", "--filter", &format!("name={}-router", lab.prefix())]);
    let processes = lab.docker(&["top", router.trim(), "-eo", "pid,comm"]);
    let processes: Vec<&str> = processes.lines().filter_map(|line| line.trim().strip_suffix("haproxy")).collect();
    let taken = || {
        let router: f64 = processes.iter().map(|pid| processor_seconds(pid.trim())).sum();
        (processor_seconds(&agent), router)
    };
    let before = taken();
    let rate = wrk(SECONDS, &url, Some(&site.host()), None, None);
    // What is in the log still is read.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let after = taken();
    let (agent, router) = (after.0 - before.0, after.1 - before.1);
    let per_request = |seconds: f64| seconds / (rate * f64::from(SECONDS)) * 1e6;
    vec![(
        format!("{rate:.0} requests/s: processor time of the agent, for counting and the app's log"),
        format!("{:.1} µs a request", per_request(agent)),
        format!("{:.1} µs (HAProxy)", per_request(router)),
        format!("{:.3}", agent / router),
        "counting alone ≤ 0.03",
    )]
}
