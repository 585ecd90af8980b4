//! `td app plan`: what a deploy would do, told before anything moves.

use magrathea_tests::{Ended, Lab, site::Site};
use serde_json::{Value, json};

fn plan(site: &Site, more: &[&str]) -> Ended {
    let mut args = vec!["app", "plan", "--dirty"];
    args.extend(more);
    site.td(&args)
}

/// What a release is called: differs with every deploy, whatever is in it.
fn is_of_the_release(field: &Value) -> bool {
    let path = field["path"].as_str().unwrap();
    matches!(path, "image" | "name" | "release" | "service" | "env.MAGRATHEA_RELEASE")
}

/// The changes by key, each with those of its fields that a person's edit made.
fn edits(preview: &Value) -> Vec<(String, String, Vec<Value>)> {
    let changes = preview["changes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    changes
        .map(|change| {
            let fields = change["fields"].as_array().unwrap().iter().filter(|field| !is_of_the_release(field));
            (text(&change["key"]), text(&change["change"]), fields.cloned().collect())
        })
        .collect()
}

/// What the engine holds of an instance: services with their versions, containers, networks.
fn engine(lab: &Lab, slug: &str) -> Vec<String> {
    let services = lab.docker(&["service", "ls", "-q", "--filter", &format!("name={}-{slug}", lab.prefix())]);
    let mut held: Vec<String> = services
        .lines()
        .map(|id| lab.docker(&["service", "inspect", id, "--format", "{{.ID}} {{.Version.Index}} {{.Spec.Name}}"]))
        .collect();
    for args in [&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}"][..], &["network", "ls"]] {
        held.extend(lab.docker(args).lines().filter(|line| line.contains(slug)).map(str::to_owned));
    }
    held.sort();
    held
}

/// All that a plan could have changed of a deployed app.
fn everything(site: &Site) -> Value {
    json!({
        "deploys": site.td(&["deploy", "list", "--json"]).ok().json(),
        "timeline": site.td(&["timeline", "--limit", "1000", "--json"]).ok().json(),
        "engine": engine(&site.lab, &site.slug()),
        "info": site.td(&["app", "info", "--json"]).ok().json(),
    })
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_new_app_is_all_additions_and_none_is_made() {
    let lab = Lab::get();
    let site = Site::new(&lab, "unborn");
    site.file("index.php", "<?php echo 1;")
        .file("magrathea.yml", "db: {mysql: {}, memcache: 16MiB}\nstorage: {writable: {uploads: {kind: shared}}}\n");
    let before = site.td(&["timeline", "--limit", "1000", "--json"]).ok().json();
    let said = plan(&site, &[]).ok();
    for part in ["unborn, label default on lab, buildpack php", " 0 to change, 0 to remove", "\nstorage\n", "\ndb\n"] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    assert!(said.stderr.contains("nothing was changed"), "{}", said.stderr);
    let preview = plan(&site, &["--json"]).ok().json();
    let edits = edits(&preview);
    assert!(edits.iter().all(|(_, change, _)| change == "add"), "{edits:?}");
    let keys: Vec<&str> = edits.iter().map(|(key, ..)| key.as_str()).collect();
    for key in
        ["storage/network", "storage/files", "db/mysql", "db/memcached", "app/web", "proxy/cache", "routing/route"]
    {
        assert!(keys.contains(&key), "{key}: {keys:?}");
        assert!(said.stdout.contains(&format!("  + {key}\n")), "{key}: {}", said.stdout);
    }
    assert!(said.stdout.contains(&format!("\n{} to add,", keys.len())), "{}", said.stdout);
    // Nobody made the app, nor anything under the name that stands for the unborn instance.
    let info = site.td(&["app", "info"]);
    assert_ne!(info.code, 0, "{}", info.stdout);
    assert_eq!(engine(&lab, "i000000000000"), Vec::<String>::new());
    assert_eq!(site.td(&["timeline", "--limit", "1000", "--json"]).ok().json(), before);
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn after_a_deploy_only_what_was_edited_differs_with_where_it_was_written() {
    let lab = Lab::get();
    let site = Site::new(&lab, "planned");
    site.file("index.php", "<?php echo 1;").file("magrathea.yml", "app_layer:\n  ini: {memory_limit: 128M}\n");
    site.deploy().ok();
    let before = everything(&site);
    assert!(!before["engine"].as_array().unwrap().is_empty() && !before["timeline"].as_array().unwrap().is_empty());

    // A deploy of the same would be a release of another number, and nothing else.
    let preview = plan(&site, &["--json"]).ok().json();
    assert_eq!(preview["changes"], json!([]));
    assert!(plan(&site, &[]).ok().stdout.contains("no changes but a new release"));
    site.file("index.php", "<?php echo 2;");
    let preview = plan(&site, &["--json"]).ok().json();
    let changed: Vec<_> = edits(&preview).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(changed, ["app/web"], "other code is another image, and nothing else: {preview}");

    let manifest = "app_layer:\n  ini:\n    memory_limit: 200M\naccess: {allow: [here]}\ndb: {memcache: 16MiB}\n\
                    labels:\n  default:\n    env: {GREETING: don't panic}\n    access: {allow: [office]}\n";
    site.file("magrathea.yml", manifest);
    let preview = plan(&site, &["--json"]).ok().json();
    let edits = edits(&preview);
    let of = |key: &str| edits.iter().find(|(k, ..)| k == key).unwrap_or_else(|| panic!("{key}: {edits:?}"));
    let (_, change, fields) = of("app/web");
    assert_eq!(change, "change");
    let field = |path: &str| fields.iter().find(|field| field["path"] == path).cloned();
    assert_eq!(field("env.GREETING").unwrap(), json!({"path": "env.GREETING", "old": null, "new": "don't panic"}));
    let ini = fields.iter().find(|field| field["new"].as_str().is_some_and(|new| new.contains("memory_limit = 200M")));
    let ini = ini.unwrap_or_else(|| panic!("{fields:?}"));
    assert!(ini["old"].as_str().unwrap().contains("memory_limit = 128M"), "{ini}");
    assert_eq!(of("db/memcached").1, "add");
    assert!(of("routing/route").2.iter().any(|f| f["new"] == "192.0.2.0/24\n2001:db8::/32\n"), "{edits:?}");
    assert!(edits.iter().all(|(key, ..)| !key.starts_with("storage/")), "{edits:?}");
    let origin = |path: &str| {
        let values = preview["values"].as_array().unwrap();
        let value = values.iter().find(|value| value["path"] == path).unwrap_or_else(|| panic!("{path}: {values:?}"));
        (value["value"].as_str().unwrap().to_owned(), value["origin"].clone())
    };
    let at = |line: u32, label: bool| json!({"file": "magrathea.yml", "line": line, "from_label": label});
    assert_eq!(origin("app_layer.ini.memory_limit"), ("200M".into(), at(3, false)));
    assert_eq!(origin("db.memcache"), ("16MiB".into(), at(5, false)));
    assert_eq!(origin("env.GREETING"), ("don't panic".into(), at(8, true)));
    assert_eq!(origin("access.allow"), (r#"["office"]"#.into(), at(9, true)));
    assert_eq!(origin("app_layer.replicas"), ("1".into(), Value::Null));

    // The same for people.
    let said = plan(&site, &[]).ok().stdout;
    for line in [
        "  ~ app/web",
        "      env.GREETING: (none) -> don't panic",
        "        - memory_limit = 128M",
        "        + memory_limit = 200M",
        "  + db/memcached",
        "  ~ routing/route",
        "        + 192.0.2.0/24",
        "1 to add, 2 to change, 0 to remove",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
    let row = |said: &str, path: &str| {
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(path));
        line.unwrap_or_else(|| panic!("{path}: {said}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&said, "access.allow"), r#"access.allow ["office"] magrathea.yml:9 (label)"#);
    assert_eq!(row(&said, "app_layer.ini.memory_limit"), "app_layer.ini.memory_limit 200M magrathea.yml:3");
    assert!(!said.contains("app_layer.replicas"), "defaults are for those who ask: {said}");
    assert_eq!(row(&plan(&site, &["--values"]).ok().stdout, "app_layer.replicas"), "app_layer.replicas 1 default");
    let text = plan(&site, &["--rendered", "app/web/etc/magrathea/php/app.ini"]).ok().stdout;
    assert!(text.contains("memory_limit = 200M"), "{text}");

    assert_eq!(everything(&site), before, "a plan changes nothing");
    site.deploy().ok();
    assert_ne!(everything(&site), before, "the comparison sees a deploy");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn what_cannot_be_planned_says_why_and_ends_with_its_code() {
    let lab = Lab::get();
    let site = Site::new(&lab, "unplanned");
    site.file("index.php", "<?php echo 1;");
    for (manifest, more, code, says) in [
        ("", &["--rendered", "nope"][..], 2, "routing/route/backend"),
        ("", &["--label", "absent"], 3, "absent"),
        ("app_layer: {replcas: 2}\n", &[], 3, "magrathea.yml:1"),
        ("secrets: [SMTP_PASSWORD]\n", &[], 3, "td config set SMTP_PASSWORD"),
        ("access: {allow: [nowhere]}\n", &[], 3, "here, office"),
        ("build: {buildpack: tomcat}\n", &[], 4, "tomcat"),
        ("labels: {default: {cluster: rome}}\n", &[], 3, "rome"),
    ] {
        site.file("magrathea.yml", manifest);
        for json in [&[][..], &["--json"]] {
            let ended = plan(&site, &[more, json].concat());
            assert_eq!(ended.code, code, "{manifest}{more:?}: {ended:?}");
            let last = ended.stderr.lines().last().unwrap_or_default();
            match json.is_empty() {
                true => assert!(ended.stderr.contains(says), "{manifest}{more:?}: {}", ended.stderr),
                false => assert_eq!(serde_json::from_str::<Value>(last).unwrap()["error"]["exit"], code, "{last}"),
            }
            assert_eq!(ended.stdout, "", "{manifest}{more:?}");
        }
    }
    let nobody = lab
        .td_command(site.path(), &["app", "plan", "--dirty", "--app", "unplanned"])
        .env("TD_TOKEN", "mag_wrong")
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(5));
    assert_ne!(site.td(&["app", "info"]).code, 0, "no plan made the app");
}
