//! A session channel: what the client prepares, what it then asks for, and the work.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connection::Connection;
use super::inbox::{Inbox, Incoming};
use super::output::Output;
use super::target::{Misunderstood, Request, Start, parse_request};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};

/// What a client may set before it asks for something.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Setting {
    pub terminal: Option<Terminal>,
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    pub term: String,
    pub cols: u16,
    pub rows: u16,
}

/// Serves one channel to its end.
pub async fn serve(connection: Arc<Connection>, mut inbox: Inbox, mut output: Output) {
    let Some((setting, start)) = prepare(&mut inbox).await else { return };
    let ending = output.ending();
    let Some(login) = connection.login() else { return };
    let code = match connection.actor().await {
        Ok(Some(actor)) => match parse_request(&login.user, start) {
            Ok(request) => work(&connection, &actor, request, setting, inbox, output).await,
            Err(error) => misunderstood(&mut output, &error).await,
        },
        Ok(None) => {
            output.say("error: this key is not accepted any more\n").await;
            ending.exit(EXIT_REFUSED).await;
            return connection.end.cancel();
        }
        Err(error) => refused(&mut output, &error).await,
    };
    ending.exit(code).await;
}

/// td's exit codes for the same.
const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
const EXIT_REFUSED: i32 = 5;

async fn prepare(inbox: &mut Inbox) -> Option<(Setting, Start)> {
    let mut setting = Setting::default();
    loop {
        match inbox.next().await? {
            Incoming::Terminal { term, cols, rows } => setting.terminal = Some(terminal(&term, cols, rows)),
            Incoming::Variable { name, value } => {
                setting.variables.insert(name, value);
            }
            Incoming::Start(start) => return Some((setting, start)),
            _ => {}
        }
    }
}

/// Nothing but a harmless name reaches a program as `TERM`.
fn terminal(term: &str, cols: u32, rows: u32) -> Terminal {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-+._".contains(&b);
    let known = (1..=64).contains(&term.len()) && term.bytes().all(harmless);
    Terminal { term: if known { term.to_owned() } else { "dumb".to_owned() }, cols: small(cols), rows: small(rows) }
}

/// A terminal's width or height.
pub fn small(characters: u32) -> u16 {
    u16::try_from(characters).unwrap_or(u16::MAX)
}

async fn work(
    connection: &Connection,
    actor: &Actor,
    request: Request,
    setting: Setting,
    inbox: Inbox,
    mut output: Output,
) -> i32 {
    let _ = (connection, setting, inbox);
    match request {
        Request::Greeting => greet(actor, &mut output).await,
        Request::Git(_) | Request::Shell { .. } | Request::Files { .. } => {
            output.say("error: this is not there yet\n").await;
            EXIT_FAILED
        }
    }
}

async fn greet(actor: &Actor, output: &mut Output) -> i32 {
    let name = &actor.name;
    let text = format!(
        "Hello {name}, your key works. There is nothing to see here; what you can do:\n\
         \x20 git clone ssh://git@HOST:PORT/APP.git   the source of an app\n\
         \x20 ssh APP.LABEL@HOST                      a shell in an instance\n\
         \x20 sftp APP.LABEL@HOST                     its files\n"
    );
    output.say(&text).await;
    0
}

async fn misunderstood(output: &mut Output, error: &Misunderstood) -> i32 {
    output.say(&format!("error: {error}\nhint: {}\n", error.hint)).await;
    EXIT_USAGE
}

/// Tells why something was refused, in the words of the API.
pub async fn refused(output: &mut Output, error: &ApiError) -> i32 {
    if let Some(cause) = &error.cause {
        tracing::warn!(cause = format!("{cause:#}"), "an SSH request failed");
    }
    let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    output.say(&format!("error: {error}\n{hint}")).await;
    if matches!(error.code, Code::Forbidden | Code::Unauthenticated) { EXIT_REFUSED } else { EXIT_FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_made_harmless() {
        for (given, expect) in [
            (("xterm-256color", 80, 24), ("xterm-256color", 80, 24)),
            (("a\nb", 80, 24), ("dumb", 80, 24)),
            (("", 70_000, u32::MAX), ("dumb", u16::MAX, u16::MAX)),
        ] {
            let made = terminal(given.0, given.1, given.2);
            assert_eq!((made.term.as_str(), made.cols, made.rows), expect);
        }
    }
}
