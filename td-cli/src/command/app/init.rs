//! `td app init`: a first magrathea.yml for what the folder holds.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use magrathea_buildpacks::{init_manifest, plan_build};
use magrathea_core::manifest::{self, Sections};
use magrathea_core::names::AppName;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::source::read_tree;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Replace a magrathea.yml that is already there
    #[arg(long)]
    force: bool,
}

pub fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let folder = &context.globals.folder;
    let folder = folder.canonicalize().with_context(|| format!("{} cannot be opened", folder.display()))?;
    let app = match &context.globals.app {
        Some(_) => context.app(None)?,
        None => name_of(&folder)?,
    };
    let tree = read_tree(&folder)?;
    let recipe = plan_build(&tree, &Sections::default())
        .map_err(|error| Failure { hint: error.hint.clone(), ..Failure::new(Exit::Failed, error) })?;
    let text = init_manifest(&app, &recipe, &tree);
    let path = folder.join(manifest::FILE_NAME);
    write(&path, &text, arguments.force)?;
    if context.globals.json {
        context
            .printer
            .json(&json!({"file": path, "app": app, "buildpack": recipe.buildpack, "reason": recipe.reason}));
    } else {
        context.printer.data(path.display().to_string());
    }
    for warning in &recipe.warnings {
        context.printer.warning(warning);
    }
    context.printer.note(format!("found {}: {}", recipe.buildpack, recipe.reason));
    context.printer.note("next: read the file, then `td app validate`, `git commit`, `td app deploy`");
    Ok(Exit::Done)
}

/// The folder's name made into an app's.
fn name_of(folder: &Path) -> Result<AppName, Failure> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-").parse().map_err(|error| Failure::new(Exit::Usage, error).hint("name the app with --app NAME"))
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    // `create_new` also refuses what another program made a moment ago, and a link to elsewhere.
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!("{} is already there", path.display())).hint("--force replaces it"));
        }
        file => file.with_context(|| format!("{} cannot be written", path.display()))?,
    };
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_become_app_names() {
        for (folder, app) in [("/srv/My Shop", Some("my-shop")), ("/a/blog_2", Some("blog-2")), ("/a/42", None)] {
            assert_eq!(name_of(Path::new(folder)).ok().as_ref().map(AppName::as_str), app, "{folder}");
        }
    }
}
