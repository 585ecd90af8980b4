//! An app made for one test: a folder of files, deployed by td, destroyed when the test ends.

use std::path::{Path, PathBuf};

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
