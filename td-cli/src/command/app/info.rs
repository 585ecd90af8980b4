//! `td app info`.

use jiff::Timestamp;
use magrathea_core::api::{AppInfo, InstanceInfo};

use super::Named;
use super::scale::{describe_automatic, describe_window};
use crate::client::Query;
use crate::command::instances::describe_serving;
use crate::command::preview::describe_expiry;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::{Look, Printer, clean};

pub async fn run(context: &Context<'_>, named: &Named) -> Result<Exit, Failure> {
    let name = context.app(named.name.as_deref())?;
    let answer = context.client()?.get(&["apps", name.as_str()], &Query::new()).await?;
    context.show(answer, |printer, app: AppInfo| {
        let now = Timestamp::now();
        let age = human::age(app.created, now);
        printer.data(format!("{}, of {}, made {age} ago", app.name, app.organisation));
        for quota in &app.traffic_quotas {
            let whose = if quota.app.is_some() { "" } else { " of its organisation" };
            printer.data(format!("traffic{whose} this month: {quota}"));
        }
        for instance in app.instances.iter().filter(|i| context.means(&i.label, &i.cluster)) {
            print_instance(printer, instance, now);
        }
        if app.instances.is_empty() {
            printer.note("it lives nowhere yet; deploy it: td app deploy");
        }
    })
}

fn print_instance(printer: &Printer, instance: &InstanceInfo, now: Timestamp) {
    let title = format!("{} on {}", instance.label, instance.cluster);
    printer.data(format!("\n{}", printer.on_stdout(Look::Bold, &title)));
    printer.data(format!("  state    {}", instance.state));
    printer.data(format!("  serves   {}", describe_serving(instance.serving.as_ref())));
    if let Some(release) = &instance.release {
        let age = human::age(release.created, now);
        printer.data(format!("  release  {}, {}, {age} ago", release.number, human::size(release.size)));
        if let Some(commit) = &release.commit {
            let short = commit.get(..7).unwrap_or(commit);
            let message = release.message.as_deref().unwrap_or_default();
            printer.data(format!("  commit   {} {}", clean(short), clean(message)).trim_end());
        }
    }
    for url in &instance.urls {
        printer.data(format!("  url      {url}"));
    }
    for replica in instance.serving.iter().flat_map(|serving| &serving.replicas) {
        let container = replica.container.get(..12).unwrap_or(&replica.container);
        printer.data(format!("  replica  {container} at {}, {}", replica.address, replica.state));
    }
    if let Some(automatic) = &instance.automatic {
        let how = if automatic.rests { "somebody has set the number" } else { "the number follows the load" };
        printer.data(format!("  scaling  {}; {how}", describe_automatic(automatic)));
        if let Some(window) = describe_window(automatic) {
            printer.data(format!("  window   {window}"));
        }
    }
    for quota in &instance.quotas {
        let (used, most) = (human::size(quota.used), human::size(quota.quota));
        let metric = quota.metric;
        printer.data(format!("  {metric:8} {used} of {most} ({} %)", quota.percent()));
    }
    if let Some(preview) = &instance.preview {
        let expiry = describe_expiry(preview, now);
        printer.data(format!("  preview  of {}, expires {expiry}", clean(&preview.branch)));
        printer.data(format!("  cost     {:.2} GiB-hours of memory", preview.memory_gib_hours));
    }
    if let Some(since) = instance.absent_since {
        let age = human::age(since, now);
        printer.data(format!("  label    has left magrathea.yml {age} ago; it serves on"));
    }
    if let Some(deploy) = instance.deploy {
        printer.data(format!("  deploy   {deploy} is under way"));
    }
}
