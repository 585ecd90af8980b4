//! `td token …`: tokens for programs, and sessions.

use jiff::Timestamp;
use magrathea_core::api::{CreateToken, Ended, MadeToken, TokenInfo};
use magrathea_core::people::Role;
use magrathea_core::units::count;

use super::ended;
use super::grant::On;
use super::person::{OfPerson, the_one};
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

#[derive(Debug, clap::Args)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    of: OfPerson,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List tokens and sessions
    List,
    /// Make a token for a program; it is printed once
    Create(CreateArguments),
    /// Take a token or a session back; what is held open with it ends
    Remove(RemoveArguments),
}

#[derive(Debug, clap::Args)]
struct CreateArguments {
    /// What it is for, as in ci
    name: String,
    /// Limit it to a role, on --app (and --label), --org, or wherever you have it
    #[arg(long)]
    role: Option<Role>,
    #[command(flatten)]
    on: On,
    /// Days until it expires
    #[arg(long, default_value_t = 90, value_name = "DAYS")]
    days: u16,
}

#[derive(Debug, clap::Args)]
struct RemoveArguments {
    /// Its name or id
    token: String,
}

pub async fn run(context: &Context<'_>, arguments: Token) -> Result<Exit, Failure> {
    let (client, person) = (context.client()?, arguments.of.person.as_str());
    let tokens = ["people", person, "tokens"];
    match arguments.command {
        Command::List => {
            let answer = client.get(&tokens, &Query::new()).await?;
            context.show(answer, |printer, all: Vec<TokenInfo>| {
                let now = Timestamp::now();
                let rows = all.into_iter().map(|one| {
                    let used = human::last(one.last_used, now);
                    let expires = table::or_dash(one.expires.map(|at| at.strftime("%Y-%m-%d")));
                    let limits = one.limits.map_or_else(|| "-".to_owned(), |limits| limits.join(", "));
                    [one.id.to_string(), one.name, one.kind, limits, expires, used]
                });
                table::print(printer, ["ID", "NAME", "KIND", "LIMITED TO", "EXPIRES", "USED"], rows);
            })
        }
        Command::Create(CreateArguments { name, role, on, days }) => {
            let limits = match role {
                Some(role) => vec![on.spec(context, role, "")?],
                None => Vec::new(),
            };
            let made: MadeToken =
                client.post(&["people", "self", "tokens"], &CreateToken { name, limits, days }).await?;
            if context.globals.json {
                context.printer.json(&made);
                return Ok(Exit::Done);
            }
            let scope = made.info.limits.map_or_else(|| "it may all that you may".to_owned(), |l| l.join(", "));
            context.printer.note(format!(
                "the token {} ({scope}; {}), told this once:",
                made.info.name,
                count(days, "day")
            ));
            context.printer.data(&made.token);
            Ok(Exit::Done)
        }
        Command::Remove(RemoveArguments { token }) => {
            let all: Vec<TokenInfo> = client.get(&tokens, &Query::new()).await?;
            let is_it = |one: &TokenInfo| one.name == token || one.id.to_string() == token;
            let one = the_one(&all, is_it, ("token", &token), "id")?;
            let what: Ended =
                client.delete_for(&["people", person, "tokens", &one.id.to_string()], &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("removed the {} {}", one.kind, one.name), &what);
            Ok(Exit::Done)
        }
    }
}
