//! `td release info`.

use jiff::Timestamp;
use magrathea_core::api::Release;

use super::Number;
use super::list::describe_state;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::printer::{Printer, clean};
use crate::table::or_dash;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The release; the one that serves when absent
    #[arg(value_name = "RELEASE")]
    release: Option<Number>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let number = match arguments.release {
        Some(Number(number)) => number,
        None => super::rollback::serving(&client, &place).await?,
    };
    let path = ["apps", &place.app, "instances", &place.label, "releases", &number.0.to_string()];
    let answer = client.get(&path, &place.query()).await?;
    context.show(answer, render)
}

fn render(printer: &Printer, release: Release) {
    let now = Timestamp::now();
    let info = &release.release;
    printer.data(format!("release   {} of label {} on {}", info.number, release.label, release.cluster));
    printer.data(format!("state     {}", describe_state(&release)));
    printer.data(format!("made      {} ago by {}", human::age(info.created, now), or_dash(release.person.as_deref())));
    if let Some(served) = release.served {
        printer.data(format!("served    since {} ago", human::age(served, now)));
    }
    printer.data(format!("commit    {}", or_dash(info.commit.as_deref())));
    printer.data(format!("author    {}", clean(&or_dash(info.author.as_deref()))));
    printer.data(format!("message   {}", clean(&or_dash(info.message.as_deref()))));
    printer.data(format!("image     {}", info.image));
    printer.data(format!("size      {}", human::size(info.size)));
    printer.data(format!("config    version {}", release.config_version));
}
