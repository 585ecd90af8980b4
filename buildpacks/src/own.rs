//! The app's own buildpack: a folder with `bin/detect` and `bin/build`, called as Heroku's buildpack API has it
//! (<https://devcenter.heroku.com/articles/buildpack-api>), whose `bin/compile` is our `bin/build`.

use std::fmt::Write;

use magrathea_core::manifest::{Sections, Stack};

use crate::{BuildpackError, Packed, ROOTS, Tree, command, fail, quote};

pub(crate) fn pack(tree: &Tree, folder: &str, stack: Stack, sections: &Sections) -> Result<Packed, BuildpackError> {
    for name in ["bin/detect", "bin/build"] {
        if !tree.has(&format!("{folder}/{name}")) {
            return fail(
                format!("the buildpack ./{folder} has no {name}"),
                "a buildpack is a folder with the programs bin/detect and bin/build; see docs/reference/buildpacks.md",
            );
        }
    }
    let detect = format!(
        "{} \"$PWD\" || {{ status=$?; [ $status -gt 125 ] || echo {} >&2; exit $status; }}",
        quote(&format!("./{folder}/bin/detect")),
        quote(&format!("the buildpack ./{folder} does not take this source"))
    );
    let index = if stack == Stack::Php { "index.php" } else { "index.html" };
    Ok(Packed {
        reason: "named in magrathea.yml".into(),
        commands: vec![
            command(&format!("{folder}/bin/detect"), detect),
            command(&format!("{folder}/bin/build"), build(folder, sections)),
        ],
        root: ROOTS.into_iter().find(|root| tree.has_in(root, index)).unwrap_or(".").into(),
        ..Packed::default()
    })
}

/// BUILD_DIR is the source, CACHE_DIR outlives builds, ENV_DIR holds a file for each variable of `build.env`.
fn build(folder: &str, sections: &Sections) -> String {
    let mut run = String::from("env_dir=$(mktemp -d)\n");
    for (name, value) in &sections.build.env {
        let _ = writeln!(run, "printf %s {} > \"$env_dir/{name}\"", quote(value));
    }
    let program = quote(&format!("./{folder}/bin/build"));
    let _ = write!(run, "{program} \"$PWD\" /cache \"$env_dir\"");
    run
}
