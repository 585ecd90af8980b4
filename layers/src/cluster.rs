//! The services that all instances of a cluster share: one of each per node that carries its layer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use magrathea_core::names::Layer;
use magrathea_core::plan::{
    FileSpec, FirewallSpec, Limits, MountSource, MountSpec, NodeFolder, Resource, RouterSpec, ServiceMode,
    ServiceNetwork, ServiceSpec, Spec, TmpfsSpec,
};
use magrathea_core::units::{ByteSize, Span};
use minijinja::context;

use crate::render::render;
use crate::{ClusterInput, LayerError, image, resource};

pub fn plan_cluster(input: &ClusterInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let carried: BTreeSet<Layer> = input.cluster.nodes.values().flat_map(|node| node.layers.iter().copied()).collect();
    let mut resources = Vec::new();
    if carried.contains(&Layer::Db) {
        resources.push(service(mariadb(input)?));
    }
    if carried.contains(&Layer::Proxy) {
        resources.push(service(varnish(input)?));
        resources.push(service(nginx(input)?));
    }
    resources.push(resource(Layer::Routing, "firewall", Spec::Firewall(plan_firewall(input))));
    if carried.contains(&Layer::Routing) {
        let config = RouterSpec { config: render_router(input)? };
        resources.push(resource(Layer::Routing, "config", Spec::Router(config)));
        resources.push(service(router(input)?));
    }
    Ok(resources)
}

fn service(spec: ServiceSpec) -> Resource {
    let (layer, name) = (spec.on, spec.name.clone());
    resource(layer, &name, Spec::Service(Box::new(spec)))
}

/// A shared service with nothing of its own yet: read-only, without capabilities, once per node of its layer.
fn global(input: &ClusterInput<'_>, on: Layer, name: &str) -> Result<ServiceSpec, LayerError> {
    Ok(ServiceSpec {
        name: name.to_owned(),
        image: image(input.images, "clusters", name)?,
        mode: ServiceMode::Global,
        on,
        spread: false,
        network: ServiceNetwork::Bridge,
        user: None,
        command: Vec::new(),
        env: BTreeMap::new(),
        files: Vec::new(),
        secret_env: BTreeMap::new(),
        mounts: Vec::new(),
        tmpfs: vec![tmpfs("/tmp", ByteSize::mib(64))],
        read_only: true,
        capabilities: Some(Vec::new()),
        limits: Limits::default(),
        stop_signal: None,
        stop_grace: Span(Duration::from_secs(15)),
        labels: BTreeMap::new(),
    })
}

fn tmpfs(target: &str, size: ByteSize) -> TmpfsSpec {
    TmpfsSpec { target: target.to_owned(), size, mode: 0o1777 }
}

fn folder(folder: NodeFolder, read_only: bool) -> MountSpec {
    MountSpec { source: MountSource::Node(folder), target: folder.target().to_owned(), read_only }
}

fn capabilities(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn router(input: &ClusterInput<'_>) -> Result<ServiceSpec, LayerError> {
    Ok(ServiceSpec {
        network: ServiceNetwork::Host,
        // The master stays root to bind and to reload; the worker becomes `haproxy`.
        capabilities: capabilities(&["KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]),
        mounts: vec![
            folder(NodeFolder::Router, true),
            folder(NodeFolder::Sockets, false),
            folder(NodeFolder::RouterAdmin, false),
        ],
        ..global(input, Layer::Routing, "router")?
    })
}

fn varnish(input: &ClusterInput<'_>) -> Result<ServiceSpec, LayerError> {
    Ok(ServiceSpec {
        env: [("VARNISH_MEMORY".to_owned(), format!("{}M", input.cluster.proxy.memory.as_mib()))].into(),
        mounts: vec![folder(NodeFolder::Varnish, true), folder(NodeFolder::Sockets, false)],
        // Compiled VCL is loaded from its working folder, and a tmpfs of the engine forbids that.
        read_only: false,
        ..global(input, Layer::Proxy, "varnish")?
    })
}

fn nginx(input: &ClusterInput<'_>) -> Result<ServiceSpec, LayerError> {
    let memory = input.cluster.proxy.memory;
    let values = context! { megabytes => memory.as_mib() };
    let config = render("nginx.conf", include_str!("../templates/nginx.conf.j2"), values)?;
    Ok(ServiceSpec {
        files: vec![file("/etc/magrathea/nginx.conf", config)],
        mounts: vec![folder(NodeFolder::Nginx, true), folder(NodeFolder::Sockets, false)],
        tmpfs: vec![
            tmpfs("/tmp", ByteSize::mib(64)),
            tmpfs("/run/nginx", ByteSize::mib(1)),
            tmpfs("/var/cache/nginx", ByteSize(memory.bytes() + ByteSize::mib(64).bytes())),
        ],
        ..global(input, Layer::Proxy, "nginx")?
    })
}

fn mariadb(input: &ClusterInput<'_>) -> Result<ServiceSpec, LayerError> {
    let values = context! {
        address => input.instance_gateway.to_string(),
        port => input.cluster.db.port,
        buffer_pool => input.cluster.db.memory.as_mib(),
    };
    let config = render("mariadb.cnf", include_str!("../templates/mariadb.cnf.j2"), values)?;
    Ok(ServiceSpec {
        network: ServiceNetwork::Host,
        files: vec![file("/etc/magrathea/mariadb.cnf", config)],
        capabilities: capabilities(&["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]),
        mounts: vec![folder(NodeFolder::Mariadb, false)],
        tmpfs: vec![tmpfs("/tmp", ByteSize::gib(1)), tmpfs("/run/mysqld", ByteSize::mib(1))],
        stop_grace: Span(Duration::from_secs(120)),
        ..global(input, Layer::Db, "mariadb")?
    })
}

/// What the agent is told about a request, after its layer and slug: `agent/src/logs/parse.rs` reads it, and
/// `agent/src/usage/line.rs` what stands before the release.
const ACCESS_LOG: &str = "%(worker:sint)[var(proc.began)] %(at:sint)[date(0,us)] %(status:sint)ST %(sent:sint)B \
    %(received:sint)U %(ms:sint)Ta %(cache)[var(txn.log_cache)] %(tls:bool)[ssl_fc] \
    %(release:str)[var(txn.release)] %(address)ci %(method)HM %(host)[var(txn.log_host)] %(path)[var(txn.log_path)] \
    %(protocol)HV %(agent)[var(txn.log_agent)] %(referrer)[var(txn.log_referrer)]";

fn file(target: &str, content: String) -> FileSpec {
    FileSpec { target: target.to_owned(), mode: 0o444, content }
}

fn plan_firewall(input: &ClusterInput<'_>) -> FirewallSpec {
    let routing = &input.cluster.routing;
    FirewallSpec {
        public_ports: vec![routing.http, routing.https],
        instance_ports: vec![input.cluster.db.port],
        nodes: input.cluster.nodes.values().map(|node| node.address).collect(),
    }
}

fn render_router(input: &ClusterInput<'_>) -> Result<String, LayerError> {
    let routing = &input.cluster.routing;
    if routing.http == routing.https {
        return Err(LayerError::new("routing.https", "must not be the port of routing.http"));
    }
    let mut addresses: Vec<String> = routing
        .listen
        .iter()
        .map(|address| match address {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        })
        .collect();
    if addresses.is_empty() {
        addresses.extend(["0.0.0.0".to_owned(), "[::]".to_owned()]);
    }
    let values = context! { addresses, http => routing.http, https => routing.https, access_log => ACCESS_LOG };
    render("haproxy.cfg", include_str!("../templates/haproxy.cfg.j2"), values)
}
