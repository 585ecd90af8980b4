//! What composer.json and composer.lock ask of the platform.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::constraint;
use crate::stacks::PHP_EXTENSIONS;
use crate::{BuildpackError, Tree, fail};

/// Requirements by package name. PHP's own JSON encoder writes an empty object as `[]`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`require` is not a map of packages")]
enum Requirements {
    Some(Map<String, Value>),
    None([(); 0]),
}

impl Default for Requirements {
    fn default() -> Self {
        Requirements::None([])
    }
}

impl Requirements {
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let map = match self {
            Requirements::Some(map) => Some(map),
            Requirements::None(_) => None,
        };
        map.into_iter().flatten().map(|(name, constraint)| (name.as_str(), constraint.as_str().unwrap_or("*")))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Project {
    require: Requirements,
    autoload: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lock {
    packages: Vec<Package>,
    platform: Requirements,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    require: Requirements,
}

/// What there is to do for composer.
pub(crate) struct Composer {
    /// Whether `composer install` has anything to do.
    pub is_needed: bool,
    pub warnings: Vec<String>,
}

/// Reads composer's files, and checks what they ask of PHP and its extensions against the stack.
pub(crate) fn check(tree: &Tree, php: &str) -> Result<Composer, BuildpackError> {
    let mut composer = Composer { is_needed: false, warnings: Vec::new() };
    if !tree.has("composer.json") {
        return Ok(composer);
    }
    let project: Project = read(tree, "composer.json")?;
    let has_lock = tree.has("composer.lock");
    if !has_lock && project.require.iter().any(|(name, _)| name.contains('/')) {
        if tree.has("vendor/autoload.php") {
            composer.warnings.push("no composer.lock: the vendor folder is taken as it is".into());
        } else {
            return fail(
                "composer.json requires packages, but there is no composer.lock that says which versions",
                "run `composer update` and commit composer.lock",
            );
        }
    } else {
        composer.is_needed = has_lock || project.autoload.is_object();
    }
    let lock: Lock = if has_lock { read(tree, "composer.lock")? } else { Lock::default() };

    let mut unmet = Vec::new();
    let mut judge = |by: &str, requirements: &Requirements| {
        for (name, wanted) in requirements.iter() {
            match unmet_by_stack(name, wanted, php) {
                Ok(None) => {}
                Ok(Some(what)) => unmet.push(format!("{by} requires {what}")),
                Err(()) => {
                    composer.warnings.push(format!("{by}: the constraint {wanted:?} of {name} is not understood"))
                }
            }
        }
    };
    judge("composer.json", &project.require);
    judge("composer.lock", &lock.platform);
    for package in &lock.packages {
        judge(&package.name, &package.require);
    }
    unmet.dedup();
    if unmet.is_empty() {
        return Ok(composer);
    }
    let more = unmet.len().saturating_sub(5);
    unmet.truncate(5);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    fail(
        format!("the stack does not have what the app needs: {}{tail}", unmet.join("; ")),
        format!("the stack is PHP {php} with the extensions listed in docs/reference/buildpacks.md"),
    )
}

/// What the stack lacks of one requirement.
fn unmet_by_stack(name: &str, wanted: &str, php: &str) -> Result<Option<String>, ()> {
    if let Some(extension) = name.strip_prefix("ext-") {
        let has = PHP_EXTENSIONS.binary_search(&extension.to_ascii_lowercase().as_str()).is_ok();
        return Ok((!has).then(|| format!("the extension {extension}")));
    }
    match name {
        "php" | "php-64bit" => {
            let is_met = constraint::allows(wanted, php).ok_or(())?;
            Ok((!is_met).then(|| format!("PHP {wanted}")))
        }
        _ => Ok(None),
    }
}

/// A file that is too large to be read, or absent, says nothing.
fn read<T: serde::de::DeserializeOwned + Default>(tree: &Tree, path: &str) -> Result<T, BuildpackError> {
    let Some(text) = tree.texts.get(path) else { return Ok(T::default()) };
    serde_json::from_str(text).or_else(|error| {
        fail(format!("{path} is not valid: {error}"), "`composer validate` shows what composer makes of it")
    })
}
