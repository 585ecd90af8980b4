//! `td org …`: the operator's customers, and the operator.

use magrathea_core::api::{CreateOrganisation, Ended, OrganisationInfo};
use serde_json::Value;

use super::ended;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the organisations that you may see
    List,
    /// Make an organisation
    Create(Named),
    /// Remove an organisation that has no apps, with its people
    Remove(Named),
}

#[derive(Debug, clap::Args)]
pub struct Named {
    /// The organisation's name
    name: String,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    let client = context.client()?;
    match command {
        Command::List => {
            let answer = client.get(&["organisations"], &Query::new()).await?;
            context.show(answer, |printer, all: Vec<OrganisationInfo>| {
                let rows = all
                    .into_iter()
                    .map(|one| [one.name, one.apps.to_string(), one.people.to_string(), one.teams.to_string()]);
                table::print(printer, ["NAME", "APPS", "PEOPLE", "TEAMS"], rows);
            })
        }
        Command::Create(Named { name }) => {
            let made: Value = client.post(&["organisations"], &CreateOrganisation { name: name.clone() }).await?;
            context.done(&made);
            let next = format!("td person invite NAME --org {name} --role administrator");
            context.printer.note(format!("made the organisation {name}; its first person: {next}"));
            Ok(Exit::Done)
        }
        Command::Remove(Named { name }) => {
            let what: Ended = client.delete_for(&["organisations", &name], &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("removed the organisation {name}"), &what);
            Ok(Exit::Done)
        }
    }
}
