//! Instances of branches: made by a push or by td, and gone with their branch or their time.

use std::time::Duration;

use magrathea_tests::people::Organisation;
use magrathea_tests::repo::Repo;
use magrathea_tests::{Lab, site::Site, until};

const MANIFEST: &str = r#"
app_layer: {stack: php, memory: 128MiB}
storage: {writable: {uploads: {kind: shared}}}
labels:
  live: {branch: main}
  "preview/*": {branch: feature/*, expire: 1h, env: {KIND: preview}}
"#;

const PAGE: &str = "<?php header('Cache-Control: no-store'); echo getenv('KIND') ?: 'live';";

async fn get(lab: &Lab, host: &str) -> (u16, String) {
    let answer = lab.client().get(lab.url(host, "/")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_branch_has_an_environment_of_its_own() {
    let lab = Lab::get();
    let (site, repo) = (Site::new(&lab, "branches"), Repo::new(&lab));
    site.td(&["app", "create", "branches"]).ok();
    repo.link("branches").file("magrathea.yml", MANIFEST).file("index.php", PAGE).commit();
    repo.push("main").ok();
    let said = repo.push("main:feature/Login_Form").ok().stderr;
    assert!(said.contains("=====> v1 of branches, label preview-login-form on "), "{said}");
    let host = "branches-preview-login-form.localhost";
    assert_eq!(get(&lab, host).await, (200, "preview".into()));
    assert_eq!(get(&lab, "branches-live.localhost").await, (200, "live".into()));

    // td says the label as people think of it, or deploys the branch that is checked out.
    repo.git(&["checkout", "--quiet", "-b", "feature/cart"]).ok();
    repo.td(&["app", "deploy", "--app", "branches"]).ok();
    repo.td(&["app", "deploy", "--app", "branches", "--label", "preview/cart"]).ok();
    let list = site.td(&["preview", "list", "--json"]).ok().json();
    let rows: Vec<_> =
        list.as_array().unwrap().iter().map(|p| (&p["label"], &p["preview"]["branch"], &p["state"])).collect();
    let expected =
        [("preview-cart", "feature/cart", "serving"), ("preview-login-form", "feature/Login_Form", "serving")];
    assert_eq!(serde_json::json!(rows), serde_json::json!(expected));
    let shown = site.td(&["preview", "list"]).ok().stdout;
    assert!(shown.contains("GiB h") && shown.contains("in 59m"), "{shown}");
    let info = site.td(&["app", "info", "--label", "preview/cart"]).ok().stdout;
    assert!(info.contains("preview  of feature/cart, expires in 59m"), "{info}");
    assert!(!info.contains("live"), "{info}");

    // It goes with its branch, and nothing of it stays.
    let slug = list[1]["id"].as_str().unwrap().replace('-', "");
    let slug = format!("i{}", &slug[20..]);
    let said = repo.push(":feature/Login_Form").ok().stderr;
    assert!(said.contains("destroying the preview preview-login-form with its data"), "{said}");
    assert_ne!(get(&lab, host).await.0, 200);
    until(Duration::from_secs(30), "nothing of it stays", || {
        let left = |args: &[&str]| {
            magrathea_tests::run(std::process::Command::new("docker").args(args)).stdout.contains(slug.as_str())
        };
        !left(&["service", "ls", "--format", "{{.Name}}"])
            && !left(&["network", "ls", "--format", "{{.Name}}"])
            && !left(&["secret", "ls", "--format", "{{.Name}}"])
    });

    // Or when its time is over.
    let extended = site.td(&["preview", "extend", "preview/cart", "3d"]).ok().stderr;
    let days = ["2d", "3d"].map(|days| format!("branches (preview-cart) expires in {days}"));
    assert!(days.iter().any(|days| extended.contains(days)), "{extended}");
    for (args, said) in [
        (&["preview", "extend", "preview/cart", "400d"][..], "up to 365d"),
        (&["preview", "extend", "live", "3d"], "is no preview"),
        (&["preview", "destroy", "live"], "is no preview"),
        (&["preview", "destroy", "preview/none"], "no instance with the label preview-none"),
    ] {
        let refused = site.td(args);
        assert!(refused.code == 1 && refused.stderr.contains(said), "{refused:?}");
    }
    site.td(&["preview", "extend", "preview-cart", "1s"]).ok();
    until(Duration::from_secs(30), "it expires", || {
        site.td(&["preview", "list", "--json"]).ok().json().as_array().unwrap().is_empty()
    });
    let timeline = site.td(&["timeline", "--json"]).ok().stdout;
    for line in ["preview.created", "preview.extended", "the preview has expired", "its branch was deleted"] {
        assert!(timeline.contains(line), "{line}: {timeline}");
    }
    assert_eq!(get(&lab, "branches-live.localhost").await, (200, "live".into()));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_role_on_the_pattern_is_one_on_every_preview() {
    let lab = Lab::get();
    let studio = Organisation::new(&lab, "previewers");
    let (site, repo) = (Site::new(&lab, "shown"), Repo::new(&lab));
    site.td(&["app", "create", "shown"]).ok();
    repo.link("shown").file("magrathea.yml", MANIFEST).file("index.php", PAGE).commit();
    repo.push("main").ok();
    let ada = studio.person("ada-previews", &["--role", "developer"]);
    // Another organisation's app: shared as far as the previews go.
    site.td(&["grant", "add", "developer", "org:previewers", "--label", "preview/*"]).ok();
    let listed = site.td(&["grant", "list", "--json"]).ok().stdout;
    assert!(listed.contains("preview/*"), "{listed}");
    let url = repo.git(&["remote", "get-url", "magrathea"]).ok().stdout;
    let hers = url.trim().replacen("https://", &format!("https://ada:{}@", ada.token()), 1);
    repo.git(&["remote", "set-url", "magrathea", &hers]).ok();
    let said = repo.push("main:feature/ada").ok().stderr;
    assert!(said.contains("label preview-ada on "), "{said}");
    assert_eq!(get(&lab, "shown-preview-ada.localhost").await, (200, "preview".into()));
    repo.file("index.php", "<?php").commit();
    let said = repo.push("main").stderr;
    assert!(said.contains("error:") && !said.contains("=====>"), "{said}");
    let seen = ada.td(&["app", "info", "--app", "shown", "--json"]).ok().json();
    assert_eq!(seen["instances"].as_array().unwrap().len(), 1, "{seen}");
    ada.td(&["preview", "extend", "preview/ada", "2d", "--app", "shown"]).ok();
    ada.td(&["preview", "destroy", "preview/ada", "--app", "shown"]).ok();
}
