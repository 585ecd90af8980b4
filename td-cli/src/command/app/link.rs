//! `td app link`: the git remote that `git push` deploys to.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use magrathea_core::api::{AppInfo, GatewayInfo};
use magrathea_core::names::AppName;
use serde_json::json;

use super::Named;
use crate::client::{Client, Query};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings;
use crate::source::git::command;

/// The remote's usual name.
pub const REMOTE: &str = "magrathea";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    named: Named,
    /// What git calls the remote
    #[arg(long, value_name = "NAME", default_value = REMOTE)]
    remote: String,
    /// Push over HTTPS with td's token, rather than over SSH with your key
    #[arg(long)]
    https: bool,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(arguments.named.name.as_deref())?;
    let client = context.client()?;
    let _: AppInfo = client.get(&["apps", app.as_str()], &Query::new()).await?;
    let folder = context.globals.folder.as_path();
    if !is_repository(folder) {
        return Err(Failure::say(Exit::Failed, "this folder is in no git repository").hint("git init makes one"));
    }
    let remote = Remote { name: &arguments.remote, https: arguments.https };
    let url = link(context, &client, &app, remote).await?;
    context.done(&json!({"remote": arguments.remote, "url": url}));
    if !context.globals.json {
        context.printer.data(&url);
    }
    context.printer.note(format!("deploy with: git push {} main", arguments.remote));
    Ok(Exit::Done)
}

/// The remote that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    pub name: &'a str,
    pub https: bool,
}

/// Whether the folder is in a git repository.
pub fn is_repository(folder: &Path) -> bool {
    command(folder).args(["rev-parse", "--git-dir"]).output().is_ok_and(|output| output.status.success())
}

/// Whether the repository has a remote of this name.
pub fn has_remote(folder: &Path, name: &str) -> bool {
    git(folder, &["config", "--get", &format!("remote.{name}.url")]).is_ok()
}

/// Sets the app's remote, and what git needs to trust it; the URL.
pub async fn link(
    context: &Context<'_>,
    client: &Client,
    app: &AppName,
    remote: Remote<'_>,
) -> Result<String, Failure> {
    let folder = context.globals.folder.as_path();
    let url = if remote.https {
        let gateway = set_https(context, folder)?;
        format!("{gateway}/git/{app}.git")
    } else {
        let info: GatewayInfo = client.get(&["gateway"], &Query::new()).await?;
        let known = settings::ssh_folder()?;
        if trust(&known, &info.ssh.known_hosts_line())
            .with_context(|| format!("{} cannot be written", known.display()))?
        {
            context.printer.note(format!("the gateway's SSH key is in {}", known.join(KNOWN_HOSTS).display()));
        }
        format!("{}/{app}.git", info.ssh.url("git"))
    };
    let key = format!("remote.{}.url", remote.name);
    match git(folder, &["config", "--get", &key]) {
        Ok(before) if before == url => {}
        Ok(before) => {
            git(folder, &["remote", "set-url", remote.name, &url])?;
            context.printer.note(format!("the remote {} was {before}", remote.name));
        }
        Err(_) => {
            git(folder, &["remote", "add", remote.name, &url])?;
        }
    }
    Ok(url)
}

/// Makes git trust the gateway's CA and ask td for the token, for this gateway alone; the gateway's address.
fn set_https(context: &Context<'_>, folder: &Path) -> Result<String, Failure> {
    let credentials = settings::load_credentials(&context.globals)?;
    let gateway = credentials.gateway.trim_end_matches('/').to_owned();
    let config = settings::config_dir(&context.globals)?;
    std::fs::create_dir_all(&config).with_context(|| format!("{} cannot be made", config.display()))?;
    let config = config.canonicalize()?;
    let ca = config.join("gateway-ca.pem");
    std::fs::write(&ca, &credentials.ca).with_context(|| format!("{} cannot be written", ca.display()))?;
    let td = std::env::current_exe().context("td does not find itself")?;
    let helper = format!("!{} --config-dir {} git-credential", quote(&td), quote(&config));
    let key = format!("credential.{gateway}.helper");
    git(folder, &["config", "--local", &format!("http.{gateway}/.sslCAInfo"), &ca.display().to_string()])?;
    // An empty helper first: nobody else is asked, and nobody else is given the token to keep.
    git(folder, &["config", "--local", "--replace-all", &key, ""])?;
    git(folder, &["config", "--local", "--add", &key, &helper])?;
    Ok(gateway)
}

const KNOWN_HOSTS: &str = "known_hosts";

/// Adds a line to known_hosts unless it is there; whether it was added. The key came over TLS, from the gateway itself.
fn trust(folder: &Path, line: &str) -> std::io::Result<bool> {
    let path = folder.join(KNOWN_HOSTS);
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if before.lines().any(|known| known.trim() == line) {
        return Ok(false);
    }
    if !folder.exists() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    }
    let start = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let mut file = std::fs::File::options().append(true).create(true).open(&path)?;
    file.write_all(format!("{start}{line}\n").as_bytes())?;
    Ok(true)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let output = command(folder).args(arguments).output().context("git cannot be started")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(Failure::say(Exit::Failed, format!("git {}: {said}", arguments.first().unwrap_or(&""))))
}

/// A word for the shell.
fn quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
