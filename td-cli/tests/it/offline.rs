//! What needs no gateway.

use insta::assert_snapshot;
use serde_json::Value;

use crate::td::Desk;

#[test]
fn a_good_file_is_praised() {
    let desk = Desk::new();
    desk.file("web/index.php", "<?php").file(
        "magrathea.yml",
        "app: blog\napp_layer:\n  root: web\n  replicas: 2\nlabels:\n  production:\n    cluster: milan\n    app_layer: {replicas: 3}\n  staging: {}\n",
    );
    assert_snapshot!(desk.shown(&["app", "validate"]));
    assert_snapshot!(desk.shown(&["app", "validate", "--label", "production"]));
    assert_snapshot!(desk.shown(&["app", "validate", "--label", "nope"]));
    let json: Value = serde_json::from_str(&desk.td(&["app", "validate", "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["valid"], &json["labels"]["production"]["clusters"]),
        (&true.into(), &serde_json::json!(["milan"]))
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let desk = Desk::new();
    desk.file("index.php", "").file("magrathea.yml", "app_layer:\n  replcas: 2\nproxy: {kind: squid}\n");
    let ended = desk.td(&["app", "validate"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""));
    for part in ["magrathea.yml:2", "replcas", "replicas", "magrathea.yml:3", "squid", "has 2 errors"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let json: Value = serde_json::from_str(&desk.td(&["app", "validate", "--json"]).stdout).unwrap();
    assert_eq!((&json["valid"], json["diagnostics"].as_array().unwrap().len()), (&false.into(), 2));
}

#[test]
fn a_folder_without_a_file_has_defaults() {
    let desk = Desk::new();
    desk.file("index.php", "<?php");
    assert_snapshot!(desk.shown(&["app", "validate"]));
}

#[test]
fn a_folder_that_nothing_recognises_is_invalid() {
    let desk = Desk::new();
    desk.file("main.rs", "");
    assert_eq!(desk.td(&["app", "validate"]).code, 3);
    assert_eq!(desk.td(&["app", "init"]).code, 1);
}

#[test]
fn init_writes_a_file_that_validates() {
    let desk = Desk::new();
    desk.file("web/index.php", "<?php");
    assert_snapshot!(desk.shown(&["app", "init"]));
    assert_snapshot!(std::fs::read_to_string(desk.folder.join("magrathea.yml")).unwrap());
    let ended = desk.td(&["app", "validate"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_snapshot!(desk.shown(&["app", "init"]));
    assert_eq!(desk.td(&["app", "init", "--force", "--app", "shop"]).code, 0);
    assert!(std::fs::read_to_string(desk.folder.join("magrathea.yml")).unwrap().contains("app: shop\n"));
}

#[test]
fn completions_and_man_pages_are_made() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = desk.td(&["completions", shell]);
        assert!(ended.code == 0 && ended.stdout.contains("deploy"), "{shell}");
    }
    std::fs::create_dir(desk.folder.join("man")).unwrap();
    assert_eq!(desk.td(&["man", "man"]).code, 0);
    let page = std::fs::read_to_string(desk.folder.join("man/td-app-deploy.1")).unwrap();
    assert!(page.contains("\\-\\-dirty"), "{page}");
}

#[test]
fn colour_is_for_those_who_want_it() {
    let desk = Desk::new();
    let shown = |name: &str, value: &str| {
        let output = desk.command(&["app", "info"]).env(name, value).output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains('\x1b')
    };
    assert!(!shown("TERM", "xterm"));
    assert!(shown("CLICOLOR_FORCE", "1"));
    assert!(
        !desk
            .command(&["app", "info"])
            .env("CLICOLOR_FORCE", "1")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
            .stderr
            .contains(&0x1b)
    );
}

/// `td reference > docs/reference/cli.md` mends it.
#[test]
fn the_reference_page_is_current() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/cli.md");
    assert_eq!(Desk::new().td(&["reference"]).stdout, std::fs::read_to_string(page).unwrap_or_default());
}

/// Every manifest in the guide is valid and every command of td's in it is one.
#[test]
fn the_guide_is_true() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide");
    let mut checked = 0;
    for page in std::fs::read_dir(guide).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("```").skip(1).step_by(2) {
            let (kind, block) = block.split_once('\n').unwrap();
            let desk = Desk::new();
            match kind {
                // A piece of another file.
                "yaml" if block.starts_with("# clusters.yml") => {}
                "yaml" if block.starts_with("# rates.yml") => {
                    magrathea_core::billing::parse_rates("rates.yml", block).unwrap_or_else(|error| panic!("{error}"));
                }
                "yaml" => {
                    desk.file("index.php", "").file("WEB-INF/web.xml", "").file("web/index.php", "");
                    let ended = desk.file("magrathea.yml", block).td(&["app", "validate"]);
                    assert_eq!((ended.code, ended.stderr.contains("warning")), (0, false), "{block}\n{}", ended.stderr);
                    checked += 1;
                }
                "console" => {
                    for line in block.lines().filter_map(|line| line.strip_prefix("$ td ")) {
                        // What follows `--` or a redirection is not td's.
                        let own = line.split(" < ").next().unwrap().split(" > ").next().unwrap();
                        let own = own.split(" -- ").next().unwrap().split(" # ").next().unwrap().trim();
                        let own = own.split(" | ").next().unwrap();
                        let quoted = |(n, part): (usize, &str)| if n % 2 == 1 { "x".into() } else { part.to_owned() };
                        let own: String = own.split(['\'', '"']).enumerate().map(quoted).collect();
                        let words = own.split(' ').chain(["--help"]);
                        assert_eq!(desk.td(&words.collect::<Vec<_>>()).code, 0, "{line}");
                        checked += 1;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(checked > 20, "{checked} examples are few");
}
