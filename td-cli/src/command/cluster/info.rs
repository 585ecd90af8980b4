//! `td cluster info`.

use jiff::Timestamp;
use magrathea_core::api::{ClusterCapacity, ClusterInfo, Level, NodeInfo};
use magrathea_core::capacity::cpus;
use magrathea_core::names::Layer;
use magrathea_core::units::count;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::Printer;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The cluster's name; the only one when absent
    #[arg(value_name = "CLUSTER")]
    name: Option<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let client = context.client()?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => match client.get::<Vec<ClusterInfo>>(&["clusters"], &Query::new()).await?.as_slice() {
            [only] => only.name.clone(),
            clusters => {
                let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
                return Err(Failure::usage("no cluster is named").hint(format!("there are: {}", names.join(", "))));
            }
        },
    };
    let answer = client.get(&["clusters", &name], &Query::new()).await?;
    context.show(answer, render)
}

fn render(printer: &Printer, cluster: ClusterInfo) {
    let domain = or_dash(cluster.domain.as_ref());
    let instances = count(cluster.instances, "instance");
    printer.data(format!("{}, domain {domain}, {instances}\n", cluster.name));
    let now = Timestamp::now();
    let header = ["NODE", "ADDRESS", "ZONE", "STATE", "SEEN", "CPUS", "MEMORY", "DISK FREE", "ENGINE", "LAYERS"];
    table::print(printer, header, cluster.nodes.iter().map(|node| node_row(node, now)));
    for node in &cluster.nodes {
        if let Some(trouble) = node.report.as_ref().and_then(|report| report.trouble.as_ref()) {
            printer.data(format!("\n{}: {trouble}", node.name));
        }
    }
    if let Some(capacity) = &cluster.capacity {
        printer.data("");
        table::print(printer, ["FOR INSTANCES", "TOTAL", "PROMISED", "FREE"], capacity_rows(capacity));
    }
    let services = cluster.nodes.iter().flat_map(|node| node.services.iter().map(move |service| (node, service)));
    let rows: Vec<_> = services
        .map(|(node, service)| {
            let running = format!("{}/{}", service.running, service.wanted);
            [node.name.clone(), service.layer.to_string(), service.name.clone(), running]
        })
        .collect();
    if !rows.is_empty() {
        printer.data("");
        table::print(printer, ["NODE", "LAYER", "SERVICE", "RUNNING"], rows);
    }
}

fn capacity_rows(capacity: &ClusterCapacity) -> [[String; 4]; 3] {
    let row = |name: &str, level: &Level, tell: fn(u64) -> String| {
        let free = level.total.saturating_sub(level.promised);
        [name.to_owned(), tell(level.total), tell(level.promised), tell(free)]
    };
    [
        row("memory", &capacity.memory, human::size),
        row("CPUs", &capacity.millicpus, cpus),
        row("disk", &capacity.disk, human::size),
    ]
}

fn node_row(node: &NodeInfo, now: Timestamp) -> [String; 10] {
    let report = node.report.as_ref();
    let layers: Vec<_> = node.layers.iter().copied().map(Layer::as_str).collect();
    [
        node.name.clone(),
        node.address.clone(),
        or_dash(node.zone.as_ref()),
        node.state.clone(),
        or_dash(node.last_seen.map(|seen| human::age(seen, now))),
        or_dash(report.map(|report| report.cpus)),
        or_dash(report.map(|report| human::size(report.memory))),
        or_dash(report.map(|r| format!("{} of {}", human::size(r.disk_free), human::size(r.disk_total)))),
        or_dash(report.map(|report| &report.engine_version)),
        layers.join(" "),
    ]
}
