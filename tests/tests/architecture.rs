//! The rules of ARCHITECTURE.md that a compiler does not hold: who may depend on whom, who may name what.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names in `[dependencies]` (not the development ones) of a crate.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = repository().join(folder).join("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(&manifest)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = manifest.to_string_lossy().into_owned();
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["manifest_path"] == path).unwrap();
    let all = package["dependencies"].as_array().unwrap();
    all.iter().filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned()).collect()
}

/// Rust files of the crates, relative to the repository.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    for folder in ["core", "layers", "buildpacks", "gateway", "agent", "td-cli"] {
        walk(&repository().join(folder).join("src"), &mut out);
    }
    out.into_iter().map(|path| path.strip_prefix(repository()).unwrap().to_owned()).collect()
}

/// The files that name a crate.
fn files_naming(word: &str) -> Vec<String> {
    let path = format!("{word}::");
    sources()
        .into_iter()
        .filter(|file| {
            let text = std::fs::read_to_string(repository().join(file)).unwrap();
            text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&path))
        })
        .map(|file| file.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let ours = |folder| -> BTreeSet<String> {
        dependencies(folder).into_iter().filter(|name| name.starts_with("magrathea-") || name == "td-cli").collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ours("core"), set(&[]));
    assert_eq!(ours("layers"), set(&["magrathea-core"]));
    assert_eq!(ours("buildpacks"), set(&["magrathea-core"]));
    assert_eq!(ours("agent"), set(&["magrathea-core"]));
    assert_eq!(ours("gateway"), set(&["magrathea-buildpacks", "magrathea-core", "magrathea-layers"]));
    assert_eq!(ours("td-cli"), set(&["magrathea-buildpacks", "magrathea-core"]));
}

#[test]
fn pure_crates_have_no_effects() {
    for folder in ["core", "layers", "buildpacks"] {
        let names = dependencies(folder);
        for effect in ["tokio", "reqwest", "bollard", "tokio-postgres", "tempfile", "rand"] {
            assert!(!names.contains(effect), "{folder} depends on {effect}");
        }
    }
    for file in sources() {
        let pure = ["core", "layers", "buildpacks"].iter().any(|folder| file.starts_with(folder));
        let text = std::fs::read_to_string(repository().join(&file)).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for effect in
            ["std::fs", "std::net::Tcp", "std::process", "SystemTime", "Instant::now", "Timestamp::now", "Uuid::now"]
        {
            assert!(!pure || !code.contains(effect), "{} uses {effect}", file.display());
        }
    }
}

#[test]
fn engines_and_formats_are_named_in_one_place() {
    let in_folder = |files: Vec<String>, folder: &str| files.iter().all(|file| file.starts_with(folder));
    assert!(in_folder(files_naming("bollard"), "agent/src/"));
    assert!(in_folder(files_naming("tokio_postgres"), "gateway/src/db/"), "{:?}", files_naming("tokio_postgres"));
    assert_eq!(files_naming("russh"), ["gateway/src/ssh/server.rs"]);
    assert_eq!(files_naming("serde_saphyr").len(), 1, "{:?}", files_naming("serde_saphyr"));
}

#[test]
fn one_tls_stack() {
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    for banned in ["openssl-sys", "native-tls", "serde_yaml"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "{banned} is in Cargo.lock");
    }
}
