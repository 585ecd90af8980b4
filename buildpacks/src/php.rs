//! The `php` pack: composer from the lock file, and the served folder.

use crate::{BuildpackError, Packed, ROOTS, Tree, command, composer};

/// Packages as the lock file names them, without those for development. The source comes without its history, from which
/// composer would guess the app's own version.
const INSTALL: &str = "export COMPOSER_ROOT_VERSION=\"${COMPOSER_ROOT_VERSION:-1.0.0}\"\n\
                       COMPOSER_CACHE_DIR=/cache/composer composer install --no-dev --no-interaction \
                       --prefer-dist --optimize-autoloader --no-progress";

/// Why a tree looks like a PHP app.
pub(crate) fn detect(tree: &Tree) -> Option<String> {
    if tree.has("composer.json") {
        return Some("composer.json found".into());
    }
    if let Some(root) = root(tree) {
        return Some(if root == "." { "index.php found".into() } else { format!("{root}/index.php found") });
    }
    let first = tree.files.iter().find(|file| file.ends_with(".php") && !file.contains('/'))?;
    Some(format!("{first} found"))
}

fn root(tree: &Tree) -> Option<&'static str> {
    ROOTS.into_iter().find(|root| tree.has_in(root, "index.php"))
}

pub(crate) fn pack(tree: &Tree, version: &str) -> Result<Packed, BuildpackError> {
    let composer = composer::check(tree, version)?;
    let install = composer.is_needed.then(|| command("composer install", INSTALL.into()));
    let html = || ROOTS.into_iter().find(|root| tree.has_in(root, "index.html"));
    Ok(Packed {
        reason: detect(tree).unwrap_or_else(|| "named in magrathea.yml".into()),
        commands: install.into_iter().collect(),
        root: root(tree).or_else(html).unwrap_or(".").into(),
        warnings: composer.warnings,
        ..Packed::default()
    })
}
