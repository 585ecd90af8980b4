//! `td app create`.

use magrathea_core::api::{AppInfo, CreateApp};

use super::Named;
use super::link::{REMOTE, Remote, has_remote, is_repository, link};
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub async fn run(context: &Context<'_>, named: &Named) -> Result<Exit, Failure> {
    let name = context.app(named.name.as_deref())?;
    let body = CreateApp { name: name.to_string(), organisation: None };
    let client = context.client()?;
    let answer = client.post(&["apps"], &body).await?;
    let exit = context.show(answer, |printer, app: AppInfo| {
        printer.data(&app.name);
        printer.note(format!("made the app {}; deploy it: td app deploy --app {}", app.name, app.name));
    })?;
    let folder = context.globals.folder.as_path();
    if is_repository(folder) && !has_remote(folder, REMOTE) {
        match link(context, &client, &name, Remote { name: REMOTE, https: false }).await {
            Ok(url) => context.printer.note(format!("git push {REMOTE} main deploys it, too: {url}")),
            // The app is made all the same.
            Err(failure) => context.printer.warning(&format!("no git remote was set: {:#}", failure.error)),
        }
    }
    Ok(exit)
}
