//! The hook's side: what `git receive-pack` runs before references move. It takes git's question to the gateway, shows what
//! the gateway says, and ends with the gateway's verdict. It decides nothing; whatever goes wrong is a refusal.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::limits;
use crate::config::Hook;

/// What the hook begins with; git's own lines follow, then an empty one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Proves which push it is.
    pub push: String,
    /// Where the new objects wait; none when nothing new came.
    pub quarantine: Option<String>,
}

/// What the gateway answers, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Say(String),
    /// The last line: whether the push is accepted.
    Verdict(bool),
}

/// A gateway that is silent for so long does not decide any more. It says something every few seconds at least.
const SILENCE: Duration = Duration::from_secs(120);

/// Runs the hook. What it says goes to the client as `remote: …`.
pub fn run(options: &Hook) -> ExitCode {
    let mut said = std::io::stderr();
    match ask(options, &mut std::io::stdin().lock(), &mut said) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(said, "error: the gateway does not answer: {error:#}");
            let _ = writeln!(said, "hint: nothing has changed in the repository; push again");
            ExitCode::FAILURE
        }
    }
}

fn ask(options: &Hook, updates: &mut impl Read, said: &mut impl Write) -> anyhow::Result<bool> {
    let mut lines = String::new();
    updates.take(limits::UPDATE_BYTES + 1).read_to_string(&mut lines).context("git's list of updates")?;
    let mut stream = connect(&options.socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let quarantine = options.quarantine.as_ref().map(|path| path.display().to_string());
    let mut question = serde_json::to_string(&Hello { push: options.push.clone(), quarantine })?;
    question.push('\n');
    question.push_str(&lines);
    question.push('\n');
    stream.write_all(question.as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("the verdict")?;
        match serde_json::from_str(&line).context("the gateway's answer")? {
            // Nobody may be left to read it; the verdict counts all the same.
            // The gateway only shows that it is there.
            Answer::Say(text) if text.is_empty() => {}
            Answer::Say(text) => drop(writeln!(said, "{text}")),
            Answer::Verdict(accepted) => return Ok(accepted),
        }
    }
    anyhow::bail!("it ended before it had decided")
}

/// Connects from inside the socket's folder: a socket's path may have 107 bytes only.
fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    if let Some(folder) = socket.parent() {
        std::env::set_current_dir(folder).with_context(|| format!("cannot enter {}", folder.display()))?;
    }
    let name = socket.file_name().context("the socket has no name")?;
    UnixStream::connect(name).with_context(|| format!("cannot connect to {}", socket.display()))
}
