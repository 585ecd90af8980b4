//! `td team …`: people who have their roles together.

use magrathea_core::api::{CreateTeam, Ended, TeamInfo};
use serde_json::{Value, json};

use super::ended;
use super::person::organisation;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Team {
    #[command(subcommand)]
    command: Command,
    /// The organisation; else your own
    #[arg(long, global = true, value_name = "ORGANISATION")]
    org: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the teams
    List,
    /// Make a team
    Create(Named),
    /// Remove a team with its roles
    Remove(Named),
    /// Put a person into a team
    Add(Member),
    /// Take a person out of a team
    Drop(Member),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The team's name
    team: String,
}

#[derive(Debug, clap::Args)]
struct Member {
    /// The team's name
    team: String,
    /// The person's name
    person: String,
}

pub async fn run(context: &Context<'_>, arguments: Team) -> Result<Exit, Failure> {
    let org = organisation(context, arguments.org).await?;
    let client = context.client()?;
    let teams = ["organisations", &org, "teams"];
    match arguments.command {
        Command::List => {
            let answer = client.get(&teams, &Query::new()).await?;
            return context.show(answer, |printer, all: Vec<TeamInfo>| {
                let rows = all.into_iter().map(|one| [one.organisation, one.name, one.members.join(" ")]);
                table::print(printer, ["ORGANISATION", "TEAM", "MEMBERS"], rows);
            });
        }
        Command::Create(Named { team }) => {
            let made: Value = client.post(&teams, &CreateTeam { name: team.clone() }).await?;
            context.done(&made);
            context.printer.note(format!("made the team {team}; give it a role: td grant add ROLE team:{org}/{team}"));
        }
        Command::Remove(Named { team }) => {
            let what: Ended = client.delete_for(&["organisations", &org, "teams", &team], &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("removed the team {team}"), &what);
        }
        Command::Add(Member { team, person }) => {
            let path = ["organisations", &org, "teams", &team, "members", &person];
            let _: Value = client.put(&path, &json!({})).await?;
            context.done(&json!({"team": team, "person": person}));
            context.printer.note(format!("{person} is in the team {team}"));
        }
        Command::Drop(Member { team, person }) => {
            let path = ["organisations", &org, "teams", &team, "members", &person];
            let what: Ended = client.delete_for(&path, &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("{person} is no longer in the team {team}"), &what);
        }
    }
    Ok(Exit::Done)
}
