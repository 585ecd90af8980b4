//! `td person …`: people, each once, with all that they may do.

use jiff::Timestamp;
use magrathea_core::api::{Ended, GrantSpec, InvitationInfo, Invite, MadeInvitation, PersonInfo};
use magrathea_core::people::Role;
use magrathea_core::units::count;

use super::ended;
use super::grant::On;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the people that you may see
    List,
    /// Invite somebody; what is printed is theirs alone: it makes them a person here
    Invite(InviteArguments),
    /// List an organisation's open invitations
    Invitations(OfOrganisation),
    /// Take an invitation back
    Uninvite(UninviteArguments),
    /// Remove a person: all that they hold open ends, nothing they had works any more
    Remove(Named),
}

#[derive(Debug, clap::Args)]
pub struct Named {
    /// The person's name
    name: String,
}

#[derive(Debug, clap::Args)]
pub struct OfOrganisation {
    /// The organisation; else your own
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct InviteArguments {
    /// What the person will be called here
    name: String,
    #[command(flatten)]
    of: OfOrganisation,
    /// A role to begin with: viewer, developer, operator, administrator or accountant
    #[arg(long)]
    role: Option<Role>,
    /// Days for which the invitation is good
    #[arg(long, default_value_t = 7, value_name = "DAYS")]
    days: u16,
}

#[derive(Debug, clap::Args)]
pub struct UninviteArguments {
    /// Who was invited
    name: String,
    #[command(flatten)]
    of: OfOrganisation,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List => list(context).await,
        Command::Invite(arguments) => invite(context, arguments).await,
        Command::Invitations(of) => {
            let org = organisation(context, of.org).await?;
            let answer = context.client()?.get(&["organisations", &org, "invitations"], &Query::new()).await?;
            context.show(answer, |printer, open: Vec<InvitationInfo>| {
                let rows = open.into_iter().map(|one| {
                    [one.name, one.organisation, one.invited_by, one.expires.strftime("%Y-%m-%d %H:%M").to_string()]
                });
                table::print(printer, ["NAME", "ORGANISATION", "INVITED BY", "GOOD UNTIL"], rows);
            })
        }
        Command::Uninvite(UninviteArguments { name, of }) => {
            let org = organisation(context, of.org).await?;
            let client = context.client()?;
            let open: Vec<InvitationInfo> = client.get(&["organisations", &org, "invitations"], &Query::new()).await?;
            let found = open.into_iter().find(|one| one.name == name);
            let found = found.ok_or_else(|| Failure::say(Exit::Failed, format!("{name} is not invited to {org}")))?;
            client.delete(&["organisations", &org, "invitations", &found.id.to_string()], &Query::new()).await?;
            context.done(&found);
            context.printer.note(format!("took the invitation of {name} back"));
            Ok(Exit::Done)
        }
        Command::Remove(Named { name }) => {
            let what: Ended = context.client()?.delete_for(&["people", &name], &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("removed {name}"), &what);
            Ok(Exit::Done)
        }
    }
}

/// Whose keys or tokens are meant.
#[derive(Debug, clap::Args)]
pub struct OfPerson {
    /// Whose; else your own
    #[arg(long, global = true, value_name = "PERSON", default_value = "self", hide_default_value = true)]
    pub person: String,
}

/// The only thing that is meant; `surely` is what tells it from all others.
pub fn the_one<'a, T>(
    all: &'a [T],
    is_it: impl Fn(&T) -> bool,
    (kind, named): (&str, &str),
    surely: &str,
) -> Result<&'a T, Failure> {
    let found: Vec<&T> = all.iter().filter(|one| is_it(one)).collect();
    let said = match found.as_slice() {
        [one] => return Ok(one),
        [] => format!("no {kind} named {named}"),
        _ => format!("several {kind}s named {named}"),
    };
    Err(Failure::say(Exit::Failed, said).hint(format!("name it by its {surely}")))
}

/// The named organisation, or one's own.
pub async fn organisation(context: &Context<'_>, named: Option<String>) -> Result<String, Failure> {
    match named {
        Some(name) => Ok(name),
        None => {
            let who: magrathea_core::api::Whoami = context.client()?.get(&["whoami"], &Query::new()).await?;
            Ok(who.organisation)
        }
    }
}

async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["people"], &Query::new()).await?;
    context.show(answer, |printer, people: Vec<PersonInfo>| {
        let now = Timestamp::now();
        let rows = people.into_iter().map(|one| {
            let seen = human::last(one.last_seen, now);
            let counted = [one.keys, one.tokens, one.sessions].map(|count| count.to_string());
            let [keys, tokens, sessions] = counted;
            [one.name, one.organisation, one.teams.join(" "), keys, tokens, sessions, seen]
        });
        table::print(printer, ["NAME", "ORGANISATION", "TEAMS", "KEYS", "TOKENS", "SESSIONS", "SEEN"], rows);
    })
}

async fn invite(context: &Context<'_>, arguments: InviteArguments) -> Result<Exit, Failure> {
    let org = organisation(context, arguments.of.org).await?;
    // On the app that --app names, or the whole organisation.
    let on = On { org: None, platform: false };
    let grants: Vec<GrantSpec> = match arguments.role {
        Some(role) => vec![on.spec(context, role, &org)?],
        None => Vec::new(),
    };
    let body = Invite { name: arguments.name.clone(), full_name: String::new(), grants, days: arguments.days };
    let made: MadeInvitation = context.client()?.post(&["organisations", &org, "invitations"], &body).await?;
    if context.globals.json {
        context.printer.json(&made);
        return Ok(Exit::Done);
    }
    context.printer.note(format!(
        "{} of {org} is invited for {}; send them this:",
        arguments.name,
        count(arguments.days, "day")
    ));
    context.printer.data(format!("td join {}", made.invitation));
    Ok(Exit::Done)
}
