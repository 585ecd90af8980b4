//! `td whoami`.

use magrathea_core::api::Whoami;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["whoami"], &Query::new()).await?;
    context.show(answer, |printer, who: Whoami| {
        printer.data(format!("{} of {}", who.name, who.organisation));
        for role in &who.roles {
            printer.data(format!("  {role}"));
        }
        if who.roles.is_empty() {
            printer.note("  no role yet: an administrator gives one with td grant add");
        }
        if let Some(limits) = &who.limits {
            printer.data(format!("  by this token only: {}", limits.join(", ")));
        }
    })
}
