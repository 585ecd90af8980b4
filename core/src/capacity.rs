//! What a cluster has to share out, what plans take of it, and whether one more fits.
//!
//! Counted is what replicas may use at most in steady state. That for the time of a cut-over the replicas of two releases
//! run side by side, and that builds and one-off commands need room too, is what a cluster's reserve is for.

use serde::{Deserialize, Serialize};

use crate::clusters::{Capacity, Cluster};
use crate::names::{Layer, NodeName};
use crate::plan::{Limits, Plan, ServiceMode, Spec};
use crate::units::size;
use crate::wire::NodeReport;

/// So much of each resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Amounts {
    /// In bytes.
    pub memory: u64,
    /// In thousandths of a CPU.
    pub millicpus: u64,
    /// In bytes.
    pub disk: u64,
}

impl Amounts {
    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Amounts {
            memory: with(self.memory, other.memory),
            millicpus: with(self.millicpus, other.millicpus),
            disk: with(self.disk, other.disk),
        }
    }

    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

/// A resource: what follows an amount of it in a sentence, the amount, and how people write one.
type Resource = (&'static str, fn(&Amounts) -> u64, fn(u64) -> String);

const RESOURCES: [Resource; 3] = [
    (" of memory", |amounts| amounts.memory, size),
    (" CPUs", |amounts| amounts.millicpus, cpus),
    (" of disk space", |amounts| amounts.disk, size),
];

/// `0.5`, `12`.
pub fn cpus(millicpus: u64) -> String {
    let text = format!("{}.{:03}", millicpus / 1000, millicpus % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What an instance's plan takes: what its replicas may use at most, and its quota. Without a limit on CPUs, or without a
/// quota, nothing is promised of them.
pub fn demand_of(plan: &Plan) -> Amounts {
    let each = plan.resources.iter().map(|resource| match &resource.spec {
        Spec::Service(service) => {
            let ServiceMode::Replicated(replicas) = service.mode else { return Amounts::default() };
            let one = of_replica(&service.limits);
            one.zip(one, |amount, _| amount.saturating_mul(replicas.into()))
        }
        // The others name the same storage once more.
        Spec::Storage(storage) => {
            Amounts { disk: storage.quota.map_or(0, |quota| quota.bytes()), ..Amounts::default() }
        }
        _ => Amounts::default(),
    });
    each.fold(Amounts::default(), Amounts::plus)
}

/// What a cluster has to share out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supply {
    pub all: Amounts,
    /// The most that one replica can have: it runs on one node.
    pub one: Amounts,
}

/// What a cluster's nodes have for instances, by what they report. `None` is a node of which nothing is known: it counts for
/// nothing.
pub fn supply_of<'a>(cluster: &Cluster, report: impl Fn(&NodeName) -> Option<&'a NodeReport>) -> Supply {
    let Capacity { memory, cpus, disk } = cluster.capacity;
    let share = |amount: u64, percent: u16| amount / 100 * u64::from(percent) + amount % 100 * u64::from(percent) / 100;
    let (mut supply, mut smallest_disk) = (Supply::default(), None::<u64>);
    for (name, node) in &cluster.nodes {
        let Some(report) = report(name) else { continue };
        if node.layers.contains(&Layer::App) {
            let shared = [(Layer::Proxy, cluster.proxy.memory), (Layer::Db, cluster.db.memory)];
            let shared =
                shared.iter().filter(|(layer, _)| node.layers.contains(layer)).map(|(_, memory)| memory.bytes());
            let own = report.memory.saturating_sub(shared.sum());
            let millicpus = u64::from(report.cpus) * 1000;
            supply.all.memory += share(own, memory);
            supply.all.millicpus += share(millicpus, cpus);
            supply.one.memory = supply.one.memory.max(own);
            supply.one.millicpus = supply.one.millicpus.max(millicpus);
        }
        // Storage on several nodes holds the same files on each.
        if node.layers.contains(&Layer::Storage) {
            smallest_disk = Some(smallest_disk.map_or(report.disk_total, |least| least.min(report.disk_total)));
        }
    }
    supply.one.disk = smallest_disk.unwrap_or(0);
    supply.all.disk = share(supply.one.disk, disk);
    supply
}

/// Why a plan does not fit, in a sentence for each resource; none when it does. A plan that takes no more of a resource
/// than its instance `has` already is not held up by it: what serves can always be deployed again, or made smaller.
pub fn shortages(supply: &Supply, others: Amounts, has: Amounts, plan: &Plan) -> Vec<String> {
    let wanted = demand_of(plan);
    let free = supply.all.zip(others, u64::saturating_sub);
    let mut all = Vec::new();
    for (name, amount, tell) in RESOURCES {
        let (wanted, has, free) = (amount(&wanted), amount(&has), amount(&free));
        if wanted > has && wanted > free {
            let now = if has == 0 { String::new() } else { format!(" (now {})", tell(has)) };
            all.push(format!("it takes {}{name}{now} where there is room for {}", tell(wanted), tell(free)));
        }
    }
    all.extend(plan.resources.iter().filter_map(|resource| too_large(supply, &resource.spec)));
    all
}

/// A replica that no node could hold.
fn too_large(supply: &Supply, spec: &Spec) -> Option<String> {
    let Spec::Service(service) = spec else { return None };
    let ServiceMode::Replicated(1..) = service.mode else { return None };
    let one = of_replica(&service.limits);
    let (name, amount, tell) = RESOURCES.into_iter().find(|(_, amount, _)| amount(&one) > amount(&supply.one))?;
    let (one, most) = (amount(&one), amount(&supply.one));
    Some(format!("a replica takes {}{name}, and the largest node has {}", tell(one), tell(most)))
}

fn of_replica(limits: &Limits) -> Amounts {
    let memory = limits.memory.map_or(0, |memory| memory.bytes());
    Amounts { memory, millicpus: limits.millicpus.unwrap_or(0).into(), disk: 0 }
}

/// What takes most of a plan, for people: `web 3 × 512 MiB, queue 1 × 128 MiB`.
pub fn tell_demand(plan: &Plan) -> String {
    let parts = plan.resources.iter().filter_map(|resource| {
        let Spec::Service(service) = &resource.spec else { return None };
        let ServiceMode::Replicated(replicas) = service.mode else { return None };
        let name = resource.key.rsplit('/').next()?;
        let one = of_replica(&service.limits);
        let cpus = service.limits.millicpus.map_or_else(String::new, |_| format!(" and {} CPUs", cpus(one.millicpus)));
        Some(format!("{name} {replicas} × {}{cpus}", size(one.memory)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::parse_clusters;
    use crate::plan::Subject;

    const GIB: u64 = 1 << 30;

    fn cluster(capacity: &str) -> Cluster {
        let text = format!(
            "clusters:\n  milan:\n    db: {{memory: 2GiB}}\n    proxy: {{memory: 1GiB}}\n    capacity: {{{capacity}}}\n    nodes:\n\
             \x20     one: {{address: 192.0.2.1, layers: [storage, db, app, proxy, routing, support]}}\n\
             \x20     two: {{address: 192.0.2.2, layers: [app]}}\n"
        );
        let mut cluster = parse_clusters("clusters.yml", &text).unwrap().clusters.into_values().next().unwrap();
        // As it may be one day: more than one node with storage, and one without replicas.
        let two = cluster.nodes.get_mut(&"two".parse::<NodeName>().unwrap()).unwrap();
        two.layers.insert(Layer::Storage);
        let three = crate::clusters::Node { layers: [Layer::Routing].into(), ..two.clone() };
        cluster.nodes.insert("three".parse().unwrap(), three);
        cluster
    }

    fn report(memory: u64, cpus: u32, disk: u64) -> NodeReport {
        NodeReport { memory: memory * GIB, cpus, disk_total: disk * GIB, ..NodeReport::default() }
    }

    /// Of one service with so many replicas, each with this memory and these CPUs.
    fn plan(replicas: u16, memory: &str, millicpus: Option<u32>) -> Plan {
        let service = serde_json::json!({
            "kind": "service", "name": "web", "image": "", "mode": {"replicated": replicas}, "on": "app", "network": "host",
            "user": null, "command": [], "env": {}, "files": [], "secret_env": {}, "mounts": [], "tmpfs": [], "read_only": true,
            "capabilities": null, "limits": {"memory": memory, "millicpus": millicpus, "pids": null}, "stop_signal": null,
            "stop_grace": "1s", "labels": {},
        });
        let spec = serde_json::from_value(service).unwrap();
        let resource = crate::plan::Resource { layer: Layer::App, key: "app/web".into(), spec };
        let subject = Subject::Cluster { cluster: "milan".parse().unwrap() };
        Plan::new(subject, 1, None, vec![resource])
    }

    #[test]
    fn a_cluster_has_what_its_app_nodes_have_beside_shared_services() {
        let reports = [("one", report(16, 4, 500)), ("two", report(8, 8, 400)), ("three", report(64, 64, 9))];
        let of = |name: &NodeName| reports.iter().find(|(n, _)| *n == name.as_str()).map(|(_, report)| report);
        let supply = supply_of(&cluster("memory: 100, cpus: 200, disk: 50"), of);
        // 16 less 2 for MariaDB and 1 for the cache, and 8; storage holds the same on both.
        assert_eq!(supply.all, Amounts { memory: 21 * GIB, millicpus: 24_000, disk: 200 * GIB });
        assert_eq!(supply.one, Amounts { memory: 13 * GIB, millicpus: 8_000, disk: 400 * GIB });
        // A node that says nothing counts for nothing.
        let lost = supply_of(&cluster("memory: 100"), |name| of(name).filter(|_| name.as_str() != "two"));
        assert_eq!(lost.all.memory, 13 * GIB);
        assert_eq!(supply_of(&cluster(""), |_| None), Supply::default());
    }

    #[test]
    fn what_is_short_is_named() {
        let all = Amounts { memory: 4 * GIB, millicpus: 4000, disk: 0 };
        let supply = Supply { all, one: Amounts { memory: 2 * GIB, millicpus: 2000, disk: 0 } };
        let others = Amounts { memory: 3 * GIB, millicpus: 1000, disk: 0 };
        let none = Amounts::default();
        let says = |has, plan: &Plan| shortages(&supply, others, has, plan);
        assert!(says(none, &plan(4, "256MiB", None)).is_empty(), "exactly what is free");
        assert_eq!(
            says(none, &plan(5, "256MiB", None)),
            ["it takes 1.2 GiB of memory where there is room for 1.0 GiB"]
        );
        assert_eq!(
            says(none, &plan(4, "512MiB", Some(1500))),
            ["it takes 2.0 GiB of memory where there is room for 1.0 GiB", "it takes 6 CPUs where there is room for 3"]
        );
        assert_eq!(
            says(none, &plan(1, "256MiB", Some(2500))),
            ["a replica takes 2.5 CPUs, and the largest node has 2"]
        );
        assert!(says(none, &plan(0, "3GiB", None)).is_empty(), "no replica takes nothing");
    }

    #[test]
    fn what_is_there_already_may_be_deployed_again() {
        let all = Amounts { memory: GIB, millicpus: 1000, disk: 0 };
        let supply = Supply { all, one: all };
        let others = Amounts { memory: 2 * GIB, millicpus: 0, disk: 0 };
        let has = demand_of(&plan(3, "512MiB", None));
        assert!(shortages(&supply, others, has, &plan(3, "512MiB", None)).is_empty());
        assert!(shortages(&supply, others, has, &plan(2, "512MiB", None)).is_empty());
        let more = shortages(&supply, others, has, &plan(4, "512MiB", None));
        assert_eq!(more, ["it takes 2.0 GiB of memory (now 1.5 GiB) where there is room for 0 B"]);
    }

    #[test]
    fn a_demand_is_told_by_process() {
        assert_eq!(tell_demand(&plan(3, "512MiB", Some(500))), "web 3 × 512 MiB and 0.5 CPUs");
        assert_eq!(tell_demand(&plan(1, "1GiB", None)), "web 1 × 1.0 GiB");
    }
}
