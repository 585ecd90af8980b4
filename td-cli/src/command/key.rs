//! `td key …`: SSH keys, each one person's.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use magrathea_core::api::{AddKey, Ended, KeyInfo};

use super::ended;
use super::person::{OfPerson, the_one};
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

#[derive(Debug, clap::Args)]
pub struct Key {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    of: OfPerson,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the keys
    List,
    /// Add a public key
    Add(AddArguments),
    /// Remove a key; what is held open with it ends
    Remove(RemoveArguments),
}

#[derive(Debug, clap::Args)]
struct AddArguments {
    /// The .pub file; `-` reads it from stdin
    file: PathBuf,
    /// What it is called; else its comment
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RemoveArguments {
    /// Its fingerprint (SHA256:…), name or id
    key: String,
}

pub async fn run(context: &Context<'_>, arguments: Key) -> Result<Exit, Failure> {
    let (client, person) = (context.client()?, arguments.of.person.as_str());
    let keys = ["people", person, "keys"];
    match arguments.command {
        Command::List => {
            let answer = client.get(&keys, &Query::new()).await?;
            context.show(answer, |printer, all: Vec<KeyInfo>| {
                let now = Timestamp::now();
                let rows = all.into_iter().map(|one| {
                    let used = human::last(one.last_used, now);
                    [one.name, one.algorithm, one.fingerprint, used]
                });
                table::print(printer, ["NAME", "ALGORITHM", "FINGERPRINT", "USED"], rows);
            })
        }
        Command::Add(AddArguments { file, name }) => {
            let text = if file.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("stdin is not text")?;
                text
            } else {
                std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?
            };
            // Before it leaves this machine.
            if text.contains("PRIVATE KEY") {
                return Err(Failure::usage(format!("{} is a private key", file.display()))
                    .hint(format!("nothing was sent; the public half is {}.pub", file.display())));
            }
            let added: KeyInfo = client.post(&keys, &AddKey { key: text, name }).await?;
            context.done(&added);
            context.printer.note(format!("added the key {} ({})", added.name, added.fingerprint));
            Ok(Exit::Done)
        }
        Command::Remove(RemoveArguments { key }) => {
            let all: Vec<KeyInfo> = client.get(&keys, &Query::new()).await?;
            let is_it = |one: &KeyInfo| one.fingerprint == key || one.name == key || one.id.to_string() == key;
            let one = the_one(&all, is_it, ("key", &key), "fingerprint")?;
            let path = ["people", person, "keys", &one.id.to_string()];
            let what: Ended = client.delete_for(&path, &Query::new()).await?;
            context.done(&what);
            ended::tell(context, &format!("removed the key {} ({})", one.name, one.fingerprint), &what);
            Ok(Exit::Done)
        }
    }
}
