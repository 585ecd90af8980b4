//! Buildpacks: pure detection, constraint checks, and the recipe by which the agent makes a release image.

use std::collections::{BTreeMap, BTreeSet};

use magrathea_core::manifest::{Sections, Stack};
use magrathea_core::wire::BuildCommand;

/// What a folder holds, as far as detection needs it.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Every file's path, relative, with `/`.
    pub files: BTreeSet<String>,
    /// The contents of the files that [`wanted`] names, when present.
    pub texts: BTreeMap<String, String>,
}

/// Whether detection wants to read this file (`composer.json`, `Procfile`, …). At most 1 MiB of each is read.
pub fn wanted(_path: &str) -> bool {
    todo!()
}

/// How a release image is made from a source tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// `php`, `tomcat`, `static`, or the folder of the app's own buildpack.
    pub buildpack: String,
    /// Why this one was taken, as in `composer.json found`.
    pub reason: String,
    pub stack: Stack,
    /// The stack's version, as in `8.4`.
    pub version: String,
    /// Name of the layer image that the commands run in (`php-build`, …), and of the runtime (`php`, …).
    pub builder_image: String,
    pub runtime_image: String,
    pub commands: Vec<BuildCommand>,
    /// The folder that becomes the release; the whole when absent.
    pub output: Option<String>,
    /// The served folder when the manifest does not say: `web` or `public` when one holds an index file.
    pub root: String,
    pub warnings: Vec<String>,
}

/// Why no recipe can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildpackError {
    pub message: String,
    pub hint: Option<String>,
}

/// Chooses the buildpack and makes the recipe.
pub fn plan_build(_tree: &Tree, _sections: &Sections) -> Result<Recipe, BuildpackError> {
    todo!()
}
