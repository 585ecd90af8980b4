//! `td app init`: a commented magrathea.yml for what a folder holds.

use std::fmt::Write;

use magrathea_core::manifest::Stack;
use magrathea_core::names::AppName;

use crate::{Recipe, Tree};

/// An application or framework that many people run, and what it needs beyond its code.
struct Known {
    name: &'static str,
    /// A file that only this one has, below the served folder or at the top.
    marker: &'static str,
    /// Writable folders with their kind; `{root}` is the served folder with a `/`, or nothing.
    writable: &'static [(&'static str, &'static str)],
    has_database: bool,
    release_hook: Option<&'static str>,
    secrets: &'static [&'static str],
}

const KNOWN: &[Known] = &[
    Known {
        name: "WordPress",
        marker: "wp-includes/version.php",
        writable: &[("{root}wp-content/uploads", "shared")],
        has_database: true,
        release_hook: None,
        secrets: &[],
    },
    Known {
        name: "Drupal",
        marker: "core/lib/Drupal.php",
        writable: &[("{root}sites/default/files", "shared")],
        has_database: true,
        release_hook: None,
        secrets: &[],
    },
    Known {
        name: "Laravel",
        marker: "artisan",
        writable: &[("bootstrap/cache", "local"), ("storage", "shared")],
        has_database: true,
        release_hook: Some("php artisan migrate --force"),
        secrets: &["APP_KEY"],
    },
    Known {
        name: "Symfony",
        marker: "config/bundles.php",
        writable: &[("var", "local")],
        has_database: true,
        release_hook: None,
        secrets: &["APP_SECRET"],
    },
];

/// Folders that apps commonly let people upload to.
const UPLOADS: [&str; 4] = ["uploads", "upload", "files", "media"];

/// Packages that talk to a database.
const DATABASE_PACKAGES: [&str; 5] =
    ["\"ext-mysqli\"", "\"ext-pdo_mysql\"", "\"illuminate/database\"", "\"doctrine/dbal\"", "\"laravel/framework\""];

/// The text of a manifest for `app`; it validates, and says the least that makes the app run.
pub fn init_manifest(app: &AppName, recipe: &Recipe, tree: &Tree) -> String {
    let prefix = if recipe.root == "." { String::new() } else { format!("{}/", recipe.root) };
    let known = KNOWN.iter().find(|k| tree.has(k.marker) || tree.has(&format!("{prefix}{}", k.marker)));
    let known = known.filter(|_| recipe.stack == Stack::Php);
    let writable: Vec<(String, &str)> = match known {
        Some(known) => known.writable.iter().map(|(path, kind)| (path.replace("{root}", &prefix), *kind)).collect(),
        None => uploads(tree, &prefix),
    };

    let mut text = format!("# Every key is explained in docs/reference/magrathea-yml.md.\napp: {app}\n\n");
    let found = known.map_or_else(|| recipe.reason.clone(), |known| format!("{}, {}", known.name, recipe.reason));
    let _ = writeln!(text, "build:\n  buildpack: {}  # {}\n", recipe.buildpack, comment(&found));
    let _ = writeln!(text, "app_layer:\n  root: {}  # the folder that is served\n  replicas: 1", scalar(&recipe.root));
    text += "  # health: {path: /up, expect: 200}  # what must answer before a release gets visitors\n\n";
    text += &storage(&writable);
    text += &database(tree, recipe.stack, known);
    match known.and_then(|known| known.release_hook) {
        Some(run) => {
            let _ =
                writeln!(text, "hooks:\n  release: [{run}]  # once per deploy, before the new release gets visitors\n");
        }
        None => text += "# hooks: {release: [php migrate.php]}  # before a new release gets visitors\n",
    }
    match known.map(|known| known.secrets).filter(|secrets| !secrets.is_empty()) {
        Some(secrets) => {
            let _ = writeln!(text, "secrets: [{}]  # set with `td config set`\n", secrets.join(", "));
        }
        None => text += "# secrets: [SMTP_PASSWORD]  # names only; values are set with `td config set`\n",
    }
    text += "# routing: {domains: [blog.example], tls: auto}  # a name below the cluster's domain when absent\n";
    text += "# proxy: {ttl: 2m, bypass_cookies: [session*]}  # keeps pages that say nothing about caching\n";
    text += "# labels:  # variants of the app, each on its cluster\n\
             #   production: {cluster: milan, branch: main, app_layer: {replicas: 3}}\n";
    text
}

fn uploads(tree: &Tree, prefix: &str) -> Vec<(String, &'static str)> {
    let mut folders: Vec<String> = UPLOADS.iter().map(|name| format!("{prefix}{name}")).collect();
    folders.retain(|folder| tree.has_folder(folder));
    folders.into_iter().map(|folder| (folder, "shared")).collect()
}

fn storage(writable: &[(String, &str)]) -> String {
    if writable.is_empty() {
        return "# storage: {writable: {uploads: {kind: shared}}}  # survives deploys; all else is read-only\n".into();
    }
    let mut text = String::from("storage:\n  writable:  # everything else is read-only\n");
    for (path, kind) in writable {
        let _ = writeln!(text, "    {}: {{kind: {kind}}}", scalar(path));
    }
    text + "\n"
}

fn database(tree: &Tree, stack: Stack, known: Option<&Known>) -> String {
    let composer = tree.texts.get("composer.json");
    let has_package = composer.is_some_and(|text| DATABASE_PACKAGES.iter().any(|package| text.contains(package)));
    if has_package || known.is_some_and(|known| known.has_database) {
        return "db:\n  mysql: {}  # a MariaDB database of its own; see DATABASE_URL\n  # memcache: 64MiB\n\n".into();
    }
    match stack {
        Stack::Static => String::new(),
        Stack::Php | Stack::Tomcat => {
            "# db: {mysql: {}, memcache: 64MiB}  # a MariaDB database and a memcached of its own\n".into()
        }
    }
}

/// A text as YAML: plain when nothing in it means something there.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    if text.chars().all(is_plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.') {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// A comment stays on its line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
