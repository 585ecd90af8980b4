//! `td deploy info`.

use jiff::Timestamp;
use magrathea_core::api::DeployInfo;

use super::Which;
use super::list::describe_status;
use crate::client::Query;
use crate::command::instances::describe_serving;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::{Printer, clean};
use crate::table::or_dash;

pub async fn run(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let client = context.client()?;
    let id = which.find(context, &client).await?.to_string();
    let answer = client.get(&["deploys", &id], &Query::new()).await?;
    context.show(answer, render)
}

fn render(printer: &Printer, deploy: DeployInfo) {
    let now = Timestamp::now();
    let age = human::age(deploy.created, now);
    printer.data(format!("deploy    {}", deploy.id));
    printer.data(format!("instance  {}, label {} on {}", deploy.app, deploy.label, deploy.cluster));
    printer.data(format!("status    {}", describe_status(&deploy)));
    printer.data(format!("release   {}", or_dash(deploy.release)));
    printer.data(format!("started   {age} ago by {}", clean(&deploy.person)));
    if let Some(finished) = deploy.finished {
        let took = finished.duration_since(deploy.created).unsigned_abs();
        printer.data(format!("took      {}", human::duration(took)));
    }
    if deploy.serving.is_some() {
        printer.data(format!("serving   {}", describe_serving(deploy.serving.as_ref())));
    }
    for url in &deploy.urls {
        printer.data(format!("url       {url}"));
    }
    if let Some(failure) = &deploy.failure {
        printer.data(format!("failure   {}: {}", failure.code, clean(&failure.message)));
        for line in &failure.log_tail {
            printer.data(format!("          | {}", clean(line)));
        }
        if let Some(hint) = &failure.hint {
            printer.data(format!("hint      {}", clean(hint)));
        }
    }
}
