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
    printer.note(format!(
        "\n{}, {}, {} running",
        count(status.clusters.len(), "cluster"),
        count(status.instances.len(), "instance"),
        count(status.deploys.len(), "deploy"),
    ));
}
