//! The configuration history: every applied plan's rendered texts, committed to a git repository per cluster in
//! `history/CLUSTER`. Off every deploy's way; a commit that cannot be made is logged and stops nothing.

mod read;

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Oid, Repository, Signature};
use magrathea_core::names::ClusterName;
use magrathea_core::plan::Plan;

pub use read::{before, list, plan, show};

use super::layout::rendered;
use crate::lock::locked;
use crate::state::State;

/// Commits a plan under `folder`, in the background.
pub fn record_later(
    state: &Arc<State>,
    cluster: &ClusterName,
    folder: String,
    plan: Plan,
    author: &str,
    message: String,
) {
    let path = state.data.join("history").join(cluster.as_str());
    let (turn, author) = (Arc::clone(&state.engine.history), author.to_owned());
    state.tasks.spawn_blocking(move || {
        if let Err(error) = record(&turn, &path, &folder, Some(&plan), &author, &message) {
            tracing::warn!("cannot write the configuration history: {error:#}");
        }
    });
}

/// Commits that what stood under `folder` is gone, in the background.
pub fn forget_later(state: &Arc<State>, cluster: &ClusterName, folder: String, author: &str, message: String) {
    let path = state.data.join("history").join(cluster.as_str());
    let (turn, author) = (Arc::clone(&state.engine.history), author.to_owned());
    state.tasks.spawn_blocking(move || {
        if let Err(error) = record(&turn, &path, &folder, None, &author, &message) {
            tracing::warn!("cannot write the configuration history: {error:#}");
        }
    });
}

fn record(
    turn: &Mutex<()>,
    path: &Path,
    folder: &str,
    plan: Option<&Plan>,
    author: &str,
    message: &str,
) -> anyhow::Result<()> {
    let _turn = locked(turn);
    let repository = match Repository::open_bare(path) {
        Ok(repository) => repository,
        Err(_) => Repository::init_bare(path).with_context(|| format!("cannot make {}", path.display()))?,
    };
    let parent = match repository.head() {
        Ok(head) => Some(head.peel_to_commit()?),
        Err(_) => None,
    };
    let empty = repository.treebuilder(None)?.write()?;
    let before = repository.find_tree(parent.as_ref().map_or(empty, git2::Commit::tree_id))?;
    let mut update = TreeUpdateBuilder::new();
    if before.get_path(Path::new(folder)).is_ok() {
        update.remove(folder);
    }
    let mut tree = repository.find_tree(update.create_updated(&repository, &before)?)?;
    if let Some(plan) = plan {
        tree = repository.find_tree(insert(&repository, &tree, folder, plan)?)?;
    }
    if tree.id() == before.id() {
        return Ok(());
    }
    let signature = Signature::now(author, &format!("{author}@magrathea.invalid"))?;
    let parents: Vec<_> = parent.iter().collect();
    repository.commit(Some("HEAD"), &signature, &signature, message, &tree, &parents)?;
    Ok(())
}

fn insert(repository: &Repository, tree: &git2::Tree<'_>, folder: &str, plan: &Plan) -> anyhow::Result<Oid> {
    let mut update = TreeUpdateBuilder::new();
    let mut add = |name: &str, text: &str| -> anyhow::Result<()> {
        let blob = repository.blob(text.as_bytes())?;
        update.upsert(format!("{folder}/{name}"), blob, FileMode::Blob);
        Ok(())
    };
    add("plan.json", &serde_json::to_string_pretty(plan)?)?;
    for (name, text) in rendered(plan) {
        add(&format!("rendered/{name}"), &text)?;
    }
    Ok(update.create_updated(repository, tree)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use magrathea_core::names::Layer;
    use magrathea_core::plan::{CacheSpec, Resource, Spec, Subject};

    fn plan(text: &str) -> Plan {
        let spec =
            CacheSpec { slug: "i1".into(), proxy: magrathea_core::manifest::ProxyKind::Varnish, text: text.into() };
        let resource = Resource { layer: Layer::Proxy, key: "proxy/cache".into(), spec: Spec::Cache(spec) };
        Plan::new(Subject::Cluster { cluster: "local".parse().unwrap() }, 1, None, vec![resource])
    }

    #[test]
    fn each_change_is_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        let turn = Mutex::new(());
        let path = dir.path().join("local");
        for (plan, message) in [
            (Some(plan("one")), "first"),
            (Some(plan("two")), "second"),
            (Some(plan("two")), "nothing changed"),
            (None, "gone"),
        ] {
            record(&turn, &path, "i1", plan.as_ref(), "ada", message).unwrap();
        }
        let repository = Repository::open_bare(&path).unwrap();
        let mut walk = repository.revwalk().unwrap();
        walk.push_head().unwrap();
        let messages: Vec<_> =
            walk.map(|id| repository.find_commit(id.unwrap()).unwrap().message().unwrap().to_owned()).collect();
        assert_eq!(messages, ["gone", "second", "first"]);
        let history = super::read::History::open(&path, "i1".into(), "default".into(), "local".into()).unwrap();
        let laid: Vec<_> =
            history.commits().unwrap().map(|(commit, tree)| history.texts(&commit, &tree).unwrap()).collect();
        let plans: Vec<_> = history.commits().unwrap().map(|(_, tree)| history.plan(&tree).unwrap().unwrap()).collect();
        assert_eq!(plans, [plan("two"), plan("one")]);
        let texts: Vec<_> = laid.iter().map(|laid| laid.texts["proxy/cache"].as_str()).collect();
        assert_eq!(texts, ["two", "one"]);
        assert_eq!((laid[0].configuration.person.as_str(), laid[0].configuration.message.as_str()), ("ada", "second"));
        let second = repository.revparse_single("HEAD~1:i1/rendered/proxy/cache").unwrap();
        assert_eq!(second.as_blob().unwrap().content(), b"two");
    }
}
