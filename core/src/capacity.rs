//! What a cluster has to share out, what plans take of it, and whether one more fits.
//!
//! Counted is what replicas may use at most in steady state. That for the time of a cut-over the replicas of two releases
//! run side by side, and that builds and one-off commands need room too, is what a cluster's reserve is for.

use serde::{Deserialize, Serialize};

use crate::clusters::{Capacity, Cluster};
use crate::names::{Layer, NodeName};
use crate::plan::{Plan, ServiceMode, ServiceSpec, Spec};
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
    /// What of the memory must be on the manager, in bytes.
    pub pinned: u64,
}

impl Amounts {
    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Amounts {
            memory: with(self.memory, other.memory),
            millicpus: with(self.millicpus, other.millicpus),
            disk: with(self.disk, other.disk),
            pinned: with(self.pinned, other.pinned),
        }
    }

    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

/// A resource: what follows an amount of it in a sentence, the amount, and how people write one.
type Resource = (&'static str, fn(&Amounts) -> u64, fn(u64) -> String);

const RESOURCES: [Resource; 4] = [
    (" of memory", |amounts| amounts.memory, size),
    (" CPUs", |amounts| amounts.millicpus, cpus),
    (" of disk space", |amounts| amounts.disk, size),
    (" of memory that must be on the manager", |amounts| amounts.pinned, size),
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
            let one = of_replica(service);
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
    /// The same of one that must be on the manager.
    pub manager: Amounts,
}

/// What a cluster's nodes have for instances, by what they report. `None` is a node of which nothing is known: it counts for
/// nothing.
pub fn supply_of<'a>(cluster: &Cluster, report: impl Fn(&NodeName) -> Option<&'a NodeReport>) -> Supply {
    let Capacity { memory, cpus, disk } = cluster.capacity;
    let share = |amount: u64, percent: u16| amount / 100 * u64::from(percent) + amount % 100 * u64::from(percent) / 100;
    let mut supply = Supply::default();
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
            if cluster.manager() == Some(name) {
                supply.manager = Amounts { memory: own, millicpus, ..Amounts::default() };
                supply.all.pinned = share(own, memory);
            }
        }
        if node.layers.contains(&Layer::Storage) {
            supply.all.disk += share(report.disk_total, disk);
        }
    }
    if !cluster.can_spread() {
        // The manager's memory is all the memory that there is.
        supply.all.pinned = u64::MAX;
    }
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
    let one = Amounts { pinned: 0, ..of_replica(service) };
    let (most, whose) = match service.spread {
        true => (supply.one, "the largest node has"),
        false => (supply.manager, "its node has"),
    };
    let (name, amount, tell) = RESOURCES.into_iter().find(|(_, amount, _)| amount(&one) > amount(&most))?;
    Some(format!("a replica takes {}{name}, and {whose} {}", tell(amount(&one)), tell(amount(&most))))
}

fn of_replica(service: &ServiceSpec) -> Amounts {
    let memory = service.limits.memory.map_or(0, |memory| memory.bytes());
    let pinned = if service.spread { 0 } else { memory };
    Amounts { memory, millicpus: service.limits.millicpus.unwrap_or(0).into(), disk: 0, pinned }
}

/// What takes most of a plan, for people: `web 3 × 512 MiB, queue 1 × 128 MiB`.
pub fn tell_demand(plan: &Plan) -> String {
    let parts = plan.resources.iter().filter_map(|resource| {
        let Spec::Service(service) = &resource.spec else { return None };
        let ServiceMode::Replicated(replicas) = service.mode else { return None };
        let name = resource.key.rsplit('/').next()?;
        let one = of_replica(service);
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
        parse_clusters("clusters.yml", &text).unwrap().clusters.into_values().next().unwrap()
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

    fn service_of(plan: &mut Plan) -> &mut ServiceSpec {
        match &mut plan.resources[0].spec {
            Spec::Service(service) => service,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cluster_has_what_its_app_nodes_have_beside_shared_services() {
        let reports = [("one", report(16, 4, 500)), ("two", report(24, 8, 400))];
        let of = |name: &NodeName| reports.iter().find(|(n, _)| *n == name.as_str()).map(|(_, report)| report);
        let supply = supply_of(&cluster("memory: 100, cpus: 200, disk: 50"), of);
        // 16 less 2 for MariaDB and 1 for the cache, and 24; files are on one of them.
        assert_eq!(supply.all, Amounts { memory: 37 * GIB, millicpus: 24_000, disk: 250 * GIB, pinned: 13 * GIB });
        assert_eq!(supply.one, Amounts { memory: 24 * GIB, millicpus: 8_000, ..Amounts::default() });
        assert_eq!(supply.manager, Amounts { memory: 13 * GIB, millicpus: 4_000, ..Amounts::default() });
        // A node that says nothing counts for nothing.
        let lost = supply_of(&cluster("memory: 100"), |name| of(name).filter(|_| name.as_str() != "two"));
        assert_eq!(lost.all.memory, 13 * GIB);
        assert_eq!(supply_of(&cluster(""), |_| None), Supply::default());
    }

    #[test]
    fn what_is_short_is_named() {
        let amounts = |gib, millicpus, pinned| Amounts { memory: gib * GIB, millicpus, disk: 0, pinned: pinned * GIB };
        let supply = Supply { all: amounts(4, 4000, 4), one: amounts(2, 2000, 0), manager: amounts(2, 1500, 0) };
        let others = amounts(3, 1000, 1);
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
        assert_eq!(says(none, &plan(1, "256MiB", Some(1600))), ["a replica takes 1.6 CPUs, and its node has 1.5"]);
        let mut spread = plan(1, "256MiB", Some(2500));
        service_of(&mut spread).spread = true;
        assert_eq!(says(none, &spread), ["a replica takes 2.5 CPUs, and the largest node has 2"]);
        // What others have on the other node is no help to what must be on the manager.
        let beside = |plan: &Plan| shortages(&supply, amounts(1, 0, 3), none, plan);
        assert_eq!(
            beside(&plan(5, "256MiB", None)),
            ["it takes 1.2 GiB of memory that must be on the manager where there is room for 1.0 GiB"]
        );
        service_of(&mut spread).mode = ServiceMode::Replicated(5);
        service_of(&mut spread).limits.millicpus = None;
        assert!(beside(&spread).is_empty());
        assert!(says(none, &plan(0, "3GiB", None)).is_empty(), "no replica takes nothing");
    }

    #[test]
    fn what_is_there_already_may_be_deployed_again() {
        let all = Amounts { memory: GIB, millicpus: 1000, disk: 0, pinned: u64::MAX };
        let supply = Supply { all, one: all, manager: all };
        let others = Amounts { memory: 2 * GIB, ..Amounts::default() };
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
