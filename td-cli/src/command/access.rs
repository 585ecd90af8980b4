//! `td access …`: named IP lists, and from where the gateway itself may be used.

use magrathea_core::api::{DoorInfo, Ended, ListInfo, SetDoor, SetList};
use serde_json::json;

use super::ended;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Access {
    #[command(subcommand)]
    command: Command,
    /// An organisation's; else the operator's
    #[arg(long, global = true, value_name = "ORGANISATION")]
    org: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the lists, what is in them and what uses them
    List,
    /// Make a list or replace its entries; all that uses it follows within seconds
    Set(SetArguments),
    /// Forget a list that nothing uses
    Unset(Named),
    /// Show from where the gateway may be used, or set it
    Door(DoorArguments),
}

#[derive(Debug, clap::Args)]
struct SetArguments {
    /// The list's name, as in office
    name: String,
    /// Addresses, blocks and ranges, as in 192.0.2.7 192.0.2.0/24 2001:db8::1-2001:db8::9
    #[arg(required = true)]
    entries: Vec<String>,
    /// Also when it shuts you out
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The list's name
    name: String,
}

#[derive(Debug, clap::Args)]
struct DoorArguments {
    /// api or ssh
    #[arg(value_parser = ["api", "ssh"])]
    door: Option<String>,
    /// Lists, addresses, blocks and ranges from where it may be used
    #[arg(requires = "door")]
    entries: Vec<String>,
    /// Open it for everywhere again
    #[arg(long, requires = "door", conflicts_with = "entries")]
    open: bool,
    /// Also when it shuts you out
    #[arg(long)]
    force: bool,
}

pub async fn run(context: &Context<'_>, arguments: Access) -> Result<Exit, Failure> {
    let (client, organisation) = (context.client()?, arguments.org);
    match arguments.command {
        Command::List => {
            let answer = client.get(&["lists"], &Query::new()).await?;
            context.show(answer, |printer, all: Vec<ListInfo>| {
                let rows = all.into_iter().map(|one| {
                    let whose = one.organisation.unwrap_or_else(|| one.kept.replace("gateway", "operator"));
                    [one.name, whose, one.entries.join(" "), one.used_by.join(", ")]
                });
                table::print(printer, ["NAME", "WHOSE", "ENTRIES", "USED BY"], rows);
            })
        }
        Command::Set(SetArguments { name, entries, force }) => {
            let query = if force { vec![("force".to_owned(), "true".to_owned())] } else { Query::new() };
            let body = SetList { entries, organisation };
            let set: ListInfo = client.put_with(&["lists", &name], &query, &body).await?;
            context.done(&set);
            let used = if set.used_by.is_empty() { "nothing yet".to_owned() } else { set.used_by.join(", ") };
            context.printer.note(format!("set the list {name}; used by {used}"));
            Ok(Exit::Done)
        }
        Command::Unset(Named { name }) => {
            let query = organisation.map(|name| ("organisation".to_owned(), name)).into_iter().collect();
            client.delete(&["lists", &name], &query).await?;
            context.done(&json!({"unset": name}));
            context.printer.note(format!("unset the list {name}"));
            Ok(Exit::Done)
        }
        Command::Door(DoorArguments { door: Some(door), entries, open, force }) if open || !entries.is_empty() => {
            let from = if open { "everywhere".to_owned() } else { entries.join(", ") };
            let what: Ended = client.put(&["doors", &door], &SetDoor { entries, organisation, force }).await?;
            context.done(&what);
            ended::tell(context, &format!("the door {door} is open from {from}"), &what);
            Ok(Exit::Done)
        }
        Command::Door(_) => {
            let answer = client.get(&["doors"], &Query::new()).await?;
            context.show(answer, |printer, all: Vec<DoorInfo>| {
                if all.is_empty() {
                    printer.note("api and ssh are open from everywhere");
                }
                let rows =
                    all.into_iter().map(|one| [one.door, table::or_dash(one.organisation), one.entries.join(" ")]);
                table::print(printer, ["DOOR", "FOR", "FROM"], rows);
            })
        }
    }
}
