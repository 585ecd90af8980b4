//! What is made of source trees.

use magrathea_core::manifest::{FILE_NAME, parse_manifest};
use proptest::prelude::*;

use super::*;

fn tree(files: &[&str]) -> Tree {
    Tree { files: files.iter().map(|f| (*f).to_owned()).collect(), texts: BTreeMap::new() }
}

fn with(files: &[&str], texts: &[(&str, &str)]) -> Tree {
    let mut tree = tree(files);
    tree.files.extend(texts.iter().map(|(path, _)| (*path).to_owned()));
    tree.texts = texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    tree
}

fn sections(manifest: &str) -> Sections {
    let (manifest, _) = parse_manifest(FILE_NAME, manifest).unwrap_or_else(|e| panic!("{e}"));
    manifest.labels.into_values().next().unwrap().sections
}

/// The recipe, or the error, in a few lines.
fn show(tree: &Tree, manifest: &str) -> String {
    match plan_build(tree, &sections(manifest)) {
        Ok(recipe) => {
            let titles: Vec<&str> = recipe.commands.iter().map(|c| c.title.as_str()).collect();
            let mut out = format!(
                "{} ({}): {} {} on {}, root {}, output {:?}, runs {titles:?}",
                recipe.buildpack,
                recipe.reason,
                recipe.runtime_image,
                recipe.version,
                recipe.builder_image,
                recipe.root,
                recipe.output,
            );
            recipe.warnings.iter().for_each(|w| out += &format!("\n  warning: {w}"));
            out
        }
        Err(e) => format!("error: {e}\n  hint: {}", e.hint.clone().unwrap_or_default()),
    }
}

#[test]
fn a_folder_is_recognised() {
    let out: Vec<String> = [
        tree(&["index.php"]),
        tree(&["web/index.php", "lib/a.php"]),
        tree(&["public/index.php", "public/index.html"]),
        tree(&["about.php"]),
        tree(&["index.html", "style.css"]),
        tree(&["public/index.htm"]),
        tree(&["WEB-INF/web.xml", "index.jsp"]),
        tree(&["webapp/WEB-INF/web.xml"]),
        tree(&["shop.war"]),
        tree(&["target/it's.war"]),
        tree(&["a.war", "b.war"]),
        tree(&["pom.xml", "src/main/webapp/index.jsp"]),
        tree(&["README.md"]),
        tree(&[]),
        with(&["index.php", "app.json"], &[("Procfile", "web: apache2\nworker: php work.php\n")]),
    ]
    .iter()
    .map(|tree| show(tree, ""))
    .collect();
    insta::assert_snapshot!(out.join("\n"), @r#"
    php (index.php found): php 8.4 on php-build, root ., output None, runs []
    php (web/index.php found): php 8.4 on php-build, root web, output None, runs []
    php (public/index.php found): php 8.4 on php-build, root public, output None, runs []
    php (about.php found): php 8.4 on php-build, root ., output None, runs []
    static (an index file found): static 2.4 on php-build, root ., output None, runs []
    static (an index file found in public): static 2.4 on php-build, root public, output None, runs []
    tomcat (WEB-INF/web.xml found): tomcat 10.1 on tomcat-build, root ., output None, runs []
    tomcat (WEB-INF/web.xml found): tomcat 10.1 on tomcat-build, root ., output Some("webapp"), runs []
    tomcat (shop.war found): tomcat 10.1 on tomcat-build, root ., output Some(".magrathea/webapp"), runs ["unpack the WAR"]
    tomcat (target/it's.war found): tomcat 10.1 on tomcat-build, root ., output Some(".magrathea/webapp"), runs ["unpack the WAR"]
    error: there are 2 WAR files; which one is the app is not clear
      hint: keep one, at the top or in target/
    tomcat (pom.xml found): tomcat 10.1 on tomcat-build, root ., output Some(".magrathea/webapp"), runs ["mvn package", "unpack the WAR"]
    error: no buildpack recognises this folder
      hint: looked for composer.json and index.php (php), pom.xml, *.war and WEB-INF/web.xml (tomcat), index.html (static), at the top and in web, public, htdocs, www, public_html; or set `build.buildpack`
    error: no buildpack recognises this folder
      hint: looked for composer.json and index.php (php), pom.xml, *.war and WEB-INF/web.xml (tomcat), index.html (static), at the top and in web, public, htdocs, www, public_html; or set `build.buildpack`
    php (index.php found): php 8.4 on php-build, root ., output None, runs []
      warning: Procfile is not used (web, worker): the stack starts the app itself
      warning: app.json is not used: write `env` and `secrets` in magrathea.yml
    "#);
}

#[test]
fn composer_is_followed() {
    let composer = |json: &str, lock: Option<&str>| {
        let mut texts = vec![("composer.json", json)];
        texts.extend(lock.map(|lock| ("composer.lock", lock)));
        with(&["public/index.php"], &texts)
    };
    let out: Vec<String> = [
        composer("{}", None),
        composer(r#"{"require": {"php": "^8.1", "ext-json": "*"}, "autoload": {"psr-4": {}}}"#, None),
        composer(
            r#"{"require": {"php": ">=8.2", "monolog/monolog": "^3"}}"#,
            Some(r#"{"packages": [], "platform": []}"#),
        ),
        composer(r#"{"require": {"monolog/monolog": "^3"}}"#, None),
        composer(r#"{"require": {"php": "^7.4", "ext-oci8": "*", "ext-PDO": "*"}}"#, None),
        composer(
            r#"{"require": {}}"#,
            Some(r#"{"packages": [{"name": "a/b", "require": {"php": "~8.3.0", "ext-imagick": "*"}}]}"#),
        ),
        composer(r#"{"require": {"php": "whatever"}, "autoload": {}}"#, None),
        composer("{", None),
        composer(r#"{"require": "x"}"#, None),
        with(&["index.php", "vendor/autoload.php"], &[("composer.json", r#"{"require": {"a/b": "*"}}"#)]),
    ]
    .iter()
    .map(|tree| show(tree, ""))
    .collect();
    insta::assert_snapshot!(out.join("\n"), @r#"
    php (composer.json found): php 8.4 on php-build, root public, output None, runs []
    php (composer.json found): php 8.4 on php-build, root public, output None, runs ["composer install"]
    php (composer.json found): php 8.4 on php-build, root public, output None, runs ["composer install"]
    error: composer.json requires packages, but there is no composer.lock that says which versions
      hint: run `composer update` and commit composer.lock
    error: the stack does not have what the app needs: composer.json requires PHP ^7.4; composer.json requires the extension oci8
      hint: the stack is PHP 8.4 with the extensions listed in docs/reference/buildpacks.md
    error: the stack does not have what the app needs: a/b requires PHP ~8.3.0; a/b requires the extension imagick
      hint: the stack is PHP 8.4 with the extensions listed in docs/reference/buildpacks.md
    php (composer.json found): php 8.4 on php-build, root public, output None, runs ["composer install"]
      warning: composer.json: the constraint "whatever" of php is not understood
    error: composer.json is not valid: EOF while parsing an object at line 1 column 1
      hint: `composer validate` shows what composer makes of it
    error: composer.json is not valid: `require` is not a map of packages at line 1 column 16
      hint: `composer validate` shows what composer makes of it
    php (composer.json found): php 8.4 on php-build, root ., output None, runs []
      warning: no composer.lock: the vendor folder is taken as it is
    "#);
}

#[test]
fn the_manifest_has_the_last_word() {
    let php = tree(&["index.php", "web/index.html", "pack/bin/detect", "pack/bin/build"]);
    let out: Vec<String> = [
        "build: {buildpack: static}",
        "build: {buildpack: static}\napp_layer: {stack: php}",
        "app_layer: {stack: static, root: web}",
        "app_layer: {root: nowhere}",
        "app_layer: {root: made}\nbuild: {commands: [make, 'echo a\n  b']}",
        "app_layer: {version: 8.4}",
        "app_layer: {version: 7.4}",
        "app_layer: {stack: tomcat}",
        "app_layer: {stack: tomcat}\nbuild: {commands: [gradle war]}",
        "build: {buildpack: ./pack}",
        "build: {buildpack: ./other}",
    ]
    .iter()
    .map(|manifest| show(&php, manifest))
    .collect();
    insta::assert_snapshot!(out.join("\n"), @r#"
    static (an index file found in web): static 2.4 on php-build, root web, output None, runs []
    error: the buildpack `static` does not make what the stack `php` runs
      hint: leave out `app_layer.stack`, or name the same in both
    static (an index file found in web): static 2.4 on php-build, root web, output None, runs []
    error: the served folder `nowhere` does not exist
      hint: `app_layer.root` names a folder of the repository, or one that a build command makes
    php (index.php found): php 8.4 on php-build, root ., output None, runs ["make", "echo a b"]
    php (index.php found): php 8.4 on php-build, root ., output None, runs []
    error: there is no php 7.4
      hint: the stack `php` has 8.4; leave out `app_layer.version` for the newest
    error: there is no web application for tomcat
      hint: looked for pom.xml, for WEB-INF/web.xml in ., webapp, web, WebContent, and for a WAR file at the top or in target/
    tomcat (made by `build.commands`): tomcat 10.1 on tomcat-build, root ., output Some(".magrathea/webapp"), runs ["gradle war", "unpack the WAR"]
    ./pack (named in magrathea.yml): php 8.4 on php-build, root ., output None, runs ["pack/bin/detect", "pack/bin/build"]
    error: the buildpack ./other has no bin/detect
      hint: a buildpack is a folder with the programs bin/detect and bin/build; see docs/reference/buildpacks.md
    "#);
}

#[test]
fn commands_are_ready_for_a_shell() {
    let run = |tree: &Tree, manifest: &str| -> String {
        let recipe = plan_build(tree, &sections(manifest)).unwrap();
        recipe.commands.iter().map(|c| format!("{} (network: {})\n", c.run, c.network)).collect()
    };
    let out = run(&tree(&["pom.xml"]), "")
        + &run(&tree(&["it's.war"]), "")
        + &run(&with(&[], &[("composer.json", "{}"), ("composer.lock", "{}")]), "")
        + &run(&tree(&["index.php", "p/bin/detect", "p/bin/build"]), "build: {buildpack: ./p, env: {A: \"it's\"}}");
    insta::assert_snapshot!(out, @r#"
    mvn -B -ntp -DskipTests -Dmaven.repo.local=/cache/maven package (network: true)
    war=$(find . -path '*/target/*.war' -o -path '*/build/libs/*.war' | sort | head -n 1)
    if [ -z "$war" ]; then echo 'the build made no WAR file in target/ or build/libs/' >&2; exit 1; fi
    mkdir -p .magrathea/webapp && unzip -q -o "$war" -d .magrathea/webapp (network: false)
    mkdir -p .magrathea/webapp && unzip -q -o './it'\''s.war' -d .magrathea/webapp (network: false)
    export COMPOSER_ROOT_VERSION="${COMPOSER_ROOT_VERSION:-1.0.0}"
    COMPOSER_CACHE_DIR=/cache/composer composer install --no-dev --no-interaction --prefer-dist --optimize-autoloader --no-progress (network: true)
    './p/bin/detect' "$PWD" || { status=$?; [ $status -gt 125 ] || echo 'the buildpack ./p does not take this source' >&2; exit $status; } (network: true)
    env_dir=$(mktemp -d)
    printf %s 'it'\''s' > "$env_dir/A"
    './p/bin/build' "$PWD" /cache "$env_dir" (network: true)
    "#);
}

#[test]
fn extensions_can_be_searched() {
    assert!(PHP_EXTENSIONS.is_sorted());
}

#[test]
fn the_reference_lists_the_extensions() {
    let page = include_str!("../../docs/reference/buildpacks.md").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(&PHP_EXTENSIONS.join(", ")), "docs/reference/buildpacks.md: {}", PHP_EXTENSIONS.join(", "));
}

#[test]
fn what_init_writes_is_a_valid_manifest() {
    let trees = [
        tree(&["index.php"]),
        tree(&["index.html"]),
        tree(&["shop.war"]),
        tree(&["wp-includes/version.php", "index.php"]),
        tree(&["web/core/lib/Drupal.php", "web/index.php"]),
        tree(&["artisan", "public/index.php"]),
        tree(&["config/bundles.php", "public/index.php"]),
        tree(&["index.php", "uploads/a.png"]),
        with(&["web/index.php", "web/files/x"], &[("composer.json", r#"{"require": {"ext-mysqli": "*"}}"#)]),
    ];
    for tree in &trees {
        let recipe = plan_build(tree, &Sections::default()).unwrap();
        let text = init_manifest(&"blog".parse().unwrap(), &recipe, tree);
        let (manifest, warnings) = parse_manifest(FILE_NAME, &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(warnings.0.is_empty(), "{warnings}\n{text}");
        let resolved = manifest.labels.into_values().next().unwrap();
        let again = plan_build(tree, &resolved.sections).unwrap();
        assert_eq!((again.stack, again.root), (recipe.stack, recipe.root));
    }
    let wordpress = &trees[3];
    let recipe = plan_build(wordpress, &Sections::default()).unwrap();
    insta::assert_snapshot!(init_manifest(&"blog".parse().unwrap(), &recipe, wordpress), @r"
    # Every key is explained in docs/reference/magrathea-yml.md.
    app: blog

    build:
      buildpack: php  # WordPress, index.php found

    app_layer:
      root: .  # the folder that is served
      replicas: 1
      # health: {path: /up, expect: 200}  # what must answer before a release gets visitors

    storage:
      writable:  # everything else is read-only
        wp-content/uploads: {kind: shared}

    db:
      mysql: {}  # a MariaDB database of its own; see DATABASE_URL
      # memcache: 64MiB

    # hooks: {release: [php migrate.php]}  # before a new release gets visitors
    # secrets: [SMTP_PASSWORD]  # names only; values are set with `td config set`
    # routing: {domains: [blog.example], tls: auto}  # a name below the cluster's domain when absent
    # proxy: {ttl: 2m, bypass_cookies: [session*]}  # keeps pages that say nothing about caching
    # labels:  # variants of the app, each on its cluster
    #   production: {cluster: milan, branch: main, app_layer: {replicas: 3}}
    ");
}

proptest! {
    #[test]
    fn no_composer_file_is_too_strange(text in any::<String>(), files in prop::collection::btree_set("[a-z./]{0,12}", 0..8)) {
        let texts = BTreeMap::from([("composer.json".into(), text.clone()), ("composer.lock".into(), text.clone()), ("Procfile".into(), text)]);
        let mut tree = Tree { files, texts };
        tree.files.insert("composer.json".into());
        tree.files.insert("composer.lock".into());
        let _ = plan_build(&tree, &Sections::default());
    }
}
