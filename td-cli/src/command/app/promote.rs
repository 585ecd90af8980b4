//! `td app promote`.

use magrathea_core::api::{DeployInfo, LabelDeploy, Promote};
use magrathea_core::names::LabelName;
use magrathea_core::units::Span;

use crate::client::Query;
use crate::command::deploy::{Begun, follow_each, follow_to_end};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::progress::Target;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The label whose image is taken
    #[arg(value_name = "FROM")]
    from: LabelName,
    /// The label that gets it
    #[arg(value_name = "TO")]
    to: LabelName,
    /// The cluster whose image is taken; the target's own when absent, or the only one
    #[arg(long, value_name = "CLUSTER")]
    from_cluster: Option<String>,
    /// Wait this long for another deploy of that label to end; without it td refuses at once
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Span>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let Arguments { from, from_cluster, to, wait } = arguments;
    let client = context.client()?;
    let path = ["apps", app.as_str(), "instances", from.as_str(), "promote"];
    let query: Query = from_cluster.iter().map(|cluster| ("cluster".to_owned(), cluster.clone())).collect();
    let promote = async |to_cluster: Option<String>| {
        let body = Promote { to: to.to_string(), to_cluster, wait: wait.map(Span::whole_seconds) };
        client.post_with::<DeployInfo>(&path, &query, &body).await
    };
    let told = || context.printer.note(format!("promoting what {from} of {app} serves to {to}"));
    let clusters = match promote(context.globals.cluster.clone()).await {
        Ok(deploy) => {
            told();
            return follow_to_end(context, deploy.id, Target::Progress).await;
        }
        // The target lives on several: it is asked for each of them.
        Err(failure) if context.globals.cluster.is_none() && !failure.clusters.is_empty() => failure.clusters,
        Err(failure) => return Err(failure),
    };
    told();
    let mut begun = Vec::new();
    for cluster in clusters {
        let promoted = promote(Some(cluster.clone())).await;
        begun.push(LabelDeploy::of(to.as_str(), &cluster, promoted.map_err(Failure::into_refusal)));
    }
    follow_each(context, Begun::Several(begun)).await
}
