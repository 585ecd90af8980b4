//! `td config set`. A value that is not on the command line stays out of the shell's history and of `ps`.

use std::io::Read;

use anyhow::Context as _;

use super::change::{Changes, Staging, change};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// `KEY=VALUE`, or `KEY` alone: its value is asked for, or read from stdin
    #[arg(required = true, value_name = "KEY[=VALUE]")]
    entries: Vec<String>,
    #[command(flatten)]
    staging: Staging,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let asked = arguments.entries.iter().filter(|entry| !entry.contains('=')).count();
    if asked > 1 && !settings::can_ask() {
        return Err(Failure::usage("stdin holds the value of one key only").hint("set the others one by one"));
    }
    let mut values = Changes::new();
    for entry in &arguments.entries {
        let (key, value) = match entry.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => (entry.as_str(), read_value(context, entry)?),
        };
        check_key(key)?;
        values.insert(key.to_owned(), Some(value));
    }
    change(context, values, arguments.staging).await
}

fn check_key(key: &str) -> Result<(), Failure> {
    let first = key.chars().next().is_some_and(|c| c.is_ascii_uppercase() || c == '_');
    if first && key.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
        return Ok(());
    }
    Err(Failure::usage(format!("{key:?} is not a key"))
        .hint("a key is what the app's environment calls it: upper-case letters, digits and _, as in SMTP_PASSWORD"))
}

fn read_value(context: &Context<'_>, key: &str) -> Result<String, Failure> {
    if settings::can_ask() {
        context.printer.question(&format!("{key}:"));
        return Ok(console::Term::stderr().read_secure_line().context("the value was not read")?);
    }
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).context("stdin is not text")?;
    // `echo` and here-documents end with a line end that nobody means.
    let end = value.strip_suffix('\n').map_or(value.len(), |value| value.strip_suffix('\r').unwrap_or(value).len());
    value.truncate(end);
    Ok(value)
}
