//! `td grant …`: who has which role where.

use magrathea_core::api::{AddGrant, Ended, GrantInfo, GrantSpec, Holder};
use magrathea_core::people::Role;

use super::ended;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List roles: your own, and those on what you administer
    List,
    /// Give a role on an app (--app), one of its labels (--label), an organisation (--org) or everything (--platform)
    Add(Change),
    /// Take a role back; what is held open through it ends
    Remove(Change),
}

#[derive(Debug, clap::Args)]
pub struct Change {
    /// viewer, developer, operator, administrator or accountant
    role: Role,
    /// A person, `team:ORGANISATION/TEAM`, or `org:ORGANISATION` to share an app with it
    who: String,
    #[command(flatten)]
    on: On,
}

/// Where a role holds, beside --app and --label.
#[derive(Debug, clap::Args)]
pub struct On {
    /// On all apps of this organisation
    #[arg(long, value_name = "ORGANISATION", conflicts_with = "platform")]
    pub org: Option<String>,
    /// On everything: all organisations, and the clusters themselves
    #[arg(long)]
    pub platform: bool,
}

impl On {
    /// The scope that was named; `fallback` is the organisation when nothing was.
    pub fn spec(&self, context: &Context<'_>, role: Role, fallback: &str) -> Result<GrantSpec, Failure> {
        let globals = &context.globals;
        let mut spec = GrantSpec { role, organisation: None, app: None, label: None };
        if self.platform {
            return Ok(spec);
        }
        if let Some(org) = &self.org {
            spec.organisation = Some(org.clone());
        } else if globals.app.is_some() || globals.label.is_some() {
            spec.app = Some(context.app(None)?.to_string());
            spec.label = globals.label.clone();
        } else if !fallback.is_empty() {
            spec.organisation = Some(fallback.to_owned());
        } else {
            return Err(
                Failure::usage("where?").hint("say --app APP [--label LABEL], --org ORGANISATION or --platform")
            );
        }
        Ok(spec)
    }
}

fn holder(who: &str) -> Holder {
    match who.split_once(':') {
        Some(("team", team)) => Holder { team: Some(team.to_owned()), ..Holder::default() },
        Some(("org", org)) => Holder { organisation: Some(org.to_owned()), ..Holder::default() },
        _ => Holder { person: Some(who.to_owned()), ..Holder::default() },
    }
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    let client = context.client()?;
    match command {
        Command::List => {
            let answer = client.get(&["grants"], &Query::new()).await?;
            context.show(answer, |printer, all: Vec<GrantInfo>| {
                let rows = all.into_iter().map(|one| {
                    let GrantSpec { role, organisation, app, label } = one.grant;
                    let place = match (organisation, app, label) {
                        (Some(organisation), ..) => format!("org:{organisation}"),
                        (None, Some(app), Some(label)) => format!("{app}/{label}"),
                        (None, Some(app), None) => app,
                        _ => "everything".to_owned(),
                    };
                    let Holder { person, team, organisation } = one.to;
                    let who = person.or(team.map(|t| format!("team:{t}"))).or(organisation.map(|o| format!("org:{o}")));
                    [who.unwrap_or_default(), role.to_string(), place]
                });
                table::print(printer, ["WHO", "ROLE", "WHERE"], rows);
            })
        }
        Command::Add(Change { role, who, on }) => {
            let body = AddGrant { to: holder(&who), grant: on.spec(context, role, "")? };
            let added: GrantInfo = client.post(&["grants"], &body).await?;
            context.done(&added);
            context.printer.note(format!("{} is {}", added.to, added.grant));
            Ok(Exit::Done)
        }
        Command::Remove(Change { role, who, on }) => {
            let (to, grant) = (holder(&who), on.spec(context, role, "")?);
            let all: Vec<GrantInfo> = client.get(&["grants"], &Query::new()).await?;
            let found = all.into_iter().find(|one| one.to == to && one.grant == grant);
            let found = found.ok_or_else(|| {
                Failure::say(Exit::Failed, format!("{to} is not {grant}")).hint("td grant list shows who is what")
            })?;
            let what: Ended = client.delete_for(&["grants", &found.id.to_string()], &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("{to} is no longer {grant}"), &what);
            Ok(Exit::Done)
        }
    }
}
