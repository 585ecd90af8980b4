//! What td reads from its surroundings: environment variables that are no options, terminals, and the credentials.
//! The only file that reads either.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use magrathea_core::api::Credentials;

use crate::cli::Globals;
use crate::exit::{Exit, Failure};

/// The file in the configuration folder.
const CREDENTIALS: &str = "credentials.json";

#[expect(clippy::disallowed_methods, reason = "this is td's configuration module")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What stdout and stderr can show.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    pub stdout_colour: bool,
    pub stderr_colour: bool,
    /// Whether stderr is a terminal that can be redrawn.
    pub stderr_live: bool,
}

impl Terminal {
    /// NO_COLOR, CLICOLOR and CLICOLOR_FORCE as their conventions have them.
    pub fn read() -> Self {
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let dumb = variable("TERM").is_some_and(|value| value == "dumb");
        let off = variable("NO_COLOR").is_some() || variable("CLICOLOR").is_some_and(|value| value == "0");
        let colour = |terminal: bool| !off && (forced || terminal && !dumb);
        Terminal {
            stdout_colour: colour(std::io::stdout().is_terminal()),
            stderr_colour: colour(std::io::stderr().is_terminal()),
            stderr_live: std::io::stderr().is_terminal() && !dumb,
        }
    }
}

/// The terminal's kind, as in `xterm-256color`.
pub fn terminal_kind() -> String {
    variable("TERM").unwrap_or_else(|| "xterm".into())
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether a browser could be shown.
pub fn has_display() -> bool {
    std::io::stdout().is_terminal() && (variable("DISPLAY").is_some() || variable("WAYLAND_DISPLAY").is_some())
}

/// The person's own folder.
pub fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

/// What the person edits texts with.
pub fn editor() -> String {
    variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".to_owned())
}

/// What a session made here is called, as in `ana@laptop`.
pub fn here() -> String {
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", if host.trim().is_empty() { "somewhere" } else { host.trim() })
}

/// The credentials that are stored, whatever the environment says.
pub fn stored_credentials(globals: &Globals) -> Result<Option<Credentials>, Failure> {
    read_credentials(&config_dir(globals)?.join(CREDENTIALS))
}

/// Stores credentials for this person alone; the file is whole at any moment.
pub fn store_credentials(globals: &Globals, credentials: &Credentials) -> Result<(), Failure> {
    let folder = config_dir(globals)?;
    let unwritable = || format!("{} cannot be written to", folder.display());
    std::fs::create_dir_all(&folder).with_context(unwritable)?;
    let text = serde_json::to_string_pretty(credentials).context("credentials")?;
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(&folder).with_context(unwritable)?;
    file.write_all(format!("{text}\n").as_bytes()).with_context(unwritable)?;
    file.persist(folder.join(CREDENTIALS)).with_context(unwritable)?;
    Ok(())
}

/// Forgets the token; which gateway it was stays known.
pub fn forget_token(globals: &Globals) -> Result<(), Failure> {
    match stored_credentials(globals)? {
        Some(stored) => store_credentials(globals, &Credentials { token: String::new(), ..stored }),
        None => Ok(()),
    }
}

/// The credentials to use: the file's, with what `--gateway`, TD_TOKEN and TD_CA say instead.
pub fn load_credentials(globals: &Globals) -> Result<Credentials, Failure> {
    let folder = config_dir(globals)?;
    let path = folder.join(CREDENTIALS);
    let stored = read_credentials(&path)?;
    let token = variable("TD_TOKEN").or_else(|| stored.as_ref().map(|c| c.token.clone()));
    let gateway = globals.gateway.clone().or_else(|| stored.as_ref().map(|c| c.gateway.clone()));
    let ca = match variable("TD_CA") {
        Some(file) => Some(std::fs::read_to_string(&file).with_context(|| format!("TD_CA: {file} cannot be read"))?),
        None => stored.map(|c| c.ca),
    };
    match (gateway, token.filter(|token| !token.is_empty()), ca) {
        (Some(gateway), Some(token), Some(ca)) => Ok(Credentials { gateway, token, ca }),
        _ => Err(Failure::say(Exit::NotAllowed, format!("no credentials in {}", path.display())).hint(
            "log in with `td login https://GATEWAY:7443`, or `td join INVITATION`; programs set TD_GATEWAY, TD_TOKEN \
             and TD_CA",
        )),
    }
}

fn read_credentials(path: &Path) -> Result<Option<Credentials>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("{} cannot be read", path.display()));
            return Err(Failure::new(Exit::NotAllowed, error));
        }
    };
    let credentials = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a credentials file", path.display()))
        .map_err(|error| Failure::new(Exit::NotAllowed, error))?;
    Ok(Some(credentials))
}

/// Where OpenSSH keeps what it knows of hosts.
pub fn ssh_folder() -> Result<PathBuf, Failure> {
    let home = variable("HOME").ok_or_else(|| Failure::usage("HOME does not say where OpenSSH keeps its keys"))?;
    Ok(Path::new(&home).join(".ssh"))
}

/// The folder of the credentials.
pub fn config_dir(globals: &Globals) -> Result<PathBuf, Failure> {
    if let Some(folder) = globals.config_dir.as_ref().filter(|folder| !folder.as_os_str().is_empty()) {
        return Ok(folder.clone());
    }
    let base = match (variable("XDG_CONFIG_HOME"), variable("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(&home).join(".config"),
        (None, None) => return Err(Failure::usage("neither --config-dir nor HOME says where the credentials lie")),
    };
    Ok(base.join("magrathea"))
}
