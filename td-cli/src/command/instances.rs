//! Instances as people see them, shared by the commands that show some.

use magrathea_core::api::InstanceInfo;
use magrathea_core::units::count;
use magrathea_core::wire::Serving;

use crate::exit::{Exit, Failure};
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

/// What --label and --cluster say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub label: Option<&'a str>,
    pub cluster: Option<&'a str>,
}

/// The one instance that is meant: the label's, or the only one.
pub fn choose<'a>(instances: &'a [InstanceInfo], app: &str, wanted: Wanted<'_>) -> Result<&'a InstanceInfo, Failure> {
    let found = choose_all(instances, app, wanted)?;
    match found.as_slice() {
        [only] => Ok(only),
        several => {
            let label = several.first().map(|instance| instance.label.as_str()).unwrap_or_default();
            let clusters = several.iter().map(|instance| instance.cluster.clone()).collect::<Vec<_>>();
            let failure = Failure::usage(format!("{app} ({label}) lives on several clusters"));
            let failure = failure.hint(format!("say --cluster: {}", clusters.join(", ")));
            Err(Failure { code: Some("cluster_ambiguous".into()), clusters, ..failure })
        }
    }
}

/// The instances of the one label that is meant, one on each cluster; at least one.
pub fn choose_all<'a>(
    instances: &'a [InstanceInfo],
    app: &str,
    Wanted { label, cluster }: Wanted<'_>,
) -> Result<Vec<&'a InstanceInfo>, Failure> {
    let say = |message: String| Failure::say(Exit::Failed, message);
    if instances.is_empty() {
        return Err(say(format!("{app} lives nowhere yet")).hint("deploy it: td app deploy"));
    }
    let of_label: Vec<_> = instances.iter().filter(|i| label.is_none_or(|label| i.label == label)).collect();
    if let (Some(label), []) = (label, of_label.as_slice()) {
        let hint = format!("it has: {}", names(instances, |instance| &instance.label));
        return Err(say(format!("{app} has no instance with the label {label}")).hint(hint));
    }
    let lives_on = names(of_label.iter().copied(), |instance| &instance.cluster);
    let found: Vec<_> = of_label.into_iter().filter(|i| cluster.is_none_or(|cluster| i.cluster == cluster)).collect();
    let Some(first) = found.first() else {
        let cluster = cluster.unwrap_or_default();
        let what = label.map_or_else(|| app.to_owned(), |label| format!("{app} ({label})"));
        return Err(say(format!("{what} does not live on {cluster}")).hint(format!("it lives on: {lives_on}")));
    };
    if found.iter().any(|instance| instance.label != first.label) {
        let labels = names(found.iter().copied(), |instance| &instance.label);
        return Err(Failure::usage(format!("{app} has several instances")).hint(format!("say --label: {labels}")));
    }
    Ok(found)
}

/// Each name once, in the order in which they come.
fn names<'a>(
    instances: impl IntoIterator<Item = &'a InstanceInfo>,
    name: impl Fn(&'a InstanceInfo) -> &'a String,
) -> String {
    let mut names: Vec<&str> = Vec::new();
    for instance in instances {
        if !names.contains(&name(instance).as_str()) {
            names.push(name(instance));
        }
    }
    names.join(", ")
}
