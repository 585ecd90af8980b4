//! `td cluster list`.

use magrathea_core::api::ClusterInfo;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::table::{self, or_dash};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["clusters"], &Query::new()).await?;
    context.show(answer, |printer, clusters: Vec<ClusterInfo>| print(printer, &clusters))
}

/// A table of clusters.
pub fn print(printer: &Printer, clusters: &[ClusterInfo]) {
    let rows = clusters.iter().map(|cluster| {
        let connected = cluster.nodes.iter().filter(|node| node.state == "connected").count();
        // Of those that are not told about their nodes, nothing is told that would be counted.
        let told = !cluster.nodes.is_empty();
        [
            cluster.name.clone(),
            or_dash(cluster.domain.as_ref()),
            or_dash(told.then(|| format!("{connected}/{}", cluster.nodes.len()))),
            or_dash(told.then_some(cluster.instances)),
        ]
    });
    table::print(printer, ["CLUSTER", "DOMAIN", "NODES", "INSTANCES"], rows);
}
