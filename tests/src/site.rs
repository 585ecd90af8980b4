//! An app made for one test: a folder of files, deployed by td, destroyed when the test ends.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{Ended, Lab};

/// A folder that is deployed as an app.
pub struct Site {
    pub lab: Lab,
    pub name: String,
    folder: tempfile::TempDir,
}

impl Site {
    /// An app without files. The name must be the test's own.
    pub fn new(lab: &Lab, name: &str) -> Site {
        let site = Site { lab: lab.clone(), name: name.into(), folder: tempfile::tempdir().unwrap() };
        site.destroy();
        site
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file; folders are made.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path: PathBuf = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Runs td on this app in its folder.
    pub fn td(&self, args: &[&str]) -> Ended {
        let mut all = args.to_vec();
        all.extend(["--app", &self.name]);
        self.lab.td(self.path(), &all)
    }

    /// `td app deploy --dirty`.
    pub fn deploy(&self) -> Ended {
        self.td(&["app", "deploy", "--dirty"])
    }

    /// Deploys, does something when a phase begins, and waits until td ends. On stdout are the deploy's events.
    pub fn deploy_and(&self, phase: &str, act: impl FnOnce()) -> Ended {
        let mut td = self.lab.td_command(self.path(), &["app", "deploy", "--dirty", "--events", "--app", &self.name]);
        let mut td = td.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = td.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        let begins = [format!("\"phase\":\"{phase}\""), "\"event\":\"phase_started\"".to_owned()];
        let mut act = Some(act);
        let mut stdout = String::new();
        for line in BufReader::new(td.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if begins.iter().all(|part| line.replace(": ", ":").contains(part))
                && let Some(act) = act.take()
            {
                act();
            }
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let code = td.wait().unwrap().code().unwrap_or(-1);
        let ended = Ended { code, stdout, stderr: errors.join().unwrap() };
        assert!(act.is_none(), "the deploy did not reach {phase}: {ended:?}");
        ended
    }

    /// What the timeline says of an action since the app was made, the newest first.
    pub fn told(&self, action: &str) -> Vec<String> {
        let lines = self.td(&["timeline", "--limit", "100", "--json"]).ok().json();
        let life = lines.as_array().unwrap().iter().take_while(|line| line["action"] != "app.created");
        life.filter(|line| line["action"] == action).map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The newest deploy's record.
    pub fn newest_deploy(&self) -> serde_json::Value {
        let list = self.td(&["deploy", "list", "--json"]);
        let list = if list.code == 0 { list.json() } else { serde_json::Value::Null };
        let all = list.as_array().or_else(|| list["deploys"].as_array());
        all.and_then(|all| all.first().cloned()).unwrap_or_default()
    }

    /// Waits until the newest deploy has ended, and gives its record.
    #[track_caller]
    pub fn decided(&self) -> serde_json::Value {
        let mut last = serde_json::Value::Null;
        crate::until(std::time::Duration::from_secs(90), "the deploy is decided", || {
            last = self.newest_deploy();
            matches!(last["status"].as_str(), Some("succeeded" | "failed" | "cancelled"))
        });
        last
    }

    /// The app's services in the engine that run its releases.
    pub fn release_services(&self) -> Vec<String> {
        let slug = self.slug();
        let all = ["service", "ls", "--format", "{{.Name}}", "--filter", "label=magrathea.key=app/web"];
        self.lab.docker(&all).lines().filter(|name| name.contains(&slug)).map(str::to_owned).collect()
    }

    /// Whether the app's only instance serves, by the gateway's own word.
    pub fn serves(&self) -> bool {
        let info = self.td(&["app", "info", "--json"]);
        info.code == 0 && info.json()["instances"][0]["state"] == "serving"
    }

    /// The name of its instance in the engine, the database and the router.
    pub fn slug(&self) -> String {
        let info = self.td(&["app", "info", "--json"]).ok().json();
        let id = info["instances"][0]["id"].as_str().unwrap().replace('-', "");
        format!("i{}", &id[20..])
    }

    /// The default host name.
    pub fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }

    pub fn url(&self, path: &str) -> String {
        self.lab.url(&self.host(), path)
    }

    /// Fetches a path of the app: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.lab.client().get(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn destroy(&self) {
        // A test that failed may have left a release on trial, which holds the instance.
        self.td(&["deploy", "abort"]);
        self.td(&["app", "destroy", "--confirm", &self.name]);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::env::var_os("MAGRATHEA_TEST_KEEP").is_none() {
            self.destroy();
        }
    }
}
