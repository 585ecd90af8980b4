//! Part of `make bench`: how long an instance's plan takes to render, with 1,000 instances on the cluster.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use magrathea_core::clusters::parse_clusters;
use magrathea_core::manifest::{Stack, parse_manifest};
use magrathea_core::names::{AppName, InstanceId, LabelName, ReleaseNumber};
use magrathea_core::plan::{Plan, Subject};
use magrathea_layers::{InstanceInput, plan_instance};
use uuid::Uuid;

const INSTANCES: u128 = 1_000;
const CLUSTERS: &str = include_str!("../../clusters.yml");
const MANIFEST: &str = include_str!("../../examples/guestbook/magrathea.yml");

fn main() {
    let clusters = parse_clusters("clusters.yml", CLUSTERS).unwrap();
    let (cluster_name, cluster) = clusters.clusters.first_key_value().unwrap();
    let (manifest, _) = parse_manifest("magrathea.yml", MANIFEST).unwrap();
    let resolved = manifest.labels.values().next().unwrap();
    let (app, label): (AppName, LabelName) = ("guestbook".parse().unwrap(), "default".parse().unwrap());
    let images = BTreeMap::from(["memcached", "php"].map(|name| (name.to_owned(), format!("sha256:{name}"))));
    let (none, texts, secrets) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut times: Vec<_> = (0..INSTANCES)
        .map(|n| {
            let instance = InstanceId(Uuid::from_u128(n));
            let input = InstanceInput {
                instance,
                app: &app,
                label: &label,
                release: ReleaseNumber(1),
                sections: &resolved.sections,
                cluster_name,
                cluster,
                stack: Stack::Php,
                image: "sha256:release",
                images: &images,
                uid: 200_000,
                db_address: [172, 18, 0, 1].into(),
                instance_gateway: [172, 18, 0, 1].into(),
                access_lists: &none,
                secrets: &secrets,
                texts: &texts,
                certificates: &[],
            };
            let started = Instant::now();
            let subject = Subject::Instance { instance, release: ReleaseNumber(1) };
            let plan = Plan::new(subject, 1, None, plan_instance(&input).unwrap());
            assert!(!plan.hash().is_empty());
            started.elapsed()
        })
        .collect();
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "| an instance's plan, rendered and hashed | {median:.2?} median, {worst:.2?} worst of {INSTANCES} | | | < 5 ms |"
    );
}
