//! `td config unset`.

use super::change::{Staging, change};
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(required = true, value_name = "KEY", help = "The values' names")]
    keys: Vec<String>,
    #[command(flatten)]
    staging: Staging,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let values = arguments.keys.iter().map(|key| (key.clone(), None)).collect();
    change(context, values, arguments.staging).await
}
