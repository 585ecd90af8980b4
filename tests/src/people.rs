//! Client organisations and people of theirs, each with a key and a session of their own; taken away when the test ends.

use std::path::Path;
use std::process::Command;

use crate::{Ended, Lab, run};

/// An organisation.
pub struct Organisation {
    pub lab: Lab,
    pub name: String,
}

impl Organisation {
    /// An organisation without people. The name must be the test's own.
    pub fn new(lab: &Lab, name: &str) -> Organisation {
        let organisation = Organisation { lab: lab.clone(), name: name.into() };
        organisation.remove();
        lab.td(&lab.home, &["org", "create", name]).ok();
        organisation
    }

    /// Somebody who has joined, with roles as `td person invite` takes them.
    pub fn person(&self, name: &str, roles: &[&str]) -> Person {
        let args = [&["person", "invite", name, "--org", &self.name, "--quiet"], roles].concat();
        let invited = self.lab.td(&self.lab.home, &args).ok();
        let person = Person { lab: self.lab.clone(), name: name.into(), folder: tempfile::tempdir().unwrap() };
        let key = person.path().join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key)).ok();
        let words: Vec<&str> = invited.stdout.split_whitespace().skip(1).collect();
        person.td(&[&words, &["--key", "key"][..]].concat()).ok();
        person
    }

    fn remove(&self) {
        let listed = self.lab.td(&self.lab.home, &["app", "list", "--json"]);
        for app in listed.json().as_array().into_iter().flatten().filter(|app| app["organisation"] == *self.name) {
            let name = app["name"].as_str().unwrap();
            let confirm = format!("{name},production");
            self.lab.td(&self.lab.home, &["app", "destroy", "--app", name, "--confirm", &confirm]);
        }
        self.lab.td(&self.lab.home, &["org", "remove", &self.name]);
    }
}

impl Drop for Organisation {
    fn drop(&mut self) {
        if std::env::var_os("MAGRATHEA_TEST_KEEP").is_none() {
            self.remove();
        }
    }
}

/// A person with a machine of their own: a folder with an SSH key and td's credentials.
pub struct Person {
    lab: Lab,
    pub name: String,
    folder: tempfile::TempDir,
}

impl Person {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command of td's, not yet started.
    pub fn td_command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.td_command(self.path(), args);
        command.env("TD_CONFIG_DIR", self.path().join("td")).env("HOME", self.path());
        command
    }

    pub fn td(&self, args: &[&str]) -> Ended {
        run(&mut self.td_command(args))
    }

    /// The session's token.
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("td/credentials.json")).unwrap();
        let credentials: serde_json::Value = serde_json::from_str(&text).unwrap();
        credentials["token"].as_str().unwrap().to_owned()
    }
}
