//! Somebody with a key and OpenSSH's own clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Ended, Lab, run};

/// A key, and what its owner knows of the gateway.
pub struct Ssh {
    lab: Lab,
    folder: tempfile::TempDir,
    pub host: String,
    pub port: String,
}

impl Ssh {
    /// The administrator's, with a new key.
    pub fn new(lab: &Lab) -> Ssh {
        let ssh = Ssh::stranger(lab);
        lab.td(ssh.folder.path(), &["key", "add", "key.pub", "--name", &ssh.name()]).ok();
        ssh
    }

    /// Somebody whose key nobody knows.
    pub fn stranger(lab: &Lab) -> Ssh {
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("key"), &["-t", "ed25519"]);
        let gateway = lab.td(folder.path(), &["gateway", "--json"]).ok().json();
        let known = lab.td(folder.path(), &["gateway", "--known-hosts"]).ok().stdout;
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        let host = gateway["ssh"]["host"].as_str().unwrap().to_owned();
        Ssh { lab: lab.clone(), folder, host, port: gateway["ssh"]["port"].to_string() }
    }

    /// A name for the key that no other has.
    fn name(&self) -> String {
        self.folder.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn key(&self) -> PathBuf {
        self.path().join("key")
    }

    /// Takes the key away from its owner; what was opened with it ends.
    pub fn revoke(&self) -> Ended {
        self.lab.td(self.path(), &["key", "remove", &self.name()])
    }

    /// Options without which the clients would look at files of whoever runs the test.
    pub fn options(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.path().join("known_hosts").display());
        let key = format!("IdentityFile={}", self.key().display());
        let port = format!("Port={}", self.port);
        let all =
            ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR", &known, &key, &port];
        let options = all.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
        ["-F".to_owned(), "none".to_owned()].into_iter().chain(options).collect()
    }

    /// One of OpenSSH's clients with these options.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options()).env_remove("SSH_AUTH_SOCK").current_dir(self.path());
        command
    }

    /// `ssh USER@gateway ARGS`, not yet started.
    pub fn ssh(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.client("ssh");
        // What follows the destination is the command, so options of the test's own come first.
        let (options, rest): (Vec<_>, Vec<_>) = split(args);
        command.args(options).arg(format!("{user}@{}", self.host)).args(rest);
        command
    }

    pub fn run(&self, user: &str, args: &[&str]) -> Ended {
        run(&mut self.ssh(user, args))
    }

    /// Runs sftp's commands, one per line.
    pub fn sftp(&self, user: &str, batch: &str) -> Ended {
        let file = self.path().join("batch");
        std::fs::write(&file, batch).unwrap();
        run(self.client("sftp").arg("-b").arg(file).arg(format!("{user}@{}", self.host)))
    }

    /// For git.
    pub fn git_ssh_command(&self) -> String {
        format!("ssh {}", self.options().join(" "))
    }

    /// What a program says that is fed something.
    pub fn feed(&self, user: &str, args: &[&str], input: &[u8]) -> Ended {
        use std::io::Write;
        let mut command = self.ssh(user, args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let feeding = std::thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.revoke();
    }
}

/// A new key without a passphrase.
pub fn make_key(path: &Path, kind: &[&str]) {
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "test", "-f"]).arg(path).args(kind)).ok();
}

/// Options before `--`, the command after it; without one, all is the command.
fn split<'a>(args: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    match args.iter().position(|arg| *arg == "--") {
        Some(at) => (args[..at].to_vec(), args[at + 1..].to_vec()),
        None => (Vec::new(), args.to_vec()),
    }
}
