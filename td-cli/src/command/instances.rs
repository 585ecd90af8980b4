//! Instances as people see them, shared by the commands that show some.

use magrathea_core::api::InstanceInfo;
use magrathea_core::units::count;
use magrathea_core::wire::Serving;

use crate::printer::Printer;
use crate::table::{self, or_dash};

/// A table of instances.
pub fn print<'a>(printer: &Printer, instances: impl IntoIterator<Item = &'a InstanceInfo>) {
    table::print(printer, HEADER, instances.into_iter().map(row));
}

pub const HEADER: [&str; 6] = ["APP", "LABEL", "CLUSTER", "STATE", "SERVES", "URL"];

pub fn row(instance: &InstanceInfo) -> [String; 6] {
    [
        instance.app.clone(),
        instance.label.clone(),
        instance.cluster.clone(),
        instance.state.clone(),
        or_dash(instance.serving.as_ref().and_then(|serving| serving.release)),
        or_dash(instance.urls.first()),
    ]
}

/// What the router serves, as in `v12 on 3 replicas` or `v12 on 2 of 3 replicas`.
pub fn describe_serving(serving: Option<&Serving>) -> String {
    let Some(serving) = serving else { return "unknown: the router was not asked".into() };
    let Some(release) = serving.release else { return "nothing".into() };
    let up = serving.replicas.iter().filter(|replica| replica.state == "up").count();
    let replicas = count(serving.replicas.len(), "replica");
    if up == serving.replicas.len() {
        format!("{release} on {replicas}")
    } else {
        format!("{release} on {up} of {replicas}")
    }
}

/// The one instance that is meant: the label's, or the only one.
pub fn choose<'a>(
    instances: &'a [InstanceInfo],
    app: &str,
    label: Option<&str>,
) -> Result<&'a InstanceInfo, crate::exit::Failure> {
    use crate::exit::{Exit, Failure};
    let labels = || instances.iter().map(|i| i.label.as_str()).collect::<Vec<_>>().join(", ");
    match (label, instances) {
        (_, []) => Err(Failure::say(Exit::Failed, format!("{app} lives nowhere yet")).hint("deploy it: td app deploy")),
        (Some(label), _) => instances.iter().find(|instance| instance.label == label).ok_or_else(|| {
            Failure::say(Exit::Failed, format!("{app} has no instance with the label {label}"))
                .hint(format!("it has: {}", labels()))
        }),
        (None, [instance]) => Ok(instance),
        (None, _) => {
            Err(Failure::usage(format!("{app} has several instances")).hint(format!("say --label: {}", labels())))
        }
    }
}
