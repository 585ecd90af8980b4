//! What every command starts from: the options, the printer, and which app is meant.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use magrathea_core::api::{AppInfo, InstanceInfo};
use magrathea_core::manifest;
use magrathea_core::names::AppName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::Globals;
use crate::client::{Client, Query};
use crate::command::instances::{self, Wanted};
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::settings;

/// An instance that a command is about.
#[derive(Debug, Clone)]
pub struct Place {
    pub app: String,
    pub label: String,
    pub cluster: String,
    pub instance: Uuid,
    /// Whether its label lives on other clusters, too.
    is_one_of_several: bool,
}

impl Place {
    /// The route of one of its doors.
    pub fn segments<'a>(&'a self, door: &'a str) -> [&'a str; 5] {
        ["apps", &self.app, "instances", &self.label, door]
    }

    /// What the routes are asked with, beside their own parameters.
    pub fn query(&self) -> Query {
        let cluster = self.is_one_of_several.then(|| ("cluster".to_owned(), self.cluster.clone()));
        cluster.into_iter().collect()
    }

    /// Parameters of a list that is to hold its own entries alone, and no more than so many.
    pub fn narrow(&self, limit: u32) -> Query {
        let mut query = self.query();
        query.push(("label".into(), self.label.clone()));
        query.push(("limit".into(), limit.to_string()));
        query
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { app, label, cluster, .. } = self;
        if self.is_one_of_several { write!(f, "{app} ({label} on {cluster})") } else { write!(f, "{app} ({label})") }
    }
}

fn place(app: &AppInfo, instance: &InstanceInfo) -> Place {
    let of_label = app.instances.iter().filter(|other| other.label == instance.label);
    Place {
        app: app.name.clone(),
        label: instance.label.clone(),
        cluster: instance.cluster.clone(),
        instance: instance.id,
        is_one_of_several: of_label.count() > 1,
    }
}

/// The surroundings of one command.
#[derive(Debug)]
pub struct Context<'a> {
    pub globals: Globals,
    pub printer: &'a Printer,
    /// The app, when nothing but the folder's name says which.
    pub guessed: OnceCell<AppName>,
}

impl Context<'_> {
    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(&settings::load_credentials(&self.globals)?)
    }

    /// The app that `name`, --app, TD_APP or the nearest magrathea.yml names; the folder's own name is the last resort.
    pub fn app(&self, name: Option<&str>) -> Result<AppName, Failure> {
        let said = name.or(self.globals.app.as_deref()).filter(|name| !name.is_empty());
        if let Some(name) = said {
            return name.parse().map_err(|error| Failure::new(Exit::Usage, error));
        }
        let folder = &locate(&self.globals.folder)?;
        if let Some(app) = app_of_manifest(folder)? {
            return Ok(app);
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let app: AppName = name.parse().map_err(|error| {
            Failure::new(Exit::Usage, error)
                .hint("the folder's name is taken as the app's; say --app NAME, or write `app: NAME` in magrathea.yml")
        })?;
        let _ = self.guessed.set(app.clone());
        Ok(app)
    }

    /// What --label and --cluster say.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { label: self.globals.label.as_deref(), cluster: self.globals.cluster.as_deref() }
    }

    /// Whether --label and --cluster mean this one, too.
    pub fn means(&self, label: &str, cluster: &str) -> bool {
        let Wanted { label: wanted, cluster: on } = self.wanted();
        wanted.is_none_or(|wanted| wanted == label) && on.is_none_or(|on| on == cluster)
    }

    /// The parameter of a route that stands for all of a label's clusters without it.
    pub fn on_cluster(&self) -> Query {
        self.globals.cluster.iter().map(|cluster| ("cluster".to_owned(), cluster.clone())).collect()
    }

    /// The instance that --app, --label and --cluster name, or the app's only one.
    pub async fn place(&self) -> Result<(Client, Place), Failure> {
        self.place_of(self.globals.label.as_deref()).await
    }

    /// The instance that --app and --cluster name, under a label.
    pub async fn place_of(&self, label: Option<&str>) -> Result<(Client, Place), Failure> {
        let (client, app) = self.load_app().await?;
        let instance = instances::choose(&app.instances, &app.name, Wanted { label, ..self.wanted() })?;
        let place = place(&app, instance);
        Ok((client, place))
    }

    /// The same on each cluster that a label lives on.
    pub async fn places_of(&self, label: Option<&str>) -> Result<(Client, Vec<Place>), Failure> {
        let (client, app) = self.load_app().await?;
        let found = instances::choose_all(&app.instances, &app.name, Wanted { label, ..self.wanted() })?;
        let places = found.into_iter().map(|instance| place(&app, instance)).collect();
        Ok((client, places))
    }

    async fn load_app(&self) -> Result<(Client, AppInfo), Failure> {
        let name = self.app(None)?;
        let client = self.client()?;
        let app = client.get(&["apps", name.as_str()], &Query::new()).await?;
        Ok((client, app))
    }

    /// Says where the name of an unknown app came from.
    pub fn explain(&self, failure: Failure) -> Failure {
        if self.guessed.get().is_none() || failure.code.as_deref() != Some("app_not_found") {
            return failure;
        }
        failure.hint("the folder's name was taken as the app's; say --app NAME, or make the app: td app deploy")
    }

    /// With --json, prints what a command did that else only notes it.
    pub fn done(&self, what: &impl Serialize) {
        if self.globals.json {
            self.printer.json(what);
        }
    }

    /// Prints the API's own object with --json, else what `render` makes of it.
    pub fn show<T: DeserializeOwned>(&self, answer: Value, render: impl FnOnce(&Printer, T)) -> Result<Exit, Failure> {
        if self.globals.json {
            self.printer.json(&answer);
        } else {
            let typed = serde_json::from_value(answer).map_err(Failure::not_understood)?;
            render(self.printer, typed);
        }
        Ok(Exit::Done)
    }
}

/// The app's folder: the nearest one from `start` up to the git repository's root that has a magrathea.yml, else
/// `start`. Outside a repository no parent is looked at.
pub fn locate(start: &Path) -> Result<PathBuf, Failure> {
    let start = start.canonicalize().with_context(|| format!("{} cannot be opened", start.display()))?;
    if !start.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", start.display())));
    }
    let repository = start.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&start);
    let has_manifest = |folder: &&Path| folder.join(manifest::FILE_NAME).is_file();
    let found = start.ancestors().take_while(|folder| folder.starts_with(repository)).find(has_manifest);
    Ok(found.unwrap_or(&start).to_owned())
}

/// The text of a folder's magrathea.yml.
pub fn read_manifest(folder: &Path) -> Result<Option<String>, Failure> {
    let path = folder.join(manifest::FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("{} cannot be read", path.display()));
            Err(Failure::new(Exit::ManifestInvalid, error))
        }
    }
}

fn app_of_manifest(folder: &Path) -> Result<Option<AppName>, Failure> {
    let Some(text) = read_manifest(folder)? else { return Ok(None) };
    match manifest::parse_manifest(manifest::FILE_NAME, &text) {
        Ok((manifest, _)) => Ok(manifest.app),
        Err(diagnostics) => match app_line(&text) {
            // A mistake elsewhere in the file is for the command that reads the rest to report.
            Some(app) => Ok(Some(app)),
            None => {
                let failure = Failure::say(Exit::ManifestInvalid, "magrathea.yml does not say which app this is");
                Err(Failure { diagnostics: Some(Box::new(diagnostics)), ..failure })
            }
        },
    }
}

/// The name in a line `app: NAME`.
fn app_line(text: &str) -> Option<AppName> {
    let value = text.lines().find_map(|line| line.strip_prefix("app:"))?;
    let value = value.split_once(" #").map_or(value, |(value, _)| value);
    value.trim().trim_matches(['"', '\'']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_read_from_a_broken_file() {
        for (text, app) in [
            ("app: blog\nnonsense: [", Some("blog")),
            ("app: 'blog' # ours", Some("blog")),
            ("labels: {}\napp: \"shop-2\"", Some("shop-2")),
            ("x: {app: blog}", None),
            ("app: Not A Name", None),
        ] {
            assert_eq!(app_line(text).as_ref().map(AppName::as_str), app, "{text:?}");
        }
    }

    #[test]
    fn parents_are_searched_up_to_the_repository() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let deep = root.join("repository/app/web/css");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(root.join(manifest::FILE_NAME), "").unwrap();
        assert_eq!(locate(&deep).unwrap(), deep);
        std::fs::create_dir(root.join("repository/.git")).unwrap();
        assert_eq!(locate(&deep).unwrap(), deep);
        std::fs::write(root.join("repository/app").join(manifest::FILE_NAME), "").unwrap();
        assert_eq!(locate(&deep).unwrap(), root.join("repository/app"));
    }
}
