//! `td status`: everything at a glance.

use magrathea_core::api::Status;
use magrathea_core::units::count;

use super::{cluster, deploy, instances};

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["status"], &Query::new()).await?;
    context.show(answer, render)
}

fn render(printer: &Printer, status: Status) {
    printer.data(format!("gateway {}, you are {}\n", status.gateway_version, status.person));
    cluster::print(printer, &status.clusters);
    if !status.instances.is_empty() {
        printer.data("");
        instances::print(printer, &status.instances);
    }
    if !status.deploys.is_empty() {
        printer.data("");
        deploy::print(printer, &status.deploys);
    }
    notices(printer, &status);
    printer.note(format!(
        "\n{}, {}, {} running",
        count(status.clusters.len(), "cluster"),
        count(status.instances.len(), "instance"),
        count(status.deploys.len(), "deploy"),
    ));
}

/// What people should know before they ask.
fn notices(printer: &Printer, status: &Status) {
    for cluster in &status.clusters {
        for node in &cluster.nodes {
            if let Some(trouble) = node.report.as_ref().and_then(|report| report.trouble.as_ref()) {
                printer.warning(&format!("{}/{}: {trouble}", cluster.name, node.name));
            }
        }
    }
    for quota in &status.traffic_quotas {
        printer.warning(&quota.notice());
    }
    for instance in &status.instances {
        for quota in instance.quotas.iter().filter(|quota| quota.is_near()) {
            printer.warning(&format!("{} {}: {quota}", instance.app, instance.label));
        }
    }
}
