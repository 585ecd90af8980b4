//! Instances to render: a small one with every default, and one that says something about everything.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use magrathea_core::clusters::{Cluster, ClusterDb, ClusterProxy, ClusterRouting, ClusterStorage, Node};
use magrathea_core::manifest::{Location, Mysql, ProxyKind, Replicas, Sections, Stack, Tls, Writable, WritableKind};
use magrathea_core::names::{AppName, ClusterName, InstanceId, LabelName, Layer, ReleaseNumber};
use magrathea_core::plan::LogBounds;
use magrathea_core::plan::{Resource, Spec};
use magrathea_core::units::{ByteSize, Span};
use magrathea_layers::{ClusterInput, InstanceInput, LayerError};

/// Owns what an input borrows.
#[derive(Clone)]
pub struct Case {
    pub app: AppName,
    pub label: LabelName,
    pub cluster_name: ClusterName,
    pub cluster: Cluster,
    pub sections: Sections,
    pub stack: Stack,
    pub images: BTreeMap<String, String>,
    pub access_lists: BTreeMap<String, Vec<String>>,
    pub secrets: BTreeSet<String>,
    pub texts: BTreeMap<String, String>,
    pub certificates: Vec<String>,
}

pub const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 18, 0, 1));

impl Case {
    /// An app without a word of configuration.
    pub fn small(stack: Stack) -> Self {
        let images = ["router", "varnish", "nginx", "mariadb", "memcached"];
        Case {
            app: "blog".parse().unwrap(),
            label: "default".parse().unwrap(),
            cluster_name: "local".parse().unwrap(),
            cluster: Cluster {
                previews: 20,
                capacity: Default::default(),
                keep_releases: Default::default(),
                domain: Some("localhost".into()),
                routing: ClusterRouting { listen: Vec::new(), http: 8080, https: 8443 },
                storage: ClusterStorage::default(),
                proxy: ClusterProxy::default(),
                db: ClusterDb::default(),
                logs: LogBounds::default(),
                nodes: [(
                    "node1".parse().unwrap(),
                    Node { address: [127, 0, 0, 1].into(), layers: Layer::ALL.into(), zone: None },
                )]
                .into(),
            },
            sections: Sections::default(),
            stack,
            images: images.map(|name| (name.to_owned(), format!("sha256:{name}"))).into(),
            access_lists: BTreeMap::new(),
            secrets: BTreeSet::new(),
            texts: BTreeMap::new(),
            certificates: Vec::new(),
        }
    }

    /// The same on a cluster with another app node.
    pub fn with_second_node(mut self) -> Self {
        let second = Node { address: [192, 0, 2, 2].into(), layers: [Layer::App].into(), zone: None };
        self.cluster.nodes.insert("node2".parse().unwrap(), second);
        self.images.insert("base".into(), "sha256:base".into());
        self
    }

    /// A PHP app that uses everything.
    pub fn full() -> Self {
        let mut case = Case::small(Stack::Php);
        case.label = "production".parse().unwrap();
        case.access_lists = [("office".to_owned(), vec!["192.0.2.0/28".into(), "2001:db8::/48".into()])].into();
        case.secrets = ["SMTP_PASSWORD", "VISITORS"].map(str::to_owned).into();
        case.certificates = vec!["blog-cert".into()];
        case.texts = [
            (
                "conf/blog.vcl",
                "vcl 4.1;\nimport std;\n\nsub vcl_recv {\n    set req.url = std.querysort(req.url);\n}\n",
            ),
            ("conf/away.html", "<!doctype html><title>away</title><p>${app} is \"away\" for 5 % longer\n"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
        let s = &mut case.sections;
        s.app_layer.root = "web".into();
        s.app_layer.replicas = Replicas::Fixed(2);
        s.app_layer.cpus = Some("1.5".into());
        s.app_layer.ini = [
            ("memory_limit", "256M"),
            ("error_reporting", "E_ALL & ~E_DEPRECATED"),
            ("mail.log", "it's 100% (fine); #1 = [x]"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let headers = [("X-Note", "100% \"quoted\"; a=b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        s.app_layer.locations = [
            ("/assets/v1.2".to_owned(), Location { expires: Some(span(86_400)), headers, ..Location::default() }),
            ("/files".to_owned(), Location { scripts: false, ..Location::default() }),
            ("/private/".to_owned(), Location { allow: false, ..Location::default() }),
        ]
        .into();
        s.storage.quota = Some(ByteSize::gib(2));
        s.storage.writable = [
            ("web/uploads", WritableKind::Shared),
            ("cache", WritableKind::Local),
            ("storage/public", WritableKind::Shared),
            ("web/my scratch", WritableKind::Tmp),
        ]
        .map(|(path, kind)| (path.to_owned(), Writable { kind, scripts: None }))
        .into();
        s.db.mysql = Some(Mysql::default());
        s.db.memcache = Some(ByteSize::mib(64));
        s.proxy.ttl = span(120);
        s.proxy.vcl = Some("conf/blog.vcl".into());
        s.proxy.bypass_cookies = vec!["session.id".into(), "wordpress_logged_in_*".into()];
        s.proxy.bypass_paths = vec!["/wp-admin".into()];
        s.routing.domains = vec!["blog.example".into(), "*.blog.example".into()];
        s.routing.redirects = vec!["www.blog.test".into()];
        s.routing.tls = Tls::Certificate("blog".into());
        s.routing.https_only = true;
        s.routing.timeout = Some(span(90));
        s.access.allow = vec!["office".into(), "198.51.100.3-198.51.100.9".into(), "10.1.2.3".into()];
        s.access.deny = vec!["192.0.2.7".into(), "2001:db8:0:1::/64".into()];
        s.access.basic_auth = Some("VISITORS".into());
        s.access.maintenance = true;
        s.access.maintenance_allow = vec!["office".into()];
        s.access.maintenance_page = Some("conf/away.html".into());
        s.env = [("WP_ENV".to_owned(), "a \"b\" $c\n".to_owned())].into();
        s.secrets = vec!["SMTP_PASSWORD".into()];
        case
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn nginx(self) -> Self {
        self.with(|case| {
            case.sections.proxy.kind = ProxyKind::Nginx;
            case.sections.proxy.vcl = None;
        })
    }

    pub fn input(&self) -> InstanceInput<'_> {
        InstanceInput {
            instance: "01930000-0000-7000-8000-0123456789ab".parse::<InstanceId>().unwrap(),
            app: &self.app,
            label: &self.label,
            release: ReleaseNumber(7),
            sections: &self.sections,
            cluster_name: &self.cluster_name,
            cluster: &self.cluster,
            stack: self.stack,
            image: "sha256:release",
            images: &self.images,
            uid: 200_000,
            db_address: GATEWAY,
            instance_gateway: GATEWAY,
            access_lists: &self.access_lists,
            secrets: &self.secrets,
            texts: &self.texts,
            certificates: &self.certificates,
        }
    }

    pub fn plan(&self) -> Result<Vec<Resource>, LayerError> {
        magrathea_layers::plan_instance(&self.input())
    }

    pub fn cluster_plan(&self) -> Vec<Resource> {
        magrathea_layers::plan_cluster(&ClusterInput {
            cluster_name: &self.cluster_name,
            cluster: &self.cluster,
            images: &self.images,
            instance_gateway: GATEWAY,
        })
        .unwrap()
    }
}

pub fn span(seconds: u64) -> Span {
    Span(std::time::Duration::from_secs(seconds))
}

/// Every rendered text of a plan, by a name that says what it is.
pub fn texts(resources: &[Resource]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for resource in resources {
        let mut put = |name: &str, text: &str| out.insert(name.to_owned(), text.to_owned());
        match &resource.spec {
            Spec::Service(service) => {
                for file in &service.files {
                    put(&file.target, &file.content);
                }
            }
            Spec::Database(database) => {
                put("ensure.sql", &database.ensure.0);
                put("destroy.sql", &database.destroy);
            }
            Spec::Cache(cache) => {
                put("cache", &cache.text);
            }
            Spec::Route(route) => {
                put("backend.cfg", &route.backend);
                for (name, text) in &route.files {
                    put(name, &text.0);
                }
            }
            Spec::Router(router) => {
                put("haproxy.cfg", &router.config);
            }
            _ => {}
        }
    }
    out
}
