//! Measures of what visitors notice when what serves changes, and of many instances that change at once.

use std::time::{Duration, Instant};

use crate::load::{Load, failures};
use crate::push::Figure;
use crate::{Lab, site::Site};

/// Requests a second; every tenth takes two seconds.
const RATE: u32 = 200;
/// Labels that are deployed at once.
const LABELS: usize = 50;

/// Deploys, rollbacks, scalings and failing deploys under one load.
pub fn measure_changes(lab: &Lab) -> Vec<Figure> {
    let site = Site::new(lab, "bench-changes");
    let page = |n: usize| {
        format!(
            "<?php header('Cache-Control: no-store'); if (isset($_GET['slow'])) {{ sleep(2); }} echo 'version {n}';"
        )
    };
    const MANIFEST: &str = "app_layer: {memory: 640MiB, request_memory: 8MiB}\nproxy: {kind: none}\n";
    site.file("magrathea.yml", MANIFEST).file("index.php", page(0));
    site.deploy().ok();
    let mut urls = vec![site.url("/"); 9];
    urls.push(site.url("/?slow=1"));
    let load = Load::cycle(lab.client(), urls, RATE, Duration::from_secs(900));
    let mut rows = Vec::new();
    let mut begun = Instant::now();
    let mut done = |what: &str, times: u32, rows: &mut Vec<(String, f64)>| {
        rows.push((format!("{times} {what}"), begun.elapsed().as_secs_f64() / f64::from(times)));
        begun = Instant::now();
    };
    for n in 1..=20 {
        site.file("index.php", page(n));
        site.deploy().ok();
    }
    done("deploys", 20, &mut rows);
    for n in 0..10 {
        // Version n is release n + 1.
        site.td(&["release", "rollback", &format!("v{}", if n % 2 == 0 { 20 } else { 21 })]).ok();
    }
    done("rollbacks", 10, &mut rows);
    for n in 0..10 {
        site.td(&["app", "scale", "default", &format!("web={}", if n % 2 == 0 { 2 } else { 1 })]).ok();
    }
    done("scalings", 10, &mut rows);
    site.file("magrathea.yml", format!("{MANIFEST}hooks: {{release: ['exit 3']}}\n"));
    for _ in 0..10 {
        assert_eq!(site.deploy().code, 1);
    }
    done("failing deploys", 10, &mut rows);
    let answers = load.finish();
    let failed = failures(&answers);
    failed.iter().take(5).for_each(|failure| println!("    {failure}"));
    let each = rows.iter().map(|(what, seconds)| format!("{what} of {seconds:.2} s")).collect::<Vec<_>>().join(", ");
    let slowest = answers.iter().map(|a| (a.ended - a.started).as_secs_f64()).fold(0.0, f64::max);
    vec![
        (
            format!("{RATE} requests/s, a tenth of them slow (2 s), across {each}: failed or cut"),
            failed.len().to_string(),
            format!("{} requests", answers.len()),
            String::new(),
            "0",
        ),
        (
            "the same: slowest answer".into(),
            format!("{slowest:.2} s"),
            "2 s".into(),
            format!("{:.2}", slowest / 2.0),
            "",
        ),
    ]
}

/// Many labels in one `--all`, beside the work of one deploy as often, spread over the machine's processors.
pub fn measure_all(lab: &Lab) -> Vec<Figure> {
    let site = Site::new(lab, "bench-all");
    let processors = std::thread::available_parallelism().unwrap().get();
    let names: Vec<String> = (1..=LABELS).map(|n| format!("l{n}")).collect();
    let labels: String = names.iter().map(|name| format!("  {name}: {{}}\n")).collect();
    site.file("magrathea.yml", format!("app_layer: {{memory: 96MiB}}\nlabels:\n{labels}"))
        .file("index.php", "<?php echo 0;");
    site.td(&["app", "deploy", "--dirty", "--all"]).ok();
    std::thread::sleep(Duration::from_secs(10));
    let idle = work(|| std::thread::sleep(Duration::from_secs(10))).0 / 10.0;
    let mut single = 0.0;
    for (n, name) in names.iter().take(10).enumerate() {
        site.file("index.php", format!("<?php echo {};", n + 1));
        // What is done behind a deploy is its work, too.
        let (busy, took) = work(|| {
            site.td(&["app", "deploy", "--dirty", "--label", name]).ok();
            std::thread::sleep(Duration::from_secs(2));
        });
        single += (busy - idle * took) / 10.0;
    }
    site.file("index.php", "<?php echo 99;");
    let (_, took) = work(|| drop(site.td(&["app", "deploy", "--dirty", "--all"]).ok()));
    let reference = single * LABELS as f64 / processors as f64;
    vec![(
        format!("{LABELS} instances in one --all"),
        format!("{took:.1} s"),
        format!("{reference:.1} s ({LABELS} × {single:.2} s of one deploy's work on {processors} processors)"),
        format!("{:.2}", took / reference),
        "≤ 1.2",
    )]
}

/// Processor seconds that the whole machine was busy for while something was done, and how long it took.
fn work(act: impl FnOnce()) -> (f64, f64) {
    let (before, begun) = (busy(), Instant::now());
    act();
    (busy() - before, begun.elapsed().as_secs_f64())
}

fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    // user, nice, system, idle, iowait, irq, softirq: in hundredths of a second.
    (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / 100.0
}
