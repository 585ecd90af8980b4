//! `td deploy log`: what a deploy said, and what it says while it runs. It ends with the deploy's own exit code, so
//! it is also how a script waits for one.

use uuid::Uuid;

use super::{Which, print_running, print_summary};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::follow::{End, Until, follow};
use crate::progress::{Events, Progress, Target};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let id = arguments.which.find(context, &context.client()?).await?;
    follow_to_end(context, id, Target::Data).await
}

/// Shows a deploy to its end; its own exit code. With --json, its events.
pub async fn follow_to_end(context: &Context<'_>, id: Uuid, target: Target) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut progress = Progress::new(context.printer, target);
    let end = if context.globals.json {
        follow(&client, id, Until::default(), &mut Events(context.printer)).await
    } else {
        follow(&client, id, Until::default(), &mut progress).await
    };
    progress.finish();
    Ok(conclude(context, id, end?, &progress))
}

/// Tells how following a deploy ended.
pub fn conclude(context: &Context<'_>, id: Uuid, end: End, progress: &Progress<'_>) -> Exit {
    match end {
        End::Finished(deploy) => {
            print_summary(context.printer, &deploy, progress, None);
            Exit::of_deploy(&deploy)
        }
        End::TimedOut | End::Detached | End::OnTrial => {
            print_running(context.printer, id, "detached");
            Exit::Running
        }
    }
}
