//! Reads the history back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::{Commit, ObjectType, Oid, Repository, Tree, TreeWalkMode, TreeWalkResult};
use magrathea_core::api::{Configuration, ConfigurationTexts};
use magrathea_core::plan::Plan;

use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::state::State;

/// The shortest beginning of an id that is looked for.
const SHORTEST: usize = 4;

/// The configurations of an instance, the newest first.
pub async fn list(state: &State, instance: &Instance, limit: usize) -> Result<Vec<Configuration>, ApiError> {
    read(state, instance, move |history| {
        Ok(history.commits()?.take(limit).map(|(commit, _)| history.describe(&commit)).collect())
    })
    .await
}

/// One of them, by its id's beginning; the newest when none is named.
pub async fn show(state: &State, instance: &Instance, id: Option<&str>) -> Result<ConfigurationTexts, ApiError> {
    let id = id.map(check_id).transpose()?;
    read(state, instance, move |history| history.find(id.as_deref())).await?.ok_or_else(|| not_found(instance))
}

/// The plan of one of them.
pub async fn plan(state: &State, instance: &Instance, id: &str) -> Result<(Configuration, Plan), ApiError> {
    let id = check_id(id)?;
    let found = read(state, instance, move |history| {
        let found = history.commits()?.find(|(commit, _)| commit.id().to_string().starts_with(&id));
        found.map(|(commit, tree)| Ok((history.describe(&commit), history.plan(&tree)?))).transpose()
    });
    let (configuration, plan) = found.await?.ok_or_else(|| not_found(instance))?;
    // An older gateway's plan may say what this one does not know.
    let plan = plan.ok_or_else(|| {
        ApiError::new(Code::LayerNotRestorable, "this gateway does not understand what was laid then")
            .with_hint("bring a whole release back: td release rollback")
    })?;
    Ok((configuration, plan))
}

/// The one that was laid before another.
pub async fn before(state: &State, instance: &Instance, id: &str) -> Result<ConfigurationTexts, ApiError> {
    let id = check_id(id)?;
    let found = read(state, instance, move |history| {
        let mut later = history.commits()?.skip_while(|(commit, _)| !commit.id().to_string().starts_with(&id));
        later.nth(1).map(|(commit, tree)| history.texts(&commit, &tree)).transpose()
    });
    found.await?.ok_or_else(|| {
        let message = format!("nothing was laid for {} ({}) before that", instance.app_name, instance.label);
        ApiError::new(Code::ConfigurationNotFound, message)
    })
}

fn check_id(id: &str) -> Result<String, ApiError> {
    if (SHORTEST..=40).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(id.to_ascii_lowercase());
    }
    Err(ApiError::new(Code::QueryInvalid, format!("{id:?} is not a configuration's id"))
        .with_hint("td config history shows them"))
}

fn not_found(instance: &Instance) -> ApiError {
    let message = format!("{} ({}) has no such configuration", instance.app_name, instance.label);
    ApiError::new(Code::ConfigurationNotFound, message).with_hint("td config history shows them")
}

async fn read<T>(
    state: &State,
    instance: &Instance,
    work: impl FnOnce(&History) -> Result<T, git2::Error> + Send + 'static,
) -> Result<T, ApiError>
where
    T: Default + Send + 'static,
{
    let path = state.data.join("history").join(instance.cluster.as_str());
    let (folder, label, cluster) = (instance.id.slug(), instance.label.to_string(), instance.cluster.to_string());
    let reading = tokio::task::spawn_blocking(move || {
        let Some(history) = History::open(&path, folder, label, cluster) else { return Ok(T::default()) };
        work(&history)
    });
    reading.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

/// One instance's part of a cluster's history.
pub struct History {
    repository: Repository,
    folder: PathBuf,
    label: String,
    cluster: String,
}

impl History {
    /// None when nothing was ever laid on the cluster.
    pub fn open(path: &Path, folder: String, label: String, cluster: String) -> Option<Self> {
        let repository = Repository::open_bare(path).ok()?;
        Some(History { repository, folder: folder.into(), label, cluster })
    }

    /// The commits that changed the instance's folder and left one, with it, the newest first.
    pub fn commits(&self) -> Result<impl Iterator<Item = (Commit<'_>, Tree<'_>)>, git2::Error> {
        let mut walk = self.repository.revwalk()?;
        if self.repository.head().is_ok() {
            walk.push_head()?;
        }
        let commits = walk.filter_map(|id| self.repository.find_commit(id.ok()?).ok());
        Ok(commits.filter_map(|commit| {
            let own = self.folder_of(&commit)?;
            let before = commit.parent(0).ok().and_then(|parent| self.folder_id(&parent));
            (before != Some(own.id())).then_some((commit, own))
        }))
    }

    fn folder_id(&self, commit: &Commit<'_>) -> Option<Oid> {
        Some(commit.tree().ok()?.get_path(&self.folder).ok()?.id())
    }

    fn folder_of(&self, commit: &Commit<'_>) -> Option<Tree<'_>> {
        self.repository.find_tree(self.folder_id(commit)?).ok()
    }

    fn find(&self, id: Option<&str>) -> Result<Option<ConfigurationTexts>, git2::Error> {
        let is_meant = |commit: &Commit<'_>| id.is_none_or(|id| commit.id().to_string().starts_with(id));
        let found = self.commits()?.find(|(commit, _)| is_meant(commit));
        found.map(|(commit, tree)| self.texts(&commit, &tree)).transpose()
    }

    fn describe(&self, commit: &Commit<'_>) -> Configuration {
        Configuration {
            id: commit.id().to_string(),
            label: self.label.clone(),
            cluster: self.cluster.clone(),
            at: jiff::Timestamp::from_second(commit.time().seconds()).unwrap_or_default(),
            person: commit.author().name().unwrap_or_default().to_owned(),
            message: commit.message().unwrap_or_default().to_owned(),
        }
    }

    /// None when it cannot be read any more.
    pub fn plan(&self, folder: &Tree<'_>) -> Result<Option<Plan>, git2::Error> {
        let Ok(entry) = folder.get_path(Path::new("plan.json")) else { return Ok(None) };
        let blob = self.repository.find_blob(entry.id())?;
        Ok(serde_json::from_slice(blob.content()).ok())
    }

    pub fn texts(&self, commit: &Commit<'_>, folder: &Tree<'_>) -> Result<ConfigurationTexts, git2::Error> {
        let mut texts = BTreeMap::new();
        if let Ok(entry) = folder.get_path(Path::new("rendered")) {
            let rendered = self.repository.find_tree(entry.id())?;
            rendered.walk(TreeWalkMode::PreOrder, |parent, entry| {
                if entry.kind() == Some(ObjectType::Blob)
                    && let (Ok(blob), Ok(name)) = (self.repository.find_blob(entry.id()), entry.name())
                {
                    texts.insert(format!("{parent}{name}"), String::from_utf8_lossy(blob.content()).into_owned());
                }
                TreeWalkResult::Ok
            })?;
        }
        Ok(ConfigurationTexts { configuration: self.describe(commit), texts })
    }
}
