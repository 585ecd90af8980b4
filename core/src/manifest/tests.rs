//! What people see when their manifest is read.

use proptest::prelude::*;

use super::*;
use crate::diagnostics::Severity;
use crate::units::ByteSize;

/// The example of the design, in full.
const FULL: &str = include_str!("testdata/full.yml");

fn parse(text: &str) -> Manifest {
    parse_manifest(FILE_NAME, text).unwrap_or_else(|e| panic!("{e}")).0
}

fn mistakes(text: &str) -> String {
    match parse_manifest(FILE_NAME, text) {
        Err(findings) => findings.to_string(),
        Ok((_, warnings)) => warnings.to_string(),
    }
}

/// One line per finding.
fn brief(text: &str) -> String {
    let findings = parse_manifest(FILE_NAME, text).map_or_else(|e| e, |(_, warnings)| warnings);
    let line = |d: &crate::diagnostics::Diagnostic| {
        let severity = if d.severity == Severity::Warning { "warning: " } else { "" };
        format!("{}:{} {severity}{} [{}] {}\n", d.line, d.column, d.message, d.path, d.hint.clone().unwrap_or_default())
    };
    findings.0.iter().map(line).collect()
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&manifest_json_schema()).unwrap()
}

#[test]
fn the_full_example_is_understood() {
    let manifest = parse(FULL);
    let production = manifest.label_for(None, Some("main")).unwrap();
    assert_eq!(production.label.as_str(), "production");
    assert_eq!(production.sections.app_layer.replicas, Replicas::Fixed(3));
    assert_eq!(production.sections.app_layer.ini.get("memory_limit").unwrap(), "256M");
    assert_eq!(production.sections.app_layer.health.expect, "200");
    let staging = manifest.label_for(Some("staging"), None).unwrap();
    assert_eq!(staging.sections.app_layer.replicas, Replicas::Fixed(1));
    assert_eq!(staging.sections.access.allow, ["10.0.0.0/8"]);
    assert_eq!(staging.sections.routing.domains, ["staging.blog.example"]);
    assert_eq!(staging.sections.routing.tls, Tls::Auto);
}

#[test]
fn a_file_may_be_empty() {
    for text in ["", "# nothing\n", "{}", "app_layer:\n", "labels:\n", "x-a: {anything: [1, {b: c}]}\n"] {
        let manifest = parse(text);
        assert_eq!(manifest.labels.keys().map(LabelName::as_str).collect::<Vec<_>>(), [DEFAULT_LABEL]);
        assert_eq!(manifest.label_for(None, Some("main")).unwrap().sections, Sections::default());
    }
    assert_eq!(parse(""), default_manifest());
}

#[test]
fn a_text_is_taken_as_written() {
    let sections = parse(
        "app_layer: {version: 8.40, cpus: 1, ini: {display_errors: off, precision: 014}, health: {expect: 200}}\n\
         env: {DEBUG: true, RATE: 1.50, EMPTY: '', HEX: 0x1F}\n",
    );
    let sections = &sections.labels.values().next().unwrap().sections;
    assert_eq!(sections.app_layer.version.as_deref(), Some("8.40"));
    assert_eq!(sections.app_layer.cpus.as_deref(), Some("1"));
    let pairs = sections.app_layer.ini.iter().chain(&sections.env).map(|(k, v)| format!("{k}={v}"));
    insta::assert_snapshot!(pairs.collect::<Vec<_>>().join(" "), @"display_errors=off precision=014 DEBUG=true EMPTY= HEX=0x1F RATE=1.50");
}

#[test]
fn nothing_behind_a_key_means_its_defaults_and_null_resets() {
    let text = "db: {mysql: }\nproxy: {ttl: 5m}\nenv: {A: one, B: two}\nlabels:\n  a:\n  b: {db: {mysql: null}, proxy: {ttl: ~}, env: {A: null}}\n";
    let manifest = parse(text);
    let of = |label: &str| &manifest.labels[&label.parse::<LabelName>().unwrap()].sections;
    assert_eq!(of("a").db.mysql, Some(Mysql::default()));
    assert_eq!(of("a").proxy.ttl.to_string(), "5m");
    assert_eq!(of("b").db.mysql, None);
    assert_eq!(of("b").proxy.ttl, Proxy::default().ttl);
    assert_eq!(of("b").env, BTreeMap::from([("B".into(), "two".into())]));
}

#[test]
fn anchors_and_extensions_can_be_used() {
    let manifest = parse("x-small: &small {replicas: 2, memory: 128MiB}\napp_layer:\n  <<: *small\n  memory: 256MiB\n");
    let resolved = manifest.labels.values().next().unwrap();
    assert_eq!(
        (resolved.sections.app_layer.replicas.clone(), resolved.sections.app_layer.memory.as_mib()),
        (Replicas::Fixed(2), 256)
    );
    assert_eq!(resolved.origins["app_layer.replicas"].line, 1);
}

#[test]
fn all_mistakes_are_shown_at_once_with_their_place() {
    let text = "app: Blog\n\
                app_layer:\n\
                \x20 replicass: 3\n\
                \x20 replicas: many\n\
                \x20 stack: phpp\n\
                \x20 memory: 256 megs\n\
                routing: {domains: blog.example, https_only: yes}\n\
                storage:\n\
                \x20 writable:\n\
                \x20   ../etc: {kind: shared}\n\
                \x20   web/uploads: {kind: forever}\n\
                \x20   web: {}\n\
                labels:\n\
                \x20 production: {cluster: Milan, app_layer: {replicas: 900}, memcache: 64MiB}\n";
    insta::assert_snapshot!(mistakes(text), @r#"
    error: `app` is not valid: app name "Blog" must start with a lower-case letter
      --> magrathea.yml:1:6
       |
     1 | app: Blog
       |      ^

    error: unknown key `replicass` in `app_layer`
      --> magrathea.yml:3:3
       |
     3 |   replicass: 3
       |   ^
      hint: did you mean `replicas`?

    error: `app_layer.replicas` wants a whole number from 1 to 64, or a map of keys, not the text "many"
      --> magrathea.yml:4:13
       |
     4 |   replicas: many
       |             ^

    error: `app_layer.stack` wants `php`, `tomcat` or `static`, not "phpp"
      --> magrathea.yml:5:10
       |
     5 |   stack: phpp
       |          ^
      hint: did you mean `php`?

    error: `app_layer.memory` is not valid: "256 megs" is not a size; write a whole number and a unit, as in 256MiB or 2GiB
      --> magrathea.yml:6:11
       |
     6 |   memory: 256 megs
       |           ^

    error: `routing.domains` wants a list, not the text "blog.example"
      --> magrathea.yml:7:20
       |
     7 | routing: {domains: blog.example, https_only: yes}
       |                    ^
      hint: write [blog.example]

    error: `routing.https_only` wants true or false, not the text "yes"
      --> magrathea.yml:7:46
       |
     7 | routing: {domains: blog.example, https_only: yes}
       |                                              ^
      hint: write true

    error: the key `../etc` must stay inside the repository
      --> magrathea.yml:10:5
        |
     10 |     ../etc: {kind: shared}
        |     ^
      hint: paths are relative to the repository and hold no `..`

    error: `storage.writable.web/uploads.kind` wants `shared`, `local` or `tmp`, not "forever"
      --> magrathea.yml:11:25
        |
     11 |     web/uploads: {kind: forever}
        |                         ^

    error: `storage.writable.web` lacks the key `kind`
      --> magrathea.yml:12:10
        |
     12 |     web: {}
        |          ^
      hint: add `kind`: `shared`, `local` or `tmp`

    error: `labels.production.cluster` is not valid: cluster name "Milan" must start with a lower-case letter
      --> magrathea.yml:14:25
        |
     14 |   production: {cluster: Milan, app_layer: {replicas: 900}, memcache: 64MiB}
        |                         ^

    error: `labels.production.app_layer.replicas` wants a whole number from 1 to 64, or a map of keys, not 900
      --> magrathea.yml:14:54
        |
     14 |   production: {cluster: Milan, app_layer: {replicas: 900}, memcache: 64MiB}
        |                                                      ^

    error: unknown key `memcache` in `labels.production`
      --> magrathea.yml:14:60
        |
     14 |   production: {cluster: Milan, app_layer: {replicas: 900}, memcache: 64MiB}
        |                                                            ^
      hint: `memcache` belongs below `db`
    "#);
}

#[test]
fn values_are_judged_in_words() {
    let text = r#"
build: {buildpack: phpp, commands: ["", "a\0b", [x]]}
app_layer:
  root: /var/www
  cpus: 0.01
  version: latest
  context: app
  replicas: "3"
  ini: {"bad name": 1, memory_limit: "a\nb"}
  health: {path: up, expect: 399-200, contains: {a: b}}
  locations: {uploads: {scripts: no}}
storage: {writable: {web/uploads/: {kind: local}, /abs: {kind: local}}}
db: {memcache: }
proxy: {kind: varnsh, ttl: 5, bypass_cookies: ["a b"], vcl: ./x/../y.vcl}
routing: {domains: [Blog.Example, "https://blog.example/x", a..b], tls: true}
access: {allow: [10.0.0.1/8, 300.1.1.1, 2001:db8::/32], basic_auth: htpasswd}
support: {cron: [{name: tick, schedule: "61 * * * *"}], backup: {daily: -1}}
tasks: {Reindex: {run: x}}
env: {lower: x, LIST: [a], NOTHING: }
secrets: {SMTP: x}
"#;
    insta::assert_snapshot!(brief(text), @r#"
    2:20 `build.buildpack` wants `php`, `static`, `tomcat`, or a folder that starts with `./`, not "phpp" [build.buildpack] did you mean `php`?
    2:37 `build.commands[0]` wants a command, not "" [build.commands[0]] 
    2:41 `build.commands[1]` wants a command, not "a\0b" [build.commands[1]] 
    2:49 `build.commands[2]` is a list; it wants a text [build.commands[2]] 
    4:9 `app_layer.root` must be relative to the repository [app_layer.root] write "var/www"
    5:9 `app_layer.cpus` wants a number of CPUs from 0.1 to 64, as in "0.5", not "0.01" [app_layer.cpus] 
    6:12 `app_layer.version` wants a version, as in "8.4", not "latest" [app_layer.version] 
    7:12 `app_layer.context` must start with `/` [app_layer.context] write "/app"
    8:13 `app_layer.replicas` wants a whole number from 1 to 64, or a map of keys, not the text "3" [app_layer.replicas] leave out the quotes
    9:9 the key `bad name` wants the name of a php.ini setting, not "bad name" [app_layer.ini.bad name] 
    9:38 `app_layer.ini.memory_limit` wants one line of text without control characters, not "a\nb" [app_layer.ini.memory_limit] 
    10:18 `app_layer.health.path` must start with `/` [app_layer.health.path] write "/up"
    10:30 `app_layer.health.expect` ends before it starts [app_layer.health.expect] write 200-399
    10:49 `app_layer.health.contains` is a map of keys; it wants a text [app_layer.health.contains] 
    11:15 the key `uploads` must start with `/` [app_layer.locations.uploads] write "/uploads"
    12:22 the key `web/uploads/` must be written in its shortest form [storage.writable.web/uploads/] write "web/uploads"
    12:51 the key `/abs` must be relative to the repository [storage.writable./abs] write "abs"
    13:14 `db.memcache` has no value; it wants a size, as in 256MiB [db.memcache] give it one, or leave the key out
    14:15 `proxy.kind` wants `varnish`, `nginx` or `none`, not "varnsh" [proxy.kind] did you mean `varnish`?
    14:28 `proxy.ttl` is not valid: "5" is not a duration; write a whole number and a unit, as in 90s, 5m or 12h [proxy.ttl] 
    14:48 `proxy.bypass_cookies[0]` wants a cookie's name, with an optional `*` at the end, not "a b" [proxy.bypass_cookies[0]] 
    14:61 `proxy.vcl` must stay inside the repository [proxy.vcl] paths are relative to the repository and hold no `..`
    15:21 `routing.domains[0]` wants a host name in lower case, not "Blog.Example" [routing.domains[0]] write "blog.example"
    15:35 `routing.domains[1]` wants a host name, not a URL [routing.domains[1]] write "blog.example"
    15:61 `routing.domains[2]` wants a host name in lower case, as in `blog.example` or `*.blog.example`, not "a..b" [routing.domains[2]] 
    15:73 `routing.tls` wants `off`, `auto`, or the name of a certificate, not "true" [routing.tls] write `tls: auto`
    16:18 `access.allow[0]` is not valid: the block 10.0.0.1/8 has address bits beyond its prefix length [access.allow[0]] write 10.0.0.0/8 for the whole block, or the address without a prefix length
    16:30 `access.allow[1]` is not valid: "300.1.1.1" is not an address, a CIDR block, a range or a list's name [access.allow[1]] write 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9, 2001:db8::/32, or a list's name
    16:69 `access.basic_auth` wants a name of upper-case letters, digits and `_`, as in `SMTP_PASSWORD`, not "htpasswd" [access.basic_auth] 
    17:18 `support.cron[0]` lacks the key `run` [support.cron[0]] add `run`: a text
    17:41 `support.cron[0].schedule` has no valid minute: "61" is not within 0-59 [support.cron[0].schedule] minute hour day month weekday, as in `*/5 * * * *`
    17:73 `support.backup.daily` wants a whole number, not -1 [support.backup.daily] 
    18:9 the key `Reindex` wants a name of lower-case letters, digits and single hyphens, not "Reindex" [tasks.Reindex] 
    19:7 the key `lower` wants a name of upper-case letters, digits and `_`, as in `SMTP_PASSWORD`, not "lower" [env.lower] 
    19:23 `env.LIST` is a list; it wants a text [env.LIST] 
    19:35 `env.NOTHING` has no value; it wants a text [env.NOTHING] give it one, or leave the key out
    20:10 `secrets` is a map of keys; it wants a list [secrets]
    "#);
}

#[test]
fn keys_are_judged_together() {
    let text = r#"
app_layer: {root: web/public, memory: 16MiB}
storage:
  quota: 1GiB
  writable: {web: {kind: local}, web/public/files: {kind: tmp}}
access: {basic_auth: USERS}
routing: {domains: [a.example], redirects: [a.example]}
env: {DB_HOST: x, PORT: 1, TOKEN: x}
secrets: [TOKEN, TOKEN, DATABASE_URL]
support: {cron: [{name: a, schedule: "* * * * *", run: x}, {name: a, schedule: "* * * * *", run: y}]}
labels:
  one: {cluster: milan}
  two: {cluster: milan, env: {MAGRATHEA_X: 1}}
  three: {cluster: rome, routing: {domains: []}}
"#;
    insta::assert_snapshot!(brief(text), @r"
    2:39 a replica does not start in 16MiB [app_layer.memory] give it at least 32MiB
    4:10 warning: the quota has nothing to limit: no writable path is `shared` [storage.quota] add a shared path to `storage.writable`, or leave the quota out
    5:14 warning: the writable path `web` hides the served folder `web/public` of every later release [storage.writable.web] make only the folders writable that the app writes to
    5:34 the writable path `web/public/files` lies inside the writable path `web` [storage.writable.web/public/files] keep only `web`, which holds it already
    6:22 `USERS` is not among the app's secrets [access.basic_auth] add it: `secrets: [USERS]`
    7:45 `a.example` is both served and redirected [routing.redirects.0] keep it in `domains` or in `redirects`
    7:45 there is nothing to redirect to: `routing.domains` is empty [routing.redirects.0] name the host to redirect to in `routing.domains`
    8:16 `DB_HOST` is reserved [env.DB_HOST] the platform sets it; choose another name
    8:25 `PORT` is reserved [env.PORT] the platform sets it; choose another name
    8:35 `TOKEN` stands in `env` and in `secrets` [env.TOKEN] keep it in `secrets` when its value is secret, else in `env`
    9:18 warning: `TOKEN` is named twice [secrets.1] keep one
    9:25 `DATABASE_URL` is reserved [secrets.2] the platform sets it; choose another name
    10:67 there are two cron jobs named `a` [support.cron.1.name] give each its own name
    13:3 the labels `one` and `two` both serve `a.example` on the same cluster [labels.two.routing.domains] give `two` its own: `routing: {domains: […]}`
    13:44 `MAGRATHEA_X` is reserved [labels.two.env.MAGRATHEA_X] the platform sets it; choose another name
    ");
}

#[test]
fn what_is_no_manifest_is_refused() {
    let out: String =
        ["- a\n- b\n", "just text", "a: [\n", "app: x\napp: y\n", "labels: []\n", "app: x\n---\napp: y\n"]
            .iter()
            .map(|text| brief(text))
            .collect();
    insta::assert_snapshot!(out, @r#"
    1:1 the file is a list; it wants a map of keys [] 
    1:1 the file wants a map of keys, not the text "just text" [] 
    1:4 not valid YAML: unclosed bracket '[' [] 
    2:1 not valid YAML: duplicate mapping key: app [] 
    1:9 `labels` is a list; it wants a map of keys [labels] 
    3:1 not valid YAML: multiple YAML documents detected []
    "#);
}

#[test]
fn warnings_do_not_stop_anything() {
    let (manifest, warnings) =
        parse_manifest(FILE_NAME, "app_layer: {root: web}\nstorage: {writable: {web: {kind: shared}}}\n").unwrap();
    assert_eq!(manifest.labels.len(), 1);
    insta::assert_snapshot!(warnings, @r"
    warning: the writable path `web` hides the served folder `web` of every later release
      --> magrathea.yml:2:22
       |
     2 | storage: {writable: {web: {kind: shared}}}
       |                      ^
      hint: make only the folders writable that the app writes to
    ");
}

#[test]
fn a_label_is_chosen_by_name_branch_or_because_it_is_the_only_one() {
    let manifest = parse("labels: {production: {branch: main}, staging: {branch: develop}, qa: {branch: develop}}");
    let choose = |label: Option<&str>, branch| match manifest.label_for(label, branch) {
        Ok(resolved) => resolved.label.to_string(),
        Err(e) => e.to_string(),
    };
    let out = [
        choose(Some("qa"), Some("main")),
        choose(None, Some("main")),
        choose(None, Some("develop")),
        choose(None, Some("feature")),
        choose(None, None),
        choose(Some("stagin"), None),
    ];
    insta::assert_snapshot!(out.join("\n"), @r"
    qa
    production
    several labels follow the branch `develop`; name one of `qa`, `staging`
    several labels could be meant; name one of `production`, `qa`, `staging`
    several labels could be meant; name one of `production`, `qa`, `staging`
    there is no label `stagin`; did you mean `staging`?
    ");
}

#[test]
fn every_value_is_listed_with_its_origin() {
    let text = "app_layer: {replicas: 2, memory: 256MiB}\nrouting: {domains: [a.example, b.example]}\nsupport:\n  cron: [{name: a, schedule: '* * * * *', run: x}]\nlabels:\n  live:\n    app_layer: {replicas: 3}\n    db: {mysql: {}}\n";
    let manifest = parse(text);
    let values = manifest.label_for(None, None).unwrap().values();
    let set = values.iter().filter_map(|(path, value, origin)| {
        let origin = origin.as_ref()?;
        Some(format!(
            "{path} = {value} ({}:{}{})",
            origin.file,
            origin.line,
            if origin.from_label { ", label" } else { "" }
        ))
    });
    insta::assert_snapshot!(set.collect::<Vec<_>>().join("\n"), @r#"
    app_layer.replicas = 3 (magrathea.yml:7, label)
    app_layer.memory = 256MiB (magrathea.yml:1)
    routing.domains = ["a.example","b.example"] (magrathea.yml:2)
    support.cron[0].name = a (magrathea.yml:4)
    support.cron[0].schedule = * * * * * (magrathea.yml:4)
    support.cron[0].run = x (magrathea.yml:4)
    "#);
    assert!(values.contains(&("db.mysql.connections".into(), "50".into(), None)));
    assert!(values.contains(&("proxy.vcl".into(), "-".into(), None)));
}

#[test]
fn the_schema_is_valid_and_agrees_with_the_parser() {
    jsonschema::meta::validate(&manifest_json_schema()).unwrap();
    let full = crate::yaml::parse("f", FULL).unwrap().to_json();
    let errors: Vec<String> = validator().iter_errors(&full).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
}

/// Texts that look like a manifest, right and wrong.
fn manifest_like() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "1", "php", "off", "null", "~", "''", "web", "../x", "64MiB", "5m", "[a, b]", "{}", "{a: 1}", "*x", "&x 1",
        "[1", "é",
    ]);
    let key = prop::sample::select(vec![
        "app",
        "app_layer",
        "replicas",
        "labels",
        "env",
        "db",
        "mysql",
        "x-y",
        "<<",
        "storage",
        "writable",
        "A",
        "cron",
        "support",
        "\"\\0\"",
    ]);
    let line =
        (0usize..4, key, scalar).prop_map(|(depth, key, scalar)| format!("{}{key}: {scalar}\n", "  ".repeat(depth)));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

/// Manifests whose two layers set some of the same keys.
fn layers() -> impl Strategy<Value = (BTreeMap<String, String>, BTreeMap<String, String>)> {
    let map = || prop::collection::btree_map("[A-E]", "[a-z]{0,3}", 0..5);
    (map(), map())
}

proptest! {
    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = parse_manifest(FILE_NAME, &text);
    }

    #[test]
    fn every_finding_has_its_place(text in manifest_like()) {
        if let Err(findings) = parse_manifest(FILE_NAME, &text) {
            let lines = text.lines().count();
            prop_assert!(findings.has_errors());
            prop_assert!(findings.0.iter().all(|d| d.line <= lines + 1), "{findings}\n{text}");
        }
    }

    #[test]
    fn a_label_wins_key_by_key((below, above) in layers()) {
        let map = |env: &BTreeMap<String, String>| serde_json::to_string(env).unwrap();
        let text = format!("env: {}\nlabels: {{one: {{env: {}}}, two: {{}}}}\n", map(&below), map(&above));
        let manifest = parse(&text);
        let env = |label: &str| manifest.labels[&label.parse::<LabelName>().unwrap()].sections.env.clone();
        let mut expect = below.clone();
        expect.extend(above);
        prop_assert_eq!(env("one"), expect);
        prop_assert_eq!(env("two"), below);
    }
}

#[test]
fn a_branch_deploys_the_labels_that_follow_it() {
    for (text, branch, labels) in [
        ("{}", "main", "default"),
        ("{}", "master", "default"),
        ("{}", "develop", ""),
        ("labels: {production: {}}", "main", "production"),
        ("labels: {production: {branch: live}}", "main", ""),
        ("labels: {production: {branch: live}}", "live", "production"),
        ("labels: {production: {}, staging: {}}", "main", ""),
        (
            "labels: {production: {branch: main}, staging: {branch: develop}, qa: {branch: develop}}",
            "develop",
            "qa staging",
        ),
    ] {
        let found = parse(text).labels_of_branch(branch);
        assert_eq!(found.iter().map(LabelName::as_str).collect::<Vec<_>>().join(" "), labels, "{text} {branch}");
    }
}

const PREVIEWS: &str = r#"
routing: {domains: ["*.preview.blog.example"]}
labels:
  production: {routing: {domains: [blog.example]}, branch: main}
  "preview/*": {branch: feature/*, expire: 7d, app_layer: {memory: 256MiB}}
"#;

#[test]
fn a_pattern_is_a_label_per_branch() {
    let manifest = parse(PREVIEWS);
    assert_eq!(manifest.labels.len(), 1);
    let preview = manifest.label_for(None, Some("feature/Login_Form")).unwrap();
    assert_eq!(preview.label.as_str(), "preview-login-form");
    assert_eq!(preview.branch.as_deref(), Some("feature/Login_Form"));
    assert_eq!(preview.sections.routing.domains, ["login-form.preview.blog.example"]);
    assert_eq!(preview.sections.app_layer.memory, ByteSize::mib(256));
    assert!(!preview.is_protected());
    assert_eq!(preview.preview.as_ref().unwrap().expire.to_string(), "7d");
    // However it is said, it is the same label; only the branch says how the branch is spelled.
    for (said, branch, known) in [
        ("preview/Login_Form", None, Some("feature/Login_Form")),
        ("preview-login-form", Some("feature/Login_Form"), Some("feature/Login_Form")),
        ("preview-login-form", Some("main"), None),
        ("preview-login-form", None, None),
    ] {
        let named = manifest.label_for(Some(said), branch).unwrap();
        assert_eq!((&named.label, named.branch.as_deref()), (&preview.label, known), "{said}");
    }
    assert_eq!(manifest.labels_of_branch("feature/Login_Form"), [preview.label]);
    assert!(manifest.labels_of_branch("login-form").is_empty());
    for said in ["preview/*", "preview/", "hotfix/x", "preview", "previews-x"] {
        let error = manifest.label_for(Some(said), None).unwrap_err().to_string();
        assert!(error.contains("`production`, `preview/*`") || error.contains("did you mean"), "{error}");
    }
}

#[test]
fn a_label_that_names_a_branch_goes_before_a_pattern() {
    let manifest = parse(r#"labels: {demo: {branch: preview/demo}, "preview/*": {}}"#);
    let labels = |branch: &str| manifest.labels_of_branch(branch).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(labels("preview/demo"), ["demo"]);
    assert_eq!(labels("preview/other"), ["preview-other"]);
    // Patterns are no labels: the only label there is follows the main branch.
    let manifest = parse(r#"labels: {production: {}, "preview/*": {}}"#);
    assert_eq!(manifest.labels_of_branch("main").len(), 1);
    assert_eq!(manifest.labels_of_branch("preview/x").len(), 1);
    assert!(manifest.labels_of_branch("other").is_empty());
    let manifest = parse(r#"labels: {"preview/*": {}}"#);
    assert_eq!(manifest.labels_of_branch("main")[0].as_str(), DEFAULT_LABEL);
}

#[test]
fn what_a_pattern_may_not_say() {
    insta::assert_snapshot!(brief(r#"
routing: {domains: [blog.example]}
labels:
  production: {branch: release/*, expire: 3d}
  preview-old: {routing: {domains: []}}
  "preview/*": {branch: main, protected: true, expire: 5s}
  "preview-x/*": {routing: {domains: ["*.p.example"]}}
  "hotfix/*": {routing: {domains: ["*.p.example"]}}
  "a/b/*": {}
  "*": {}
"#), @r#"
    4:3 `production` is no pattern; it does not expire [labels.production.expire] leave it out
    4:3 `production` is one label and cannot follow many branches [labels.production.branch] name one branch, or make the label a pattern too, as in "preview/*"
    5:3 `preview-old` would be taken for one of `preview/*` [labels.preview-old] rename one of them
    6:3 `preview/*` expires and cannot be protected [labels.preview/*.protected] leave it out
    6:3 `preview/*` follows many branches [labels.preview/*.branch] write it as in `feature/*`
    6:3 a preview lives from 1m to 365d, not 5s [labels.preview/*.expire] write as in `7d`
    6:3 every preview of `preview/*` would serve `blog.example` [labels.preview/*.routing.domains] for hosts below the cluster's domain write `routing: {domains: []}`; else put a `*` where each has its own name, as in `*.preview.blog.example`
    6:3 labels of `preview-x/*` would be taken for labels of `preview/*` [labels.preview/*] rename one of them
    7:3 previews of `preview-x/*` and of `hotfix/*` would serve the same hosts [labels.preview-x/*.routing.domains] for hosts below the cluster's domain write `routing: {domains: []}`; else put a `*` where each has its own name, as in `*.preview.blog.example`
    8:3 previews of `hotfix/*` and of `preview-x/*` would serve the same hosts [labels.hotfix/*.routing.domains] for hosts below the cluster's domain write `routing: {domains: []}`; else put a `*` where each has its own name, as in `*.preview.blog.example`
    9:3 the key `a/b/*` is not valid: label pattern "a/b/*" may hold one `/` and one `*`, at its end [labels.a/b/*] 
    10:3 the key `*` is not valid: label pattern "*" must end with `/*`, as in preview/* [labels.*]
    "#);
}

#[test]
fn workers_and_checks_are_judged_together() {
    let text = r#"
app_layer:
  health: {path: /up, tcp: true, attempts: 3}
  workers:
    web: {run: x}
    queue: {replicas: 65}
    Mail: {run: x}
    a-name-of-21-letters-x: {run: x}
    cron: {run: "sleep 1", memory: 1MiB, health: {attempts: 2, timeout: 0s}}
    tick: {run: x, health: {command: "test -e /tmp/x", interval: 2m}}
labels:
  production: {app_layer: {health: {path: null, attempts: null, command: "true"}, workers: {queue: {run: x}, web: null}}}
"#;
    insta::assert_snapshot!(brief(text), @r#"
    3:28 the health check cannot be a connection and a command [app_layer.health.tcp] keep `tcp` or `command`
    6:23 `app_layer.workers.queue.replicas` wants a whole number from 0 to 64, not 65 [app_layer.workers.queue.replicas] 
    7:5 the key `Mail` is not valid: process type "Mail" must start with a lower-case letter [app_layer.workers.Mail] 
    8:5 the key `a-name-of-21-letters-x` is not valid: process type "a-name-of-21-letters-x" is longer than 20 characters [app_layer.workers.a-name-of-21-letters-x] 
    9:36 a replica does not start in 1MiB [app_layer.workers.cron.memory] give it at least 32MiB
    9:42 warning: there is nothing to ask: the health check has no command [app_layer.workers.cron.health] add `command`, or leave the others out
    9:73 is no time at all [app_layer.workers.cron.health.timeout] write a duration, as in 10s
    10:66 2m is longer than the 1m that there are for all of it [app_layer.workers.tick.health.interval] shorten it, or raise `timeout`
    "#);
    let text =
        "app_layer:\n  health: {path: /up, tcp: true, attempts: 3}\n  workers: {web: {run: x}, queue: {replicas: 2}}\n";
    insta::assert_snapshot!(brief(text), @r"
    2:18 `path` belongs to a request, but the health check is `tcp` [app_layer.health.path] keep `tcp` or `path`; in a label, `path: null` takes away what the file says
    2:44 a connection is made or not: there is no wrong answer to count [app_layer.health.attempts] leave it out; `timeout` says how long to wait
    3:13 `web` is the process type that visitors reach [app_layer.workers.web] its settings stand in `app_layer` itself; choose another name
    3:28 the worker `queue` has nothing to run [app_layer.workers.queue] add its command, as in `run: php worker.php`
    ");
    let good = "app_layer: {workers: {queue: {run: php worker.php}}}\n\
                labels:\n\
                \x20 production: {app_layer: {workers: {queue: {replicas: 3}}}}\n\
                \x20 staging: {app_layer: {workers: {queue: null}, health: {tcp: true}}}\n";
    let (manifest, _) = parse_manifest(FILE_NAME, good).unwrap();
    let of = |label: &str| &manifest.labels[&label.parse().unwrap()].sections.app_layer;
    let queue = &of("production").workers[&"queue".parse().unwrap()];
    assert_eq!((queue.run.as_deref(), queue.replicas), (Some("php worker.php"), 3));
    assert!(of("staging").workers.is_empty() && of("staging").health.tcp);
}

#[test]
fn what_was_stored_before_there_were_workers_is_read() {
    let old = r#"{"app_layer": {"replicas": 2, "memory": "256MiB", "request_memory": "48MiB", "root": ".", "context": "/",
        "health": {"path": "/up", "expect": "200", "contains": null, "timeout": "60s", "watch": null}}}"#;
    let sections: super::Sections = serde_json::from_str(old).unwrap();
    assert_eq!((sections.app_layer.processes, sections.app_layer.health.attempts), (512, None));
}

#[test]
fn replicas_are_a_number_or_follow_the_load() {
    let text = "app_layer: {replicas: 2}\nlabels:\n  one: {}\n  two:\n    app_layer:\n      replicas: {min: 2, max: 6, windows: [{days: \
                [fri], from: 18:00, until: 23:00, min: 4}, {from: 2026-11-27T00:00, until: 2026-11-30T00:00, min: 6}], \
                time_zone: Europe/Berlin}\n  three: {app_layer: {replicas: {max: 3, target: 50%}}}\n";
    let manifest = parse(text);
    let replicas =
        |label: &str| manifest.labels[&label.parse::<LabelName>().unwrap()].sections.app_layer.replicas.clone();
    assert_eq!(replicas("one"), Replicas::Fixed(2));
    assert_eq!(replicas("two").to_string(), "2–6 at 70%");
    assert_eq!(replicas("three").to_string(), "1–3 at 50%");
    for label in ["one", "two", "three"] {
        let stored = serde_json::to_string(&replicas(label)).unwrap();
        assert_eq!(serde_json::from_str::<Replicas>(&stored).unwrap(), replicas(label), "{stored}");
    }
    // What was stored before numbers could follow the load.
    assert_eq!(serde_json::from_str::<Replicas>("2").unwrap(), Replicas::Fixed(2));
    let text = "app_layer: {replicas: {min: 2, max: 6}}\nlabels: {one: {app_layer: {replicas: {max: 9}}}, two: {app_layer: \
                {replicas: 3}}}\n";
    let manifest = parse(text);
    let replicas =
        |label: &str| manifest.labels[&label.parse::<LabelName>().unwrap()].sections.app_layer.replicas.to_string();
    assert_eq!((replicas("one").as_str(), replicas("two").as_str()), ("2–9 at 70%", "3"));
}

#[test]
fn bounds_and_windows_are_judged_in_words() {
    let text = r#"
app_layer:
  replicas:
    min: 4
    max: 3
    target: 5%
    time_zone: Berlin
    windows:
      - {from: "18:00", until: "18:00", min: 4}
      - {days: [fri], from: 2026-11-27T00:00, until: 2026-11-26T00:00, min: 2}
      - {from: "18:00", until: 2026-11-26T00:00, min: 2}
      - {days: [friday], from: 25:00, until: "7:00"}
"#;
    insta::assert_snapshot!(brief(text), @r#"
    4:10 the fewest replicas, 4, are more than the most, 3 [app_layer.replicas.min] lower `min`, or raise `max`
    6:13 5% is not between 10% and 95% [app_layer.replicas.target] 70% is usual: it leaves room for what comes at once
    7:16 `app_layer.replicas.time_zone` wants the name of a time zone, not "Berlin" [app_layer.replicas.time_zone] as in Europe/Berlin or UTC
    9:32 the window ends when it begins [app_layer.replicas.windows.0.until] for whole days write the days: `from: 2026-11-27T00:00`
    9:46 the window's 4 replicas are more than the most, 3 [app_layer.replicas.windows.0.min] lower it, or raise `app_layer.replicas.max`
    10:16 the window is of one day, which `from` says [app_layer.replicas.windows.1.days] leave `days` out, or write a time without a day
    10:54 the window ends before it begins [app_layer.replicas.windows.1.until] swap the two
    11:32 one of `from` and `until` has a day, the other has none [app_layer.replicas.windows.2.until] write both with a day, or both without one
    12:9 `app_layer.replicas.windows[3]` lacks the key `min` [app_layer.replicas.windows[3]] add `min`: a whole number from 1 to 64
    12:17 `app_layer.replicas.windows[3].days[0]` wants `mon`, `tue`, `wed`, `thu`, `fri`, `sat` or `sun`, not "friday" [app_layer.replicas.windows[3].days[0]] did you mean `fri`?
    12:32 `app_layer.replicas.windows[3].from` is not valid: "25:00" is no time; write one as in "18:00", or a day with one as in 2026-11-27T18:00 [app_layer.replicas.windows[3].from] 
    12:46 `app_layer.replicas.windows[3].until` is not valid: "7:00" is no time; write one as in "18:00", or a day with one as in 2026-11-27T18:00 [app_layer.replicas.windows[3].until]
    "#);
    let text = text
        .replace("    time_zone: Berlin\n", "")
        .replace("      - {days: [friday], from: 25:00, until: \"7:00\"}\n", "");
    insta::assert_snapshot!(brief(&text), @r#"
    4:10 the fewest replicas, 4, are more than the most, 3 [app_layer.replicas.min] lower `min`, or raise `max`
    6:13 5% is not between 10% and 95% [app_layer.replicas.target] 70% is usual: it leaves room for what comes at once
    8:32 the window ends when it begins [app_layer.replicas.windows.0.until] for whole days write the days: `from: 2026-11-27T00:00`
    8:46 the window's 4 replicas are more than the most, 3 [app_layer.replicas.windows.0.min] lower it, or raise `app_layer.replicas.max`
    9:16 the window is of one day, which `from` says [app_layer.replicas.windows.1.days] leave `days` out, or write a time without a day
    9:54 the window ends before it begins [app_layer.replicas.windows.1.until] swap the two
    10:32 one of `from` and `until` has a day, the other has none [app_layer.replicas.windows.2.until] write both with a day, or both without one
    "#);
    insta::assert_snapshot!(brief("app_layer: {replicas: }\n"), @r#"
    1:21 `app_layer.replicas` lacks the key `max` [app_layer.replicas] add `max`: a whole number from 1 to 64
    "#);
    insta::assert_snapshot!(brief("app_layer: {replicas: {max: 3, maxx: 4, target: 70}}\n"), @r#"
    1:32 unknown key `maxx` in `app_layer.replicas` [app_layer.replicas.maxx] did you mean `max`?
    1:49 `app_layer.replicas.target` is not valid: "70" is not a share; write a whole number from 1 to 99 and a percent sign, as in 70% [app_layer.replicas.target]
    "#);
    insta::assert_snapshot!(brief("app_layer: {replicas: many}\n"), @r#"
    1:23 `app_layer.replicas` wants a whole number from 1 to 64, or a map of keys, not the text "many" [app_layer.replicas]
    "#);
}
