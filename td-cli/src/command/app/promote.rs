//! `td app promote`.

use magrathea_core::api::{DeployInfo, Promote};
use magrathea_core::names::LabelName;
use magrathea_core::units::Span;

use crate::command::deploy::follow_to_end;
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
    /// Wait this long for another deploy of that label to end; without it td refuses at once
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Span>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let Arguments { from, to, wait } = arguments;
    let body = Promote { to: to.to_string(), wait: wait.map(Span::whole_seconds) };
    let path = ["apps", app.as_str(), "instances", from.as_str(), "promote"];
    let deploy: DeployInfo = context.client()?.post(&path, &body).await?;
    context.printer.note(format!("promoting what {from} of {app} serves to {to}"));
    follow_to_end(context, deploy.id, Target::Progress).await
}
