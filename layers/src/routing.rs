//! Layer 5: which hosts are the instance's, and what its HAProxy backend does with a request before a replica sees it.
//!
//! The backend is entered twice: from the public frontend (`txn.public` is set, `src` is the visitor) and, for what a
//! cache fetches, from the internal one. Every rule about visitors asks for `txn.public`, so it is decided once, by the
//! connection's address, before the cache.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Access, DEFAULT_LABEL, ProxyKind, Stack, Tls};
use magrathea_core::names::{AppName, LabelName, Layer, WEB};
use magrathea_core::plan::{Resource, RouteSpec, SecretText, Spec, hash_text};
use magrathea_core::units::Span;
use minijinja::{Value, context};

use crate::access::render_list;
use crate::app::{replica_port, requests_at_once, service_name, timeout_seconds};
use crate::render::render;
use crate::spread::is_spread;
use crate::{InstanceInput, LayerError, check, resource};

/// The secret that holds one [`basic_auth_hash`] a line. The gateway makes it out of the one that `access.basic_auth`
/// names, so that the router never has a password.
pub const BASIC_AUTH_SECRET: &str = "basic_auth_hashes";

/// The line that lets a request with this `Authorization` header (`Basic …`) pass: lower-case hex of
/// SHA-256(`SLUG:HEADER`).
pub fn basic_auth_hash(slug: &str, authorization: &str) -> String {
    hash_text(&format!("{slug}:{authorization}"))
}

/// The host of an instance that has no domains of its own: `APP.DOMAIN` or `APP-LABEL.DOMAIN`.
pub fn default_host(app: &AppName, label: &LabelName, cluster: &Cluster) -> Option<String> {
    let domain = cluster.domain.as_ref()?;
    Some(if label.as_str() == DEFAULT_LABEL { format!("{app}.{domain}") } else { format!("{app}-{label}.{domain}") })
}

/// The host names that lead to an instance.
pub struct Hosts {
    pub exact: Vec<String>,
    /// Without the `*.`.
    pub wildcards: Vec<String>,
    /// Those of `exact` that are redirected to its first.
    pub redirects: Vec<String>,
}

pub fn hosts(input: &InstanceInput<'_>) -> Result<Hosts, LayerError> {
    let routing = &input.sections.routing;
    let mut hosts = Hosts { exact: Vec::new(), wildcards: Vec::new(), redirects: Vec::new() };
    for name in &routing.domains {
        match check::host("routing.domains", name)?.strip_prefix("*.") {
            Some(domain) => hosts.wildcards.push(domain.to_owned()),
            None => hosts.exact.push(name.clone()),
        }
    }
    if routing.domains.is_empty() {
        let host = default_host(input.app, input.label, input.cluster).ok_or_else(|| {
            LayerError::new("routing.domains", "is empty, and the cluster has no domain of its own")
                .hint("name a domain here, or give the cluster one in clusters.yml")
        })?;
        check::host("domain", &host)?;
        hosts.exact.push(host);
    }
    if hosts.exact.is_empty() && !routing.redirects.is_empty() {
        return Err(LayerError::new("routing.redirects", "needs a domain without * to lead to"));
    }
    for name in &routing.redirects {
        if check::host("routing.redirects", name)?.starts_with('*') || hosts.exact.contains(name) {
            return Err(LayerError::new("routing.redirects", format!("{name} cannot be redirected"))
                .hint("a single host that is not among routing.domains"));
        }
        hosts.redirects.push(name.clone());
    }
    hosts.exact.extend(hosts.redirects.iter().cloned());
    Ok(hosts)
}

/// How long a request in flight may go on when its replica is to end.
pub fn drain(input: &InstanceInput<'_>) -> Span {
    input.sections.routing.drain.unwrap_or(Span(Duration::from_secs(30)))
}

pub fn plan_routing(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let routing = &input.sections.routing;
    let hosts = hosts(input)?;
    let mut files = BTreeMap::new();
    let values = context! {
        slug => input.slug(),
        folder => format!("/etc/magrathea/router/instances/{}", input.slug()),
        app => input.app.as_str(),
        sticky => input.stack == Stack::Tomcat && input.sections.app_layer.replicas.least() > 1,
        timeout => timeout_seconds(input),
        max_body => input.sections.proxy.max_body.bytes(),
        cache => cache_name(input.sections.proxy.kind),
        bypass_cookies => cookie_pattern(input)?,
        bypass_paths => bypass_paths(input)?,
        first => hosts.exact.first(),
        redirects => hosts.redirects,
        https_only => https_only(input)?,
        secure => routing.tls != Tls::Off,
        http_port => input.cluster.routing.http,
        https_port => input.cluster.routing.https,
        access => plan_access(input, &mut files)?,
    };
    let spec = RouteSpec {
        instance: input.instance,
        slug: input.slug(),
        release: input.release,
        hosts: hosts.exact,
        wildcards: hosts.wildcards,
        service: service_name(input, WEB),
        port: replica_port(input.uid),
        backend: render("backend.cfg", include_str!("../templates/backend.cfg.j2"), values)?,
        server_options: server_options(input),
        at_once: Some(requests_at_once(input)),
        files,
        certificates: plan_certificates(input)?,
        drain: drain(input),
        canary: None,
    };
    Ok(vec![resource(Layer::Routing, "route", Spec::Route(spec))])
}

fn server_options(input: &InstanceInput<'_>) -> String {
    let options = "check inter 2s fastinter 250ms downinter 500ms fall 2 rise 1 pool-purge-delay 10s";
    if !is_spread(input) {
        return options.to_owned();
    }
    // From a node that is gone nothing comes back, not even a refusal: what it does not confirm is asked of another replica.
    // An app that takes nothing in for so long looks the same, so it cannot be much shorter.
    format!("{options} tcp-ut 10s")
}

fn https_only(input: &InstanceInput<'_>) -> Result<bool, LayerError> {
    let routing = &input.sections.routing;
    if routing.https_only && routing.tls == Tls::Off {
        return Err(LayerError::new("routing.https_only", "needs TLS").hint("set routing.tls to auto or a certificate"));
    }
    Ok(routing.https_only)
}

fn plan_certificates(input: &InstanceInput<'_>) -> Result<BTreeMap<String, SecretText>, LayerError> {
    if let Tls::Certificate(name) = &input.sections.routing.tls
        && input.certificates.is_empty()
    {
        return Err(LayerError::new("routing.tls", format!("there is no certificate named {name:?}"))
            .hint("`auto`, `off`, or the name of one that was set with `td cert set`"));
    }
    let certificates = input.certificates.iter().enumerate();
    Ok(certificates.map(|(n, secret)| (format!("{}-{n}.pem", input.slug()), SecretText::secret(secret))).collect())
}

fn cache_name(kind: ProxyKind) -> Option<&'static str> {
    match kind {
        ProxyKind::Varnish => Some("varnish"),
        ProxyKind::Nginx => Some("nginx"),
        ProxyKind::None => None,
    }
}

/// A list's key in the manifest, what its file's name begins with, and its entries.
type AddressList<'a> = (&'static str, &'static str, &'a [String]);

fn lists_of(access: &Access) -> [AddressList<'_>; 3] {
    [
        ("access.deny", "deny", &access.deny),
        ("access.allow", "allow", &access.allow),
        ("access.maintenance_allow", "maintenance", &access.maintenance_allow),
    ]
}

/// A route with the addresses that named lists have now; none when they are those that it has. Everything else of it
/// stays as it was rendered.
pub fn refresh_lists(
    route: &RouteSpec,
    access: &Access,
    lists: &BTreeMap<String, Vec<String>>,
) -> Result<Option<RouteSpec>, LayerError> {
    let mut fresh = route.clone();
    for (key, name, entries) in lists_of(access).into_iter().filter(|(_, _, entries)| !entries.is_empty()) {
        let content = SecretText(render_list(lists, key, entries)?);
        let new = file_name(name, "lst", &content);
        let is_it = |file: &&String| file.starts_with(&format!("{name}-")) && file.ends_with(".lst");
        let Some(old) = route.files.keys().find(is_it).filter(|old| **old != new) else { continue };
        fresh.backend = fresh.backend.replace(old.as_str(), &new);
        fresh.files.remove(old);
        fresh.files.insert(new, content);
    }
    Ok((fresh != *route).then_some(fresh))
}

/// What the visitor rules need, in the order in which they are asked.
fn plan_access(input: &InstanceInput<'_>, files: &mut BTreeMap<String, SecretText>) -> Result<Value, LayerError> {
    let access = &input.sections.access;
    let mut file = |name: &str, ending: &str, content: SecretText| {
        let name = file_name(name, ending, &content);
        files.insert(name.clone(), content);
        name
    };
    let mut list = |(key, name, entries): AddressList<'_>| -> Result<Option<String>, LayerError> {
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(file(name, "lst", SecretText(render_list(input.access_lists, key, entries)?))))
    };
    let [deny, allow, pass] = lists_of(access);
    let (deny, allow, pass) = (list(deny)?, list(allow)?, list(pass)?);
    let mut passwords = None;
    if let Some(secret) = &access.basic_auth {
        if !input.secrets.contains(secret) {
            return Err(LayerError::new("access.basic_auth", format!("the secret {secret} has no value"))
                .hint(format!("set it to `user:password` lines with `td config set {secret}`")));
        }
        passwords = Some(file("auth", "lst", SecretText::secret(BASIC_AUTH_SECRET)));
    }
    let mut maintenance = None;
    if access.maintenance {
        let page = match &access.maintenance_page {
            Some(path) => input.text("access.maintenance_page", path)?,
            None => include_str!("../templates/maintenance.html"),
        };
        if page.is_empty() || page.len() > 15_000 {
            return Err(LayerError::new("access.maintenance_page", "must have between 1 and 15000 bytes")
                .hint("the router answers with it out of one buffer; keep pictures elsewhere"));
        }
        if page.contains("${secret:") {
            return Err(LayerError::new("access.maintenance_page", "holds the mark of a secret, `${secret:`"));
        }
        maintenance = Some(file("maintenance", "html", SecretText(page.to_owned())));
    }
    Ok(context! { deny, allow, passwords, maintenance, pass })
}

/// A file's name with a hash of its content in it: while two releases stand side by side, neither reads the other's.
fn file_name(name: &str, ending: &str, content: &SecretText) -> String {
    let hash = hash_text(&content.0);
    format!("{name}-{}.{ending}", hash.get(..8).unwrap_or(&hash))
}

/// A regular expression that finds a bypass cookie in a `Cookie` header; `.` when every cookie is one.
fn cookie_pattern(input: &InstanceInput<'_>) -> Result<Option<String>, LayerError> {
    let mut names = Vec::new();
    for name in &input.sections.proxy.bypass_cookies {
        let (stem, star) = check::cookie("proxy.bypass_cookies", name)?;
        if stem.is_empty() {
            return Ok(Some(".".into()));
        }
        names.push(format!("{}{}", stem.replace('.', "\\."), if star { "" } else { "=" }));
    }
    Ok((!names.is_empty()).then(|| format!("(?:^|[;, ])(?:{})", names.join("|"))))
}

fn bypass_paths(input: &InstanceInput<'_>) -> Result<Vec<String>, LayerError> {
    let paths = input.sections.proxy.bypass_paths.iter();
    paths.map(|path| check::url_path("proxy.bypass_paths", path).map(str::to_owned)).collect()
}
