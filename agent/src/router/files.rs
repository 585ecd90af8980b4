//! The files that an instance's backend refers to, and its certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use magrathea_core::plan::{NodeFolder, RouteSpec, SecretText, hash_of};

use super::route::Route;
use crate::fail::{Outcome, internal};
use crate::folders::{self, Folders};

/// An instance's files with their secrets in place.
pub struct RouteFiles {
    slug: String,
    files: BTreeMap<String, String>,
    /// None: those that are there stay.
    certificates: Option<BTreeMap<String, String>>,
    pub hash: String,
}

/// What was there before, to be put back when the router refuses the new.
pub struct Undo(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Undo {
    pub fn undo(self) -> Outcome<()> {
        self.0.into_iter().try_for_each(|(path, content)| match content {
            Some(content) => folders::write_file(&path, &content, 0o600).map(|_| ()),
            None => folders::remove_file(&path).map(|_| ()),
        })
    }
}

impl RouteFiles {
    pub fn reveal(spec: &RouteSpec, secrets: &BTreeMap<String, String>) -> Outcome<Self> {
        let all = |texts: &BTreeMap<String, SecretText>| {
            let one = |(name, text): (&String, &SecretText)| {
                if name.is_empty() || name.starts_with('.') || name.contains('/') {
                    return Err(internal(format!("{name:?} is not a file name")));
                }
                let content =
                    text.reveal(secrets).map_err(|name| internal(format!("no value came for the secret {name}")))?;
                Ok((name.clone(), content))
            };
            texts.iter().map(one).collect::<Outcome<BTreeMap<_, _>>>()
        };
        let (files, certificates) = (all(&spec.files)?, all(&spec.certificates)?);
        let hash = hash_of(&(&files, &certificates));
        // On trial a release is met under the names, and so the certificates, of the one that serves.
        let certificates = spec.canary.is_none().then_some(certificates);
        Ok(RouteFiles { slug: spec.slug.clone(), files, certificates, hash })
    }

    /// The names of the certificates' files, where they are this route's own.
    pub fn certificate_names(&self) -> Option<BTreeSet<String>> {
        Some(self.certificates.as_ref()?.keys().cloned().collect())
    }

    /// Writes them and removes what neither they nor a lane of the route before needs.
    pub fn write(&self, folders: &Folders, before: Option<&Route>) -> Outcome<Undo> {
        let router = folders.node(NodeFolder::Router);
        let own = router.join("instances").join(&self.slug);
        folders::make_folder(&own, 0o755)?;
        let certificates = router.join("certs");
        let mut wanted: BTreeMap<PathBuf, Option<&String>> = BTreeMap::new();
        let needed: BTreeSet<_> = before.into_iter().flat_map(Route::lanes).flat_map(|lane| &lane.files).collect();
        let held = std::fs::read_dir(&own).into_iter().flatten().flatten();
        let stale =
            held.filter(|file| !needed.iter().any(|name| file.file_name() == name.as_str())).map(|file| file.path());
        wanted.extend(stale.map(|path| (path, None)));
        wanted.extend(self.files.iter().map(|(name, content)| (own.join(name), Some(content))));
        if let Some(texts) = &self.certificates {
            let stale = before.into_iter().flat_map(|route| &route.certificates).map(|name| certificates.join(name));
            wanted.extend(stale.map(|path| (path, None)));
            wanted.extend(texts.iter().map(|(name, content)| (certificates.join(name), Some(content))));
        }
        let mut undo = Undo(Vec::new());
        for (path, content) in wanted {
            let held = std::fs::read(&path).ok();
            if held.as_deref() == content.map(|content| content.as_bytes()) {
                continue;
            }
            match content {
                Some(content) => folders::write_file(&path, content.as_bytes(), 0o600).map(|_| ())?,
                None => folders::remove_file(&path).map(|_| ())?,
            }
            undo.0.push((path, held));
        }
        Ok(undo)
    }
}
