//! Looks into a repository and a push's quarantine, where the new objects wait for the decision. Reads alone; blocks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use git2::{ObjectType, Oid, Repository, Tree};
use magrathea_core::manifest;
use magrathea_core::names::LabelName;

use super::update::{Fact, Facts, Says, Update};

/// The largest manifest that is read, in bytes; the intake refuses larger ones with a reason.
const MANIFEST: usize = 1 << 20;

/// Beyond so many updates it is not asked whether commits leave a branch.
const ASKED: usize = 20;

/// Names of paths that a warning shows.
const SHOWN: usize = 3;

/// A Git LFS pointer is smaller than this, and begins so.
const POINTER: usize = 1024;
const POINTER_HEAD: &[u8] = b"version https://git-lfs.github.com/spec/";

/// How deep folders are followed for warnings.
const DEPTH: usize = 64;

/// A commit that is to be deployed.
#[derive(Debug, Clone)]
pub struct Commit {
    pub message: String,
    pub author: String,
    /// What a release of it will lack.
    pub warnings: Vec<String>,
}

fn open(path: &Path, quarantine: Option<&Path>) -> anyhow::Result<Repository> {
    let repository = Repository::open_bare(path).with_context(|| format!("cannot open {}", path.display()))?;
    if let Some(quarantine) = quarantine {
        let quarantine = quarantine.to_str().context("the quarantine's path is not UTF-8")?;
        repository.odb()?.add_disk_alternate(quarantine)?;
    }
    Ok(repository)
}

/// All that a push is judged by.
pub fn gather(
    path: &Path,
    quarantine: Option<&Path>,
    updates: Vec<Update>,
    previews: Vec<(String, LabelName)>,
) -> anyhow::Result<Facts> {
    let repository = open(path, quarantine)?;
    let head = repository.find_reference("HEAD")?;
    let head = head.symbolic_target().ok().flatten().unwrap_or("refs/heads/main").to_owned();
    let head_exists = repository.find_reference(&head).is_ok();
    let mut manifests = HashMap::new();
    let ask = updates.len() <= ASKED;
    let mut facts = Vec::with_capacity(updates.len());
    for update in updates {
        let is_branch = update.name.starts_with("refs/heads/");
        let mut says = |oid: Option<Oid>| match oid.filter(|_| is_branch) {
            Some(oid) => read_manifest(&repository, oid, &mut manifests),
            None => Says::Nothing,
        };
        let (before, after) = (says(update.old), says(update.new));
        let new = update.new.and_then(|oid| repository.find_object(oid, None).ok());
        let rewritten = match (update.old, update.new) {
            (Some(old), Some(new)) if ask && is_branch => !repository.graph_descendant_of(new, old).unwrap_or(false),
            _ => false,
        };
        facts.push(Fact {
            current: repository.find_reference(&update.name).ok().and_then(|reference| reference.target()),
            is_commit: new.is_some_and(|object| object.kind() == Some(ObjectType::Commit)),
            before,
            after,
            rewritten,
            in_the_way: if ask && update.old.is_none() { in_the_way(&repository, &update.name) } else { None },
            update,
        });
    }
    let head = head.strip_prefix("refs/heads/").unwrap_or(&head).to_owned();
    Ok(Facts { facts, head, head_exists, previews })
}

/// Makes a clone check out this branch.
pub fn set_head(path: &Path, branch: &str) -> anyhow::Result<()> {
    Ok(open(path, None)?.set_head(&format!("refs/heads/{branch}"))?)
}

fn read_manifest(repository: &Repository, commit: Oid, known: &mut HashMap<Option<Oid>, Says>) -> Says {
    let Ok(tree) = repository.find_commit(commit).and_then(|commit| commit.tree()) else { return Says::Nothing };
    let blob = tree.get_name(manifest::FILE_NAME).filter(|entry| entry.kind() == Some(ObjectType::Blob));
    let id = blob.map(|entry| entry.id());
    if let Some(says) = known.get(&id) {
        return says.clone();
    }
    let text = match id.map(|id| repository.find_blob(id)) {
        Some(Ok(blob)) if blob.size() <= MANIFEST => String::from_utf8_lossy(blob.content()).into_owned(),
        Some(_) => return Says::Nothing,
        None => String::new(),
    };
    let parsed = match id {
        Some(_) => manifest::parse_manifest(manifest::FILE_NAME, &text).map(|(manifest, _)| manifest),
        None => Ok(manifest::default_manifest()),
    };
    let says = match parsed {
        Ok(manifest) => Says::Manifest(Arc::new(manifest)),
        Err(findings) => Says::Broken(Arc::new(findings)),
    };
    known.insert(id, says.clone());
    says
}

/// A reference of whose name the new one's is a folder, or the other way round.
fn in_the_way(repository: &Repository, name: &str) -> Option<String> {
    let above = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
    let above = above.filter(|above| repository.find_reference(above).is_ok()).map(str::to_owned).next();
    let below = || {
        let mut names = repository.references_glob(&format!("{name}/*")).ok()?;
        names.names().flatten().next().map(str::to_owned)
    };
    let found = above.or_else(below)?;
    Some(found.strip_prefix("refs/heads/").unwrap_or(&found).to_owned())
}

/// What is told of a commit that is to be deployed.
pub fn describe(path: &Path, quarantine: Option<&Path>, commit: Oid) -> anyhow::Result<Commit> {
    let repository = open(path, quarantine)?;
    let commit = repository.find_commit(commit)?;
    let author = commit.author();
    let mut lack = Lack::default();
    lack.walk(&repository, &commit.tree()?, "", 0);
    let summary = String::from_utf8_lossy(commit.message_bytes()).lines().next().unwrap_or_default().to_owned();
    let (name, email) = (String::from_utf8_lossy(author.name_bytes()), String::from_utf8_lossy(author.email_bytes()));
    let author = format!("{name} <{email}>");
    Ok(Commit { message: summary, author, warnings: lack.warnings(&repository) })
}

/// What `git archive` leaves out of a tree.
#[derive(Default)]
struct Lack {
    submodules: Vec<String>,
    uses_lfs: bool,
    small: Vec<(String, Oid)>,
}

impl Lack {
    fn walk(&mut self, repository: &Repository, tree: &Tree<'_>, prefix: &str, depth: usize) {
        for entry in tree {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let path = format!("{prefix}{name}");
            match entry.kind() {
                Some(ObjectType::Commit) => self.submodules.push(path),
                Some(ObjectType::Tree) if depth < DEPTH => {
                    if let Ok(tree) = repository.find_tree(entry.id()) {
                        self.walk(repository, &tree, &format!("{path}/"), depth + 1);
                    }
                }
                Some(ObjectType::Blob) if name == ".gitattributes" => {
                    let blob = repository.find_blob(entry.id());
                    let says = |text: &[u8]| text.windows(10).any(|window| window == b"filter=lfs");
                    self.uses_lfs |= blob.is_ok_and(|blob| says(blob.content()));
                }
                Some(ObjectType::Blob) => self.small.push((path, entry.id())),
                _ => {}
            }
        }
    }

    fn warnings(self, repository: &Repository) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.submodules.is_empty() {
            let which = some_of(&self.submodules);
            warnings.push(format!("submodules are not fetched, their folders stay empty: {which}"));
        }
        let is_pointer = |oid: Oid| {
            let small = repository.odb().and_then(|odb| odb.read_header(oid)).is_ok_and(|(size, _)| size < POINTER);
            small && repository.find_blob(oid).is_ok_and(|blob| blob.content().starts_with(POINTER_HEAD))
        };
        if self.uses_lfs {
            let pointers: Vec<String> =
                self.small.into_iter().filter(|(_, oid)| is_pointer(*oid)).map(|(path, _)| path).collect();
            if !pointers.is_empty() {
                let which = some_of(&pointers);
                warnings.push(format!(
                    "Git LFS objects are not kept here; visitors get the pointers in their place: {which}"
                ));
            }
        }
        warnings
    }
}

fn some_of(paths: &[String]) -> String {
    let rest = paths.len().saturating_sub(SHOWN);
    let shown = paths.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if rest == 0 { shown } else { format!("{shown} and {rest} more") }
}
