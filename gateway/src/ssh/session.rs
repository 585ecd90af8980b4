//! A session channel: what the client prepares, what it then asks for, and the work.

use std::collections::BTreeMap;
use std::sync::Arc;

use magrathea_core::api::SshInfo;
use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::Verb;
use magrathea_core::wire::{Size, Tty};

use super::bridge::{End, carry};
use super::connection::Connection;
use super::inbox::{GIT_PROTOCOL, Inbox, Incoming};
use super::output::Output;
use super::target::{Misunderstood, Request, Start, Target, parse_request};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances;
use crate::git::{self, GitIo, GitRequest};
use crate::remote::{self, ShellRequest};
use crate::services::access::{InstanceName, Reach, find_app, require};
use crate::state::State;

/// What a client may set before it asks for something.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Setting {
    terminal: Option<Tty>,
    variables: BTreeMap<String, String>,
}

/// Serves one channel to its end.
pub async fn serve(connection: Arc<Connection>, mut inbox: Inbox, mut output: Output) {
    let Some((setting, start)) = prepare(&mut inbox).await else { return };
    let ending = output.ending();
    output.raw = setting.terminal.is_some();
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
fn terminal(term: &str, cols: u32, rows: u32) -> Tty {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-+._".contains(&b);
    let known = (1..=64).contains(&term.len()) && term.bytes().all(harmless);
    let size = Size { cols: small(cols), rows: small(rows) };
    Tty { term: if known { term.to_owned() } else { "dumb".to_owned() }, size }
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
    let state = &connection.state;
    let opened = match request {
        Request::Greeting => return greet(connection, actor, &mut output).await,
        Request::Git(command) => return git(state, actor, &command, setting, inbox, output).await,
        Request::Shell { at, command } => match find_name(state, actor, at).await {
            Ok(name) => {
                let (tty, env) = (setting.terminal, locale(setting.variables));
                let request = ShellRequest { command, tty, env, replica: None, process: None };
                remote::shell(state, actor, &name, request).await
            }
            Err(error) => Err(error),
        },
        Request::Files { at, program } => match find_name(state, actor, at).await {
            Ok(name) => remote::files(state, actor, &name, program).await,
            Err(error) => Err(error),
        },
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => return refused(&mut output, &error).await,
    };
    match carry(stream, inbox, &mut output).await {
        End::Exit(code) => code,
        End::Failed(why) => {
            output.say(&format!("error: {why}\n")).await;
            EXIT_FAILED
        }
        End::Left => EXIT_FAILED,
    }
}

/// What the program hears of the person's language.
fn locale(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables.remove(GIT_PROTOCOL);
    variables
}

async fn git(
    state: &Arc<State>,
    actor: &Actor,
    command: &str,
    setting: Setting,
    inbox: Inbox,
    mut output: Output,
) -> i32 {
    let request = match GitRequest::parse(command) {
        Ok(request) => request.with_protocol(setting.variables.get(GIT_PROTOCOL).map(String::as_str)),
        Err(error) => {
            output.say(&format!("error: {error}\n")).await;
            return EXIT_USAGE;
        }
    };
    let gone = inbox.gone.clone();
    let (stdout, stderr) = (Box::new(output.stdout), Box::new(output.stderr));
    let io = GitIo { stdin: Box::new(inbox.into_reader()), stdout, stderr, gone };
    git::serve(state, actor, request, io).await.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), command, "git over SSH failed");
        EXIT_FAILED
    })
}

/// The instance that is meant: of the only label that the person sees, when they did not say.
pub async fn find_name(state: &State, actor: &Actor, at: Target) -> Result<InstanceName, ApiError> {
    let Target { app, label, cluster } = at;
    let label = match label {
        Some(label) => label,
        None => find_label(state, actor, &app).await?,
    };
    Ok(InstanceName { app, label, cluster })
}

async fn find_label(state: &State, actor: &Actor, name: &AppName) -> Result<LabelName, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, actor, name, Verb::Look, Reach::Some).await?;
    let mut labels: Vec<_> = instances::list_app_instances(&conn, app.id).await?.into_iter().map(|i| i.label).collect();
    labels.retain(|label| require(actor, &app, Verb::Look, Reach::Label(label)).is_ok());
    labels.dedup();
    match labels.as_slice() {
        [label] => Ok(label.clone()),
        [] => Err(ApiError::new(Code::InstanceNotFound, format!("{name} has no instance yet"))
            .with_hint("deploy it: td app deploy")),
        several => {
            let names: Vec<_> = several.iter().map(LabelName::as_str).collect();
            let message = format!("{name} has several instances: {}", names.join(", "));
            Err(ApiError::new(Code::LabelUnknown, message).with_hint(format!("log in as {name}.LABEL")))
        }
    }
}

async fn greet(connection: &Connection, actor: &Actor, output: &mut Output) -> i32 {
    let endpoint = &connection.state.ssh;
    let ssh = SshInfo { host: endpoint.host.clone(), port: endpoint.port, host_key: String::new() };
    let (git, other) = (ssh.url("git"), ssh.url("APP.LABEL"));
    let name = &actor.name;
    let text = format!(
        "Hello {name}, your key works. Nothing runs here; with what you may do:\n\
         \x20 git clone {git}/APP.git\n\
         \x20 ssh {other}\n\
         \x20 sftp {other}\n"
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
            assert_eq!((made.term.as_str(), made.size.cols, made.size.rows), expect);
        }
    }
}
