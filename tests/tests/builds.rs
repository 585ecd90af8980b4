//! Builds with programs: the app's own buildpack, composer, Maven. None of them needs a package registry.

use std::path::Path;
use std::process::Command;

use magrathea_tests::{Ended, Lab, run, site::Site};

/// A deploy that must fail in its build.
#[track_caller]
fn build_fails(site: &Site, says: &[&str]) {
    let ended = site.deploy();
    let missing: Vec<_> = says.iter().filter(|word| !ended.stderr.contains(**word)).collect();
    assert!(ended.code == 4 && missing.is_empty(), "exit {}, not told {missing:?}:\n{}", ended.code, ended.stderr);
}

/// A deploy that must succeed, with its build's log.
#[track_caller]
fn build_says(site: &Site, says: &[&str]) -> Ended {
    let ended = site.deploy().ok();
    let missing: Vec<_> = says.iter().filter(|word| !ended.stderr.contains(**word)).collect();
    assert!(missing.is_empty(), "not told {missing:?}:\n{}", ended.stderr);
    ended
}

fn program(site: &Site, path: &str, text: &str) {
    site.file(path, text);
    set_mode(&site.path().join(path), 0o755);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

const DETECT: &str = "#!/bin/sh\n[ -e \"$1/planet.txt\" ] || { echo 'no planet.txt' >&2; exit 1; }\necho planet\n";

/// Counts its runs in the cache, reads the environment's folder, and looks for what it must not see.
const BUILD: &str = r#"#!/bin/sh
set -eu
[ "$(pwd)" = "$1" ]
count=$(($(cat "$2/count" 2>/dev/null || echo 0) + 1))
echo "$count" >"$2/count"
mkdir "$1/public"
echo "$(cat "$1/planet.txt") $(cat "$3/MOTTO") run $count uid $(id -u) ${APP_ONLY-no-env}" >"$1/public/index.html"
touch /usr/x 2>/dev/null || echo "the builder stays as it is"
"#;

const OWN_MANIFEST: &str = "build: {buildpack: ./tools/pack, env: {MOTTO: \"don't panic\"}}
env: {APP_ONLY: visible}
app_layer: {stack: static, root: public}
";

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_apps_own_buildpack_decides_builds_and_keeps_a_cache() {
    let lab = Lab::get();
    let site = Site::new(&lab, "slartibartfast");
    site.file("magrathea.yml", OWN_MANIFEST);
    program(&site, "tools/pack/bin/detect", DETECT);
    build_fails(&site, &["the buildpack ./tools/pack has no bin/build", "docs/reference/buildpacks.md"]);
    program(&site, "tools/pack/bin/build", BUILD);
    build_fails(&site, &["no planet.txt", "./tools/pack does not take this source", "bin/detect ended with status 1"]);

    site.file("planet.txt", "Earth");
    build_says(&site, &["tools/pack/bin/build", "the builder stays as it is"]);
    assert_eq!(site.get("/").await, (200, "Earth don't panic run 1 uid 199999 no-env\n".into()));
    site.file("planet.txt", "Earth Mark II");
    site.deploy().ok();
    let second = (200, "Earth Mark II don't panic run 2 uid 199999 no-env\n".to_owned());
    assert_eq!(site.get("/").await, second, "the cache is kept between builds, the source is not");

    // Another app with the same buildpack begins with an empty cache.
    let other = Site::new(&lab, "hotblack");
    other.file("magrathea.yml", OWN_MANIFEST).file("planet.txt", "Gagrakacka");
    program(&other, "tools/pack/bin/detect", DETECT);
    program(&other, "tools/pack/bin/build", BUILD);
    other.deploy().ok();
    assert_eq!(other.get("/").await.1, "Gagrakacka don't panic run 1 uid 199999 no-env\n");

    let fails = "#!/bin/sh\nfor n in 1 2 3; do echo \"fjord $n\"; done\necho 'the coast is crinkly' >&2\nexit 42\n";
    program(&site, "tools/pack/bin/build", fails);
    build_fails(&site, &["fjord 3", "the coast is crinkly", "tools/pack/bin/build ended with status 42"]);
    set_mode(&site.path().join("tools/pack/bin/build"), 0o644);
    build_fails(&site, &["Permission denied", "hint:", "chmod=+x"]);
    program(&site, "tools/pack/bin/build", "#!/usr/bin/no-such-language\n");
    build_fails(&site, &["not found", "hint:", "interpreter"]);
    assert_eq!(site.get("/").await, second, "what served serves on");
}

/// Writes a package's zip file as composer's `artifact` repositories have it.
fn artifact(site: &Site, name: &str, version: &str, requires: &str, files: &[(&str, &str)]) {
    let folder = site.path().join("artifacts");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        r#"{{"name": "{name}", "version": "{version}", "require": {{{requires}}}, "autoload": {{"psr-4": {{"Galaxy\\": "src/"}}}}}}"#
    );
    let script = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as out:
    for name, text in zip(sys.argv[2::2], sys.argv[3::2]): out.writestr(name, text)";
    let file = folder.join(format!("{}-{version}.zip", name.replace('/', "-")));
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(file).args(["composer.json", &manifest]);
    run(python.args(files.iter().flat_map(|(path, text)| [path, text]))).ok();
}

/// Writes the lock file, as a person does before a commit: with composer, here the builder image's.
fn lock(lab: &Lab, site: &Site) {
    let image = lab.docker(&["images", "--filter", "label=magrathea.image=php-build", "--format", "{{.ID}}"]);
    let source = format!("{}:/app", site.path().display());
    let update = ["composer", "update", "--no-install", "--quiet", "--ignore-platform-reqs"];
    let run = ["run", "--rm", "--network", "none", "-w", "/app", "-v", &source, image.lines().next().unwrap()];
    lab.docker(&[&run[..], &update].concat());
}

/// `require` and what else differs; nothing comes from packagist.
fn composer_json(site: &Site, require: &str) {
    site.file(
        "composer.json",
        format!(
            r#"{{"name": "galaxy/guide",
              "repositories": [{{"type": "path", "url": "packages/*"}}, {{"type": "artifact", "url": "artifacts"}},
                               {{"packagist.org": false}}],
              "require": {{{require}}}, "require-dev": {{"galaxy/vogon": "*"}},
              "autoload": {{"psr-4": {{"Guide\\": "src/"}}}}}}"#
        ),
    );
}

const PAGE: &str = r#"<?php require __DIR__ . '/../vendor/autoload.php';
echo Guide\Entry::text(), ', ', Galaxy\Towel::say(), ', ', Galaxy\Fish::say(), defined('VOGON') ? ', vogon' : '';"#;

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn composer_installs_what_the_lock_file_says_and_says_what_does_not_fit() {
    let lab = Lab::get();
    let site = Site::new(&lab, "composed");
    site.file("web/index.php", PAGE)
        .file("src/Entry.php", "<?php namespace Guide; class Entry { static function text() { return 'harmless'; } }")
        .file(
            "packages/vogon/composer.json",
            r#"{"name": "galaxy/vogon", "version": "1.0", "autoload": {"files": ["v.php"]}}"#,
        )
        .file("packages/vogon/v.php", "<?php define('VOGON', 1);")
        .file(
            "packages/fish/composer.json",
            r#"{"name": "galaxy/fish", "version": "1.0", "autoload": {"psr-4": {"Galaxy\\": "src/"}}}"#,
        )
        .file(
            "packages/fish/src/Fish.php",
            "<?php namespace Galaxy; class Fish { static function say() { return 'thanks'; } }",
        );
    let towel = |version: &str, requires: &str| {
        let code = format!("<?php namespace Galaxy; class Towel {{ static function say() {{ return '{version}'; }} }}");
        artifact(&site, "galaxy/towel", version, requires, &[("src/Towel.php", &code)]);
    };
    let needs = r#""php": "^8.2", "galaxy/towel": "^1.0", "galaxy/fish": "*""#;
    towel("1.0.0", r#""ext-mbstring": "*""#);
    composer_json(&site, needs);
    lock(&lab, &site);
    build_says(&site, &["Downloading galaxy/towel (1.0.0)"]);
    assert_eq!(site.get("/").await, (200, "harmless, 1.0.0, thanks".into()), "without what is for development");

    // The lock file decides, not what would be newest; and what was once downloaded comes from the app's cache.
    std::fs::remove_file(site.path().join("artifacts/galaxy-towel-1.0.0.zip")).unwrap();
    towel("1.5.0", r#""ext-imagick": "*""#);
    let second = build_says(&site, &["Installing galaxy/towel (1.0.0)"]);
    assert!(!second.stderr.contains("Downloading"), "{}", second.stderr);
    let served = (200, "harmless, 1.0.0, thanks".to_owned());
    assert_eq!(site.get("/").await, served);

    let at_once = |says: &[&str]| {
        build_fails(&site, says);
        let offline = site.td(&["app", "validate"]);
        assert!(offline.code != 0 && offline.stderr.contains(says[0]), "told without a deploy too: {}", offline.stderr);
    };
    composer_json(&site, &format!(r#"{needs}, "ext-ldap": "*""#));
    at_once(&["composer.json requires the extension ldap", "docs/reference/buildpacks.md"]);
    composer_json(&site, needs);
    let kept = std::fs::read(site.path().join("composer.lock")).unwrap();
    lock(&lab, &site);
    at_once(&["galaxy/towel requires the extension imagick"]);

    site.file("composer.lock", kept);
    composer_json(&site, &format!(r#"{needs}, "galaxy/vogon": "*""#));
    build_fails(&site, &["\"galaxy/vogon\"", "hint:", "composer update"]);
    composer_json(&site, r#""galaxy/towel": "^2.0", "galaxy/fish": "*""#);
    build_fails(&site, &["galaxy/towel", "^2.0", "hint:", "composer update"]);
    assert_eq!(site.get("/").await, served, "what served serves on");
}

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>deep-thought</artifactId>
  <version>1.0</version>
  <packaging>war</packaging>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
</project>
"#;

fn answer(site: &Site, answer: &str) {
    let code = format!(
        "package org.example; public class Answer {{ public static String give() {{ return \"{answer}\"; }} }}"
    );
    site.file("src/main/java/org/example/Answer.java", code);
}

/// Settings that name one repository for everything.
fn mirror(site: &Site, url: &str) {
    site.file(".mvn/maven.config", "-s\n.mvn/settings.xml\n").file(
        ".mvn/settings.xml",
        format!("<settings><mirrors><mirror><id>own</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors></settings>"),
    );
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_maven_project_is_built_from_its_own_repository_and_then_from_the_cache() {
    let lab = Lab::get();
    let site = Site::new(&lab, "deepthought");
    site.file("pom.xml", POM)
        .file("src/main/webapp/WEB-INF/web.xml", "<web-app/>")
        .file("src/main/webapp/index.jsp", "<%= org.example.Answer.give() %>")
        .file("magrathea.yml", "app_layer: {memory: 512MiB, health: {watch: 0s}}\n");
    answer(&site, "42");

    // A repository that nothing answers for, which is what a network without Maven Central is like.
    mirror(&site, "http://127.0.0.1:9/maven");
    build_fails(&site, &["Could not transfer artifact", "127.0.0.1:9", "hint:", ".mvn/settings.xml"]);

    mirror(&site, "file:///app/repository");
    let repository = site.path().join("repository");
    let script = lab.repository.join("tests/fixtures/debian-maven.sh");
    run(Command::new(script).args([&repository, site.path()])).ok();
    build_says(&site, &["tomcat: pom.xml found", "BUILD SUCCESS"]);
    assert_eq!(site.get("/").await.1.trim(), "42");

    std::fs::remove_dir_all(repository).unwrap();
    answer(&site, "forty-two");
    build_says(&site, &["BUILD SUCCESS"]);
    assert_eq!(site.get("/").await.1.trim(), "forty-two", "plugins and libraries come from the app's cache");

    answer(&site, "\" + question + \"");
    build_fails(&site, &["COMPILATION ERROR", "Answer.java", "question", "mvn package ended with status 1"]);
    assert_eq!(site.get("/").await.1.trim(), "forty-two");
}
