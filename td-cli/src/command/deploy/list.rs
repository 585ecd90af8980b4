//! `td deploy list`.

use jiff::Timestamp;
use magrathea_core::api::{DeployInfo, DeployStatus};

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::Printer;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many deploys
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let answer = context.client()?.get(&["apps", app.as_str(), "deploys"], &Query::new()).await?;
    context.show(answer, |printer, mut deploys: Vec<DeployInfo>| {
        deploys.retain(|deploy| context.means(&deploy.label, &deploy.cluster));
        deploys.truncate(arguments.limit);
        print(printer, &deploys);
    })
}

/// A table of deploys.
pub fn print(printer: &Printer, deploys: &[DeployInfo]) {
    let now = Timestamp::now();
    let first = deploys.first().map(|deploy| &deploy.cluster);
    let are_several = deploys.iter().any(|deploy| Some(&deploy.cluster) != first);
    let rows = deploys.iter().map(|deploy| {
        let took = deploy.finished.map(|end| human::duration(end.duration_since(deploy.created).unsigned_abs()));
        [
            deploy.id.to_string(),
            // One cluster is not told of, several are.
            if are_several {
                format!("{}/{} on {}", deploy.app, deploy.label, deploy.cluster)
            } else {
                format!("{}/{}", deploy.app, deploy.label)
            },
            or_dash(deploy.release),
            describe_status(deploy),
            human::age(deploy.created, now),
            or_dash(took),
            deploy.person.clone(),
        ]
    });
    table::print(printer, ["ID", "INSTANCE", "RELEASE", "STATUS", "AGE", "TOOK", "BY"], rows);
}

/// As in `succeeded`, `running (build)` or `failed (health)`.
pub fn describe_status(deploy: &DeployInfo) -> String {
    let phase = deploy.failure.as_ref().map_or(deploy.phase, |failure| failure.phase);
    match deploy.status {
        _ if deploy.unchanged => "unchanged".into(),
        DeployStatus::Waiting => "waiting".into(),
        DeployStatus::Succeeded => "succeeded".into(),
        DeployStatus::Cancelled => "cancelled".into(),
        DeployStatus::Running => format!("running ({phase})"),
        DeployStatus::Failed => format!("failed ({phase})"),
    }
}
