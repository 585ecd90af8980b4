//! Months closed in a real gateway: exported the same after it was killed, corrected in the next, and valid FOCUS 1.2.

use std::path::Path;
use std::process::Command;

use magrathea_tests::billing::sql;
use magrathea_tests::people::Organisation;
use magrathea_tests::site::Site;
use magrathea_tests::{Lab, run};
use serde_json::Value;

const RATES: &str = "\
issuer: Example Hosting
currency: EUR
time_zone: Europe/Berlin
prices:
  - from: 2020-01-01
    meters:
      base: 5
      requests: {price: 0.10}
      sent: {price: 0.08, included: 1, steps: [{above: 100, price: 0.05}]}
      received: {price: 0}
      disk: {price: 0.10, included: 0.5}
      database: {price: 0.30}
      cpu: {price: 0.02}
      memory: {price: 0.005}
";

/// What the platform has of what the specification leaves open.
const CRITERIA: &str = "ACCOUNT_NAMING_SUPPORTED,USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,\
                        SUB_ACCOUNT_SUPPORTED,REGION_SUPPORTED,BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED,\
                        RESOURCE_TYPE_ASSIGNMENT_SUPPORTED";

fn td(lab: &Lab, args: &[&str]) -> magrathea_tests::Ended {
    lab.td(&lab.home, args)
}

/// The month after the last that is closed; in a new laboratory, one long before it.
fn next_month(lab: &Lab) -> String {
    let list = td(lab, &["billing", "list", "--json"]).ok().json();
    match list[0]["month"].as_str() {
        None => "2024-03".into(),
        Some(last) => {
            let (year, month) = last.split_once('-').unwrap();
            let (year, month): (u32, u32) = (year.parse().unwrap(), month.parse().unwrap());
            format!("{:04}-{:02}", year + month / 12, month % 12 + 1)
        }
    }
}

/// Each format of a month, as td writes it.
fn export(lab: &Lab, month: &str, folder: &Path) -> Vec<Vec<u8>> {
    let write = |format: &str| {
        let file = folder.join(format!("{month}.{format}"));
        td(lab, &["billing", "export", "--month", month, "--format", format, "--output", file.to_str().unwrap()]).ok();
        let printed = td(lab, &["billing", "export", "--month", month, "--format", format]).ok().stdout;
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), printed, "to a file as to a pipe");
        bytes
    };
    ["focus", "csv", "json"].map(write).into()
}

fn charges(json: &[u8]) -> Vec<Value> {
    serde_json::from_slice::<Value>(json).unwrap()["charges"].as_array().unwrap().clone()
}

/// Runs the validator in a container without a network; every rule must hold.
fn validate(lab: &Lab, export: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("focus.csv"), export).unwrap();
    let base = lab.docker(&["images", "magrathea/base", "--format", "{{.Repository}}:{{.Tag}}"]);
    let parent = format!("PARENT={}", base.lines().next().expect("the base image was built"));
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(lab.repository.join("tests/focus/Dockerfile"), context.path().join("Dockerfile")).unwrap();
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", context.path().join("ca.pem")).unwrap();
    let image = "magrathea-tests/focus-validator";
    let build = ["build", "--quiet", "--network", "host", "--build-arg", &parent, "--tag", image];
    run(Command::new("docker").args(build).arg(context.path()).env("DOCKER_BUILDKIT", "0")).ok();
    let mount = format!("{}:/data", folder.path().display());
    let ended =
        run(Command::new("docker").args(["run", "--rm", "--network", "none", "--volume", &mount, image]).args([
            "--data-file",
            "/data/focus.csv",
            "--validate-version",
            "1.2",
            "--block-download",
            "--applicability-criteria",
            CRITERIA,
            "--output-type",
            "unittest",
            "--output-destination",
            "/data/report.xml",
        ]));
    // It ends with 0 whatever it finds: the report is what counts.
    let report = std::fs::read_to_string(folder.path().join("report.xml"))
        .unwrap_or_else(|error| panic!("no report ({error}): {ended:?}"));
    let count = |name: &str| -> u32 {
        let rest = report.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name}: {report}")).1;
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let held = count("tests") - count("skipped") - count("failures");
    println!("focus-validator: {held} rules hold, {} do not apply, {} failed", count("skipped"), count("failures"));
    let failed: Vec<&str> = report.split("<testcase ").filter(|case| case.contains("<failure")).collect();
    assert_eq!(count("errors"), 0, "{report}");
    // Of two rules that exclude each other, it counts the one that does not apply as failed; that one of both holds is a rule
    // of its own, which must not fail.
    assert!(failed.iter().all(|case| case.starts_with("name=\"InvoiceId-C-004-C ")), "{failed:#?}");
    assert!(failed.len() <= 1 && report.contains("InvoiceId-C-003-C"), "{failed:#?}");
    assert!(held > 200, "{report}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_month_is_closed_and_its_export_stays_as_it_is() {
    let lab = Lab::get();
    let folder = tempfile::tempdir().unwrap();
    let org = Organisation::new(&lab, "payer");
    let accountant = org.person("counter", &["--role", "accountant"]);
    let site = Site::new(&lab, "invoiced");
    org.person("owner", &["--role", "administrator"]).td(&["app", "create", &site.name]).ok();
    site.file("index.html", "paid").deploy().ok();
    let instance = site.td(&["app", "info", "--json"]).ok().json()["instances"][0]["id"].as_str().unwrap().to_owned();

    let rates = lab.home.join("rates.yml");
    let _ = std::fs::remove_file(&rates);
    let missing = td(&lab, &["billing", "preview"]);
    assert!(missing.code == 1 && missing.stderr.contains("rates.yml"), "{missing:?}");
    std::fs::write(&rates, RATES).unwrap();
    let preview = td(&lab, &["billing", "preview", "--org", &org.name]).ok();
    assert!(preview.stdout.contains("Instance-Months"), "{preview:?}");

    let month = next_month(&lab);
    let used = |month: &str, day: &str| {
        let columns = "requests, sent, received, files, code, logs, database, cpu, memory";
        let values = "2500000, 150000000123, 42, 36000000000000000, 3600000000000, 1, 7200000000000000, 5400000, 9999999999999999";
        let update = columns.split(", ").map(|name| format!("{name} = u.{name} + excluded.{name}")).collect::<Vec<_>>();
        sql(&lab, &format!(
            "INSERT INTO usage_hours AS u (instance, hour, {columns}) VALUES ('{instance}', '{month}-{day}T10:00:00Z', {values})
             ON CONFLICT (instance, hour) DO UPDATE SET {}", update.join(", ")));
    };
    used(&month, "10");
    let closed = td(&lab, &["billing", "close", "--month", &month, "--json"]).ok().json();
    assert_eq!(td(&lab, &["billing", "close", "--month", &month, "--json"]).ok().json(), closed, "closed once");
    let first = export(&lab, &month, folder.path());
    validate(&lab, &first[0]);
    let sum = |rows: &[Value]| rows.iter().map(|row| cents(row["cost"].as_str().unwrap())).sum::<i64>();
    assert_eq!(sum(&charges(&first[2])), cents(closed["total"].as_str().unwrap()), "rows sum to the total");

    lab.kill("magrathea-gateway");
    lab.local("up").ok();
    assert_eq!(export(&lab, &month, folder.path()), first, "after the gateway was killed");

    // Late usage, and a credit.
    used(&month, "11");
    td(&lab, &["billing", "adjust", "--org", &org.name, "--amount", "-1.50", "--reason", "for an outage"]).ok();
    let next = next_month(&lab);
    used(&next, "12");
    td(&lab, &["billing", "close", "--month", &next]).ok();
    let second = export(&lab, &next, folder.path());
    validate(&lab, &second[0]);
    assert_eq!(export(&lab, &month, folder.path()), first, "corrections are of the next month");
    let rows = charges(&second[2]);
    let corrections: Vec<&Value> =
        rows.iter().filter(|row| row["kind"] == "correction" && row["instance"] == *instance).collect();
    assert!(
        corrections
            .iter()
            .any(|row| row["meter"] == "requests" && row["quantity"] == "2.5" && row["corrects"] == *month),
        "{rows:?}"
    );
    let credits: Vec<&Value> =
        rows.iter().filter(|row| row["kind"] == "adjustment" && row["organisation_name"] == *org.name).collect();
    assert_eq!((credits.len(), credits[0]["cost"].as_str()), (1, Some("-1.5")));

    // The organisation's accountant sees their own, and closes nothing.
    let own = accountant.td(&["billing", "export", "--month", &next, "--format", "json"]).ok().stdout;
    assert!(charges(own.as_bytes()).iter().all(|row| row["organisation_name"] == *org.name));
    assert_eq!(accountant.td(&["billing", "close", "--month", &next_month(&lab)]).code, 5);
    assert_eq!(accountant.td(&["billing", "costs"]).code, 5);
    let costs = td(&lab, &["billing", "costs", "--json"]).ok().json();
    assert!(costs["instances"].as_array().unwrap().iter().any(|one| one["app"] == *site.name), "{costs}");
    td(&lab, &["billing", "costs"]).ok();
    td(&lab, &["billing", "adjustments"]).ok();
    let timeline = td(&lab, &["timeline", "--json"]).ok().stdout;
    assert!(timeline.contains("billing.closed") && timeline.contains("billing.adjusted"), "{timeline}");
}

/// `-1.5` → -150.
fn cents(text: &str) -> i64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<2}").parse().unwrap()
}
