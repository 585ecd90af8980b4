//! Proves an SSH key with OpenSSH's own `ssh-keygen -Y sign`: it knows agents, passphrases and hardware keys.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use magrathea_core::api::LOGIN_NAMESPACE;

use crate::exit::{Exit, Failure};
use crate::settings;

/// A key that could sign.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// In the OpenSSH form.
    pub public: String,
    /// Where it lies; an agent's keys have no file.
    file: Option<PathBuf>,
}

/// The key that was named; else the agent's, then those in ~/.ssh.
pub fn candidates(named: Option<&Path>) -> Result<Vec<Candidate>, Failure> {
    if let Some(path) = named {
        return Ok(vec![read(path)?]);
    }
    let mut found: Vec<Candidate> = Vec::new();
    if let Ok(listed) = Command::new("ssh-add").arg("-L").stdin(Stdio::null()).output()
        && listed.status.success()
    {
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        found.extend(text.lines().map(|line| Candidate { public: line.to_owned(), file: None }));
    }
    if let Some(folder) = settings::home().map(|home| home.join(".ssh")) {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "pub")) {
            let same = |a: &str, b: &str| a.split(' ').nth(1) == b.split(' ').nth(1);
            if let Ok(key) = read(path)
                && !found.iter().any(|known| same(&known.public, &key.public))
            {
                found.push(key);
            }
        }
    }
    found.truncate(64);
    if found.is_empty() {
        return Err(Failure::say(
            Exit::NotAllowed,
            "there is no SSH key: no agent has one, and ~/.ssh has no .pub file",
        )
        .hint("make one with `ssh-keygen -t ed25519`, or name one with --key FILE"));
    }
    Ok(found)
}

/// A key by the path of either of its halves.
fn read(path: &Path) -> Result<Candidate, Failure> {
    let is_public = path.extension().is_some_and(|e| e == "pub");
    let public = if is_public { path.to_owned() } else { PathBuf::from(format!("{}.pub", path.display())) };
    let text = std::fs::read_to_string(&public).with_context(|| format!("{} cannot be read", public.display()))?;
    let private = path.with_extension("");
    let file = if is_public && private.is_file() { private } else { path.to_owned() };
    Ok(Candidate { public: text.trim().to_owned(), file: Some(file) })
}

/// Signs a message. May ask for a passphrase or a touch, on the terminal.
pub fn sign(key: &Candidate, message: &str) -> Result<String, Failure> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let file = match &key.file {
        Some(file) => file.clone(),
        None => {
            let file = folder.path().join("key.pub");
            std::fs::write(&file, &key.public).context("the temporary folder cannot be written to")?;
            file
        }
    };
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", LOGIN_NAMESPACE, "-f"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| {
            Failure::new(Exit::NotAllowed, anyhow::Error::from(error).context("ssh-keygen cannot be started"))
                .hint("td signs with OpenSSH 8.1 or newer; install it (Debian: openssh-client)")
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A signer that ended early tells why on stderr.
        let _ = stdin.write_all(message.as_bytes());
    }
    let done = child.wait_with_output().context("ssh-keygen was lost")?;
    let signature = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() || signature.is_empty() {
        return Err(Failure::say(Exit::NotAllowed, "the key did not sign")
            .hint("is it in your agent (ssh-add), or its private half beside the .pub file?"));
    }
    Ok(signature)
}
