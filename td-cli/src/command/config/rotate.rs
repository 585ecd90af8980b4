//! `td config rotate-db`: a new password for a label's database account, with a deploy that drops no request.

use magrathea_core::api::DeployInfo;
use serde_json::json;

use super::change::follow_all;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let label = context.globals.label.clone().unwrap_or_else(|| "default".to_owned());
    let path = ["apps", app.as_str(), "instances", &label, "db", "rotate"];
    let deploys: Vec<DeployInfo> = context.client()?.post_with(&path, &context.on_cluster(), &json!({})).await?;
    context
        .printer
        .note(format!("the database of {app} ({label}) gets a new password; the former one is good until then"));
    context.done(&deploys);
    follow_all(context, &deploys).await
}
