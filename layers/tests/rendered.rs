//! Every rendered text as it stands, the laws of rendering, and the values that are refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Case, span, texts};
use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Location, Mysql, Replicas, Stack, Worker, Writable, WritableKind};
use magrathea_core::names::Layer;
use magrathea_core::plan::{Resource, Spec};
use magrathea_core::units::ByteSize;
use proptest::prelude::*;

fn snapshot(name: &str, resources: &[magrathea_core::plan::Resource]) {
    for (text, content) in texts(resources) {
        let text = text.trim_start_matches('/').replace('/', "-");
        insta::assert_snapshot!(format!("{name}-{text}"), content);
    }
    let plan = serde_json::to_string_pretty(&without_texts(resources)).unwrap();
    insta::assert_snapshot!(format!("{name}-plan"), plan);
}

/// The plan with the texts that have a snapshot of their own left out.
fn without_texts(resources: &[magrathea_core::plan::Resource]) -> serde_json::Value {
    let mut plan = serde_json::to_value(resources).unwrap();
    for resource in plan.as_array_mut().unwrap() {
        let spec = &mut resource["spec"];
        for text in ["ensure", "destroy", "text", "backend", "config"] {
            if spec.get(text).is_some() {
                spec[text] = "…".into();
            }
        }
        for file in spec.get_mut("files").and_then(|files| files.as_array_mut()).into_iter().flatten() {
            file["content"] = "…".into();
        }
    }
    plan
}

#[test]
fn an_app_that_says_nothing() {
    snapshot("small-php", &Case::small(Stack::Php).plan().unwrap());
    snapshot("small-static", &Case::small(Stack::Static).plan().unwrap());
    snapshot("small-tomcat", &Case::small(Stack::Tomcat).plan().unwrap());
}

#[test]
fn an_app_that_says_everything() {
    snapshot("full", &Case::full().plan().unwrap());
    let nginx = texts(&Case::full().nginx().plan().unwrap());
    insta::assert_snapshot!("full-nginx-cache", nginx["cache"]);
}

#[test]
fn workers_are_the_release_with_another_command() {
    let mut case = Case::small(Stack::Php);
    let mut worker = |name: &str, worker| case.sections.app_layer.workers.insert(name.parse().unwrap(), worker);
    worker(
        "queue",
        Worker { run: Some("php worker.php".into()), replicas: 2, cpus: Some("0.5".into()), ..Default::default() },
    );
    worker("idle", Worker { run: Some("cron -f".into()), replicas: 0, ..Default::default() });
    let resources = case.plan().unwrap();
    let keys: Vec<_> = resources.iter().filter(|r| r.key.starts_with("app/")).map(|r| r.key.as_str()).collect();
    assert_eq!(keys, ["app/web", "app/idle", "app/queue"]);
    let plan = without_texts(&resources);
    let of = |key: &str| &plan.as_array().unwrap().iter().find(|r| r["key"] == key).unwrap()["spec"];
    let (web, queue) = (of("app/web"), of("app/queue"));
    for same in ["image", "network", "user", "mounts", "secret_env", "capabilities", "read_only"] {
        assert_eq!(web[same], queue[same], "{same}");
    }
    insta::assert_snapshot!("worker", serde_json::to_string_pretty(queue).unwrap());

    for (name, worker, refused) in [
        ("web", Worker { run: Some("x".into()), ..Default::default() }, "is the process type that visitors reach"),
        ("queue", Worker::default(), "has nothing to run"),
        ("queue", Worker { run: Some("x".into()), memory: ByteSize::mib(8), ..Default::default() }, "8MiB is less"),
        ("queue", Worker { run: Some("x".into()), cpus: Some("many".into()), ..Default::default() }, "\"many\" is not"),
    ] {
        let mut case = Case::small(Stack::Static);
        case.sections.app_layer.workers.insert(name.parse().unwrap(), worker);
        let error = case.plan().unwrap_err();
        assert!(error.to_string().starts_with(&format!("app_layer.workers.{name}")), "{error}");
        assert!(error.to_string().contains(refused), "{error}");
    }
}

#[test]
fn replicas_are_spread_unless_they_need_what_one_node_has() {
    let mut case = Case::small(Stack::Static).with_second_node();
    case.sections.app_layer.workers.insert("queue".parse().unwrap(), worker("php worker.php"));
    // What is each node's own keeps nothing on one of them.
    let own = Writable { kind: WritableKind::Local, scripts: None };
    case.sections.storage.writable.insert("cache".into(), own);
    let resources = case.plan().unwrap();
    let service = |resources: &[Resource], key: &str| match &resources.iter().find(|r| r.key == key)?.spec {
        Spec::Service(service) => Some((**service).clone()),
        _ => None,
    };
    let is_spread = |resources: &[Resource], key: &str| service(resources, key).unwrap().spread;
    assert!(is_spread(&resources, "app/web") && is_spread(&resources, "app/queue"));
    // Before any replica there is a way to it.
    let keys: Vec<_> = resources.iter().take(3).map(|resource| resource.key.as_str()).collect();
    assert_eq!(keys, ["storage/network", "storage/crossing", "storage/files"]);
    let crossing = service(&resources, "storage/crossing").unwrap();
    assert_eq!((crossing.on, crossing.spread), (Layer::Routing, false));
    insta::assert_snapshot!("crossing", serde_json::to_string_pretty(&crossing).unwrap());
    let storage = resources.iter().find_map(|resource| match &resource.spec {
        Spec::Storage(storage) => Some(storage.spread),
        _ => None,
    });
    assert_eq!(storage, Some(true));
    let texts = texts(&resources);
    assert!(texts["/etc/magrathea/apache.conf"].contains("RemoteIPInternalProxy 172.18.0.1 10.201.0.0/16\n"));

    for (pin, reason) in [
        (
            (|case| {
                let uploads = Writable { kind: WritableKind::Shared, scripts: None };
                case.sections.storage.writable.insert("uploads".into(), uploads);
            }) as fn(&mut Case),
            "storage.writable.uploads is kept there",
        ),
        (
            |case| case.sections.db.mysql = Some(Mysql::default()),
            "the database of db.mysql is reached from there alone",
        ),
        (|case| case.sections.app_layer.health.command = Some("true".into()), "app_layer.health.command is run there"),
    ] {
        let mut pinned = case.clone();
        pin(&mut pinned);
        // One replica is on one node anyway.
        assert_eq!(pins(&pinned, &pinned.cluster), [] as [&str; 0]);
        pinned.sections.app_layer.replicas = Replicas::Fixed(2);
        assert_eq!(pins(&pinned, &pinned.cluster), [format!("all replicas are on node node1: {reason}")]);
        let resources = pinned.plan().unwrap();
        assert!(!is_spread(&resources, "app/web") && !is_spread(&resources, "app/queue"), "{reason}");
        assert!(service(&resources, "storage/crossing").is_none(), "{reason}");
        // On a cluster with one app node there is nothing to say.
        assert_eq!(pins(&pinned, &Case::small(Stack::Static).cluster), [] as [&str; 0]);
    }
    // A worker that is asked by a command stays alone.
    let queue = case.sections.app_layer.workers.values_mut().next().unwrap();
    queue.health.command = Some("true".into());
    queue.replicas = 2;
    assert_eq!(pins(&case, &case.cluster), ["replicas of queue are on node node1: its health.command is run there"]);
    let resources = case.plan().unwrap();
    assert!(is_spread(&resources, "app/web") && !is_spread(&resources, "app/queue"));
}

fn pins(case: &Case, cluster: &Cluster) -> Vec<String> {
    magrathea_layers::find_pins(&case.sections, cluster).iter().map(ToString::to_string).collect()
}

fn worker(run: &str) -> Worker {
    Worker { run: Some(run.into()), ..Worker::default() }
}

#[test]
fn the_shared_services() {
    snapshot("cluster", &Case::small(Stack::Php).cluster_plan());
}

/// A value, the key that the refusal must name, and where to put the value.
type Hostile = (&'static str, fn(&mut Case, String));

const HOSTILE: &[Hostile] = &[
    ("app_layer.root", |case, value| case.sections.app_layer.root = value),
    ("app_layer.ini.", |case, value| {
        case.sections.app_layer.ini.insert("mail.log".into(), value);
    }),
    ("app_layer.ini.", |case, value| {
        case.sections.app_layer.ini.insert(value, "1".into());
    }),
    ("app_layer.cpus", |case, value| case.sections.app_layer.cpus = Some(value)),
    ("app_layer.version", |case, value| case.sections.app_layer.version = Some(value)),
    ("app_layer.locations.", |case, value| {
        case.sections.app_layer.locations.insert(value, Location::default());
    }),
    ("app_layer.locations./x.headers.", |case, value| {
        let headers = [(value, "1".to_owned())].into();
        case.sections.app_layer.locations.insert("/x".into(), Location { headers, ..Location::default() });
    }),
    ("app_layer.locations./x.headers.X-A", |case, value| {
        let headers = [("X-A".to_owned(), format!("a{value}\nb\\"))].into();
        case.sections.app_layer.locations.insert("/x".into(), Location { headers, ..Location::default() });
    }),
    ("storage.writable.", |case, value| {
        case.sections.storage.writable.insert(value, Writable { kind: WritableKind::Shared, scripts: None });
    }),
    ("proxy.vcl", |case, value| {
        case.texts.insert("conf/blog.vcl".into(), format!("{value}\nbackend x {{ .host = \"127.0.0.1\"; }}"));
    }),
    ("proxy.bypass_cookies", |case, value| case.sections.proxy.bypass_cookies = vec![value]),
    ("proxy.bypass_paths", |case, value| case.sections.proxy.bypass_paths = vec![value]),
    ("routing.domains", |case, value| case.sections.routing.domains = vec![value]),
    ("routing.redirects", |case, value| case.sections.routing.redirects = vec![value]),
    ("access.allow", |case, value| case.sections.access.allow = vec![value]),
    ("access.deny", |case, value| case.sections.access.deny = vec![value]),
    ("access.maintenance_allow", |case, value| case.sections.access.maintenance_allow = vec![value]),
    ("access.basic_auth", |case, value| case.sections.access.basic_auth = Some(value)),
    ("env.", |case, value| {
        case.sections.env.insert(value, "1".into());
    }),
    ("secrets", |case, value| case.sections.secrets = vec![value]),
];

#[test]
fn no_value_leaves_its_place() {
    let values = [
        "\"",
        "'\"",
        "a\nRequire all granted",
        "a\r\nX: y",
        "x\" \"y",
        "\\",
        "${PATH}",
        "../..",
        "/../x",
        "a b\tc",
        "%[src]",
        "{ src }",
        "# x",
        "; DROP",
        "`x`",
        "$(id)",
        "\0",
        "ü\u{2028}",
        "</Directory>",
        "a\u{7f}",
    ];
    for (key, put) in HOSTILE {
        for value in values {
            let case = Case::full().with(|case| put(case, value.to_owned()));
            match case.plan() {
                Err(error) => assert!(error.path.starts_with(key), "{value:?} in {key} is blamed on {}", error.path),
                // Some are harmless where they stand (a space in an ini value): then no text has a line more than
                // with a plain value there.
                Ok(plan) => {
                    let lines = |texts: std::collections::BTreeMap<String, String>| {
                        texts.into_values().map(|text| text.lines().count()).sum::<usize>()
                    };
                    let plain = Case::full().with(|case| put(case, "plain".into()));
                    let plain =
                        plain.plan().unwrap_or_else(|error| panic!("{value:?} is let through in {key}: {error}"));
                    assert_eq!(lines(texts(&plan)), lines(texts(&plain)), "{value:?} in {key}");
                }
            }
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    for (key, change) in [
        ("routing.domains", (|case| case.cluster.domain = None) as fn(&mut Case)),
        ("secrets", |case| case.sections.secrets = vec!["API_KEY".into()]),
        ("access.basic_auth", |case| case.sections.access.basic_auth = Some("NOBODY".into())),
        ("db.memcache", |case| {
            case.images.clear();
            case.sections.db.memcache = Some(ByteSize::mib(64));
        }),
        ("proxy.vcl", |case| case.sections.proxy.vcl = Some("gone.vcl".into())),
        ("routing.https_only", |case| case.sections.routing.https_only = true),
        ("app_layer.memory", |case| case.sections.app_layer.memory = ByteSize::mib(8)),
    ] {
        let error = Case::small(Stack::Php).with(change).plan().unwrap_err();
        assert_eq!(error.path, key, "{error}");
    }
}

#[test]
fn rules_about_visitors_come_before_the_cache_and_ask_for_the_public_door() {
    let backend = texts(&Case::full().plan().unwrap())["backend.cfg"].clone();
    let cache = backend.find("use-server cache").unwrap();
    for rule in backend.lines().filter(|line| line.contains("src -f") || line.contains("auth realm")) {
        assert!(rule.contains("{ var(txn.public) -m bool }"), "{rule}");
        assert!(backend.find(rule).unwrap() < cache, "{rule}");
    }
}

#[test]
fn the_agreed_form_of_a_visitors_password() {
    // printf %s 'i0123456789ab:Basic dTpw' | sha256sum
    let hash = magrathea_layers::basic_auth_hash("i0123456789ab", "Basic dTpw");
    assert_eq!(hash, "20af84700d4cf940b18c5a790f9a466afce247df1fa20cce4a32aa02ed2ffd51");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same input gives the same plan, whatever the input.
    #[test]
    fn rendering_is_deterministic(
        memory in 96u64..4096, request in 8u64..256, replicas in 1u16..8, ttl in 0u64..86_400,
        connections in 1u32..1000, cookies in prop::collection::vec("[a-z_]{1,12}\\*?", 0..4),
        paths in prop::collection::btree_map("[a-z]{1,8}(/[a-z ]{1,8})?", any::<bool>(), 0..4),
    ) {
        let case = Case::full().with(|case| {
            let s = &mut case.sections;
            s.app_layer.memory = ByteSize::mib(memory);
            s.app_layer.request_memory = ByteSize::mib(request);
            s.app_layer.replicas = Replicas::Fixed(replicas);
            s.proxy.ttl = span(ttl);
            s.proxy.bypass_cookies = cookies;
            s.db.mysql = Some(Mysql { quota: None, connections });
            s.storage.writable = paths.into_iter().map(|(path, scripts)| {
                (path, Writable { kind: WritableKind::Shared, scripts: Some(scripts) })
            }).collect();
        });
        match (case.plan(), case.clone().plan()) {
            (Ok(one), Ok(two)) => prop_assert_eq!(one, two),
            (Err(one), Err(two)) => prop_assert_eq!(one, two),
            _ => prop_assert!(false),
        }
    }
}

/// Far more instances than a node has, rendered in a loop: nothing in rendering one depends on how many there are.
#[test]
fn a_thousand_instances_are_rendered() {
    let case = Case::full();
    let texts: usize = (0..1000).map(|_| texts(&case.plan().unwrap()).len()).sum();
    assert!(texts > 10_000);
}
