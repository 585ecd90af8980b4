//! `td quota …`: how much traffic may be taken in a month.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use magrathea_core::api::{QuotaInfo, SetQuota};
use magrathea_core::usage::{Then, describe_traffic, parse_traffic};
use serde_json::json;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List traffic quotas and how much of them this month has used
    List,
    /// Set the traffic that an app, or an organisation, may take in a month
    #[command(after_help = "Counted is what visitors send and are sent; 1 GB is 10^9 bytes.")]
    Set(SetArguments),
    /// Take a quota away
    Unset(Whose),
}

#[derive(Debug, clap::Args)]
pub struct Whose {
    /// The app; as --app
    #[arg(value_name = "APP")]
    name: Option<String>,
    /// All apps of this organisation together
    #[arg(long, value_name = "ORGANISATION", conflicts_with = "name")]
    org: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct SetArguments {
    #[command(flatten)]
    whose: Whose,
    /// As in 100GB or 1.5TB
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    traffic: String,
    /// What follows when it is used up, beside a line on the timeline: nothing, slow answers, or a page
    #[arg(long, value_name = "WHAT", default_value = "warn", value_parser = then())]
    then: Then,
}

impl Whose {
    /// An app or an organisation; the working folder names none, as with roles.
    fn named(self, context: &Context<'_>) -> Result<(Option<String>, Option<String>), Failure> {
        if context.globals.label.is_some() {
            return Err(Failure::usage("labels have no quota of traffic").hint("set it for the whole app"));
        }
        let app = self.name.or_else(|| context.globals.app.clone());
        match self.org {
            Some(org) => Ok((None, Some(org))),
            None if app.is_some() => Ok((app, None)),
            None => Err(Failure::usage("of what?").hint("say APP or --org ORGANISATION")),
        }
    }
}

fn then() -> impl TypedValueParser<Value = Then> {
    PossibleValuesParser::new(Then::ALL.map(Then::as_str)).try_map(|text| text.parse::<Then>())
}

fn amount(text: &str) -> Result<String, String> {
    parse_traffic(text).map(|_| text.to_owned())
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    let client = context.client()?;
    match command {
        Command::List => {
            let answer = client.get(&["quotas"], &Query::new()).await?;
            context.show(answer, |printer, all: Vec<QuotaInfo>| {
                let rows = all.into_iter().map(|quota| {
                    let used = format!("{} ({} %)", describe_traffic(quota.used), quota.percent);
                    let app = quota.app.unwrap_or_else(|| "(all)".to_owned());
                    let then = quota.then.as_str().to_owned();
                    [quota.organisation, app, describe_traffic(quota.traffic), then, used, quota.set_by]
                });
                table::print(printer, ["ORGANISATION", "APP", "TRAFFIC", "THEN", "THIS MONTH", "SET BY"], rows);
            })
        }
        Command::Set(SetArguments { whose, traffic, then }) => {
            let (app, organisation) = whose.named(context)?;
            let body = SetQuota { app, organisation, traffic, then };
            let set: QuotaInfo = client.put(&["quotas"], &body).await?;
            context.done(&set);
            context.printer.note(format!("{}: this month took {set}", set.whose()));
            Ok(Exit::Done)
        }
        Command::Unset(whose) => {
            let (app, organisation) = whose.named(context)?;
            let mut query = Query::new();
            query.extend(app.iter().map(|app| ("app".to_owned(), app.clone())));
            query.extend(organisation.iter().map(|organisation| ("organisation".to_owned(), organisation.clone())));
            client.delete(&["quotas"], &query).await?;
            let whose = app.or(organisation).unwrap_or_default();
            context.done(&json!({"unset": whose}));
            context.printer.note(format!("traffic of {whose} is not limited any more"));
            Ok(Exit::Done)
        }
    }
}
