//! Buildpacks: pure detection, constraint checks, and the recipe by which the agent makes a release image.
//!
//! A pack is one module. It looks at a [`Tree`] and says what it found, which commands make the code runnable, and what
//! the runtime needs to hold. Nothing here reads files: who calls gives the names of all and the texts that
//! [`wanted`] asks for.

mod composer;
mod constraint;
mod explain;
mod init;
mod own;
mod php;
mod stacks;
mod static_files;
#[cfg(test)]
mod tests;
mod tomcat;

pub use explain::explain_failure;
pub use init::init_manifest;
pub use stacks::{PHP_EXTENSIONS, versions};

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

impl Tree {
    fn has(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Whether any file lies below the folder; `.` is the whole tree.
    fn has_folder(&self, folder: &str) -> bool {
        folder == "."
            || self.files.range(format!("{folder}/")..).next().is_some_and(|f| f.starts_with(&format!("{folder}/")))
    }

    /// Whether a file of this name lies right in the folder.
    fn has_in(&self, folder: &str, name: &str) -> bool {
        if folder == "." { self.has(name) } else { self.has(&format!("{folder}/{name}")) }
    }
}

/// Whether detection wants to read this file (`composer.json`, `Procfile`, …). At most 1 MiB of each is read.
pub fn wanted(path: &str) -> bool {
    matches!(path, "composer.json" | "composer.lock" | "Procfile" | "app.json")
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

fn fail<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, BuildpackError> {
    Err(BuildpackError { message: message.into(), hint: Some(hint.into()) })
}

/// What a pack makes of a tree.
#[derive(Default)]
struct Packed {
    reason: String,
    commands: Vec<BuildCommand>,
    /// Commands that come after the manifest's own.
    finish: Vec<BuildCommand>,
    output: Option<String>,
    root: String,
    warnings: Vec<String>,
}

/// The packs that are built in; each has the stack of its name.
const PACKS: [Stack; 3] = [Stack::Php, Stack::Tomcat, Stack::Static];

/// Folders that are served by custom, in the order in which they are looked at.
const ROOTS: [&str; 6] = [".", "web", "public", "htdocs", "www", "public_html"];

/// Chooses the buildpack and makes the recipe.
pub fn plan_build(tree: &Tree, sections: &Sections) -> Result<Recipe, BuildpackError> {
    let app = &sections.app_layer;
    let own = sections.build.buildpack.as_deref().and_then(|name| name.strip_prefix("./"));
    let named = sections.build.buildpack.as_deref().and_then(|name| PACKS.into_iter().find(|p| p.as_str() == name));
    if let (Some(pack), Some(stack)) = (named, app.stack)
        && pack != stack
    {
        return fail(
            format!("the buildpack `{}` does not make what the stack `{}` runs", pack.as_str(), stack.as_str()),
            "leave out `app_layer.stack`, or name the same in both",
        );
    }
    let stack = match app.stack.or(named).or_else(|| detect(tree)) {
        Some(stack) => stack,
        None if own.is_some() => {
            return fail("the app's own buildpack does not say what runs its result", "set `app_layer.stack`");
        }
        None => return nothing_found(),
    };
    let version = stacks::settle_version(stack, app.version.as_deref())?;
    let mut packed = match (own, stack) {
        (Some(folder), _) => own::pack(tree, folder, stack, sections)?,
        (None, Stack::Php) => php::pack(tree, version)?,
        (None, Stack::Tomcat) => tomcat::pack(tree, &sections.build.commands)?,
        (None, Stack::Static) => static_files::pack(tree),
    };
    packed.commands.extend(sections.build.commands.iter().map(|run| command(run, run.clone())));
    packed.commands.append(&mut packed.finish);
    if packed.commands.is_empty() && app.root != "." && !tree.has_folder(&app.root) {
        return fail(
            format!("the served folder `{}` does not exist", app.root),
            "`app_layer.root` names a folder of the repository, or one that a build command makes",
        );
    }
    packed.warnings.extend(unused_files(tree));
    let builder = if stack == Stack::Tomcat { "tomcat-build" } else { "php-build" };
    Ok(Recipe {
        buildpack: sections.build.buildpack.clone().unwrap_or_else(|| stack.as_str().into()),
        reason: packed.reason,
        stack,
        version: version.into(),
        builder_image: builder.into(),
        runtime_image: stack.as_str().into(),
        commands: packed.commands,
        output: packed.output,
        root: packed.root,
        warnings: packed.warnings,
    })
}

/// The stack that a tree looks made for.
fn detect(tree: &Tree) -> Option<Stack> {
    let finds = |stack: &Stack| match stack {
        Stack::Php => php::detect(tree).is_some(),
        Stack::Tomcat => tomcat::detect(tree).is_some(),
        Stack::Static => static_files::detect(tree).is_some(),
    };
    PACKS.into_iter().find(finds)
}

fn nothing_found<T>() -> Result<T, BuildpackError> {
    fail(
        "no buildpack recognises this folder",
        format!(
            "looked for composer.json and index.php (php), pom.xml, *.war and WEB-INF/web.xml (tomcat), index.html \
             (static), at the top and in {}; or set `build.buildpack`",
            ROOTS.get(1..).unwrap_or_default().join(", ")
        ),
    )
}

/// A command that may reach package registries.
fn command(title: &str, run: String) -> BuildCommand {
    let title = title.lines().next().unwrap_or_default().chars().take(80).collect();
    BuildCommand { title, run, network: true }
}

/// A word of the shell, whatever it holds.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Files that other platforms read, and what stands in the manifest instead.
fn unused_files(tree: &Tree) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(procfile) = tree.texts.get("Procfile") {
        let is_process =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let names: Vec<&str> = procfile
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(n, _)| n.trim())
            .filter(is_process)
            .collect();
        warnings.push(format!("Procfile is not used ({}): the stack starts the app itself", names.join(", ")));
    }
    if tree.has("app.json") {
        warnings.push("app.json is not used: write `env` and `secrets` in magrathea.yml".into());
    }
    warnings
}
