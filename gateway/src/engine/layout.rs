//! From an instance's configuration to its plan: gathers what rendering needs to know, once per deploy, and renders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use magrathea_buildpacks::Recipe;
use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Resolved, Stack};
use magrathea_core::names::{Layer, ReleaseNumber};
use magrathea_core::plan::{Plan, Resource, Spec, Subject};
use magrathea_core::units::Span;
use magrathea_layers::{InstanceInput, plan_instance};

use super::apply::{Applier, is_away, manager_of, nodes_of, spread_image};
use super::failure::Failure;
use super::intake;
use super::secrets::{Secrets, load_secrets};
use crate::db::instances::Instance;
use crate::db::releases::Configured;
use crate::db::scales::{Scales, load_scales};
use crate::hub::NodeRef;
use crate::services::lists::named;
use crate::state::State;

/// Stands for the release image before it was built.
pub const TO_BE_BUILT: &str = "(to be built)";

/// An instance in its place.
#[derive(Clone)]
pub struct Site {
    pub state: Arc<State>,
    pub instance: Instance,
    pub cluster: Cluster,
}

impl Site {
    /// Finds the instance's cluster.
    pub fn new(state: &Arc<State>, instance: Instance) -> Result<Self, Failure> {
        let clusters = state.clusters();
        let cluster = clusters.clusters.get(&instance.cluster).cloned().ok_or_else(|| {
            Failure::new("node", format!("clusters.yml has no cluster {}", instance.cluster))
                .hint("put it back, or deploy to another cluster")
        })?;
        Ok(Site { state: Arc::clone(state), instance, cluster })
    }

    pub fn slug(&self) -> String {
        self.instance.id.slug()
    }

    /// The nodes that a deploy cannot do without.
    pub fn needed_nodes(&self) -> Vec<NodeRef> {
        manager_of(&self.instance.cluster, &self.cluster).into_iter().collect()
    }

    /// The nodes on which these resources may have replicas, without those that are away: they get what they need when they
    /// are back.
    pub fn replica_nodes(&self, resources: &[Resource]) -> Vec<NodeRef> {
        if resources.iter().all(|resource| spread_image(resource).is_none()) {
            return self.needed_nodes();
        }
        let mut nodes = nodes_of(&self.instance.cluster, &self.cluster, Layer::App);
        nodes.retain(|node| !is_away(&self.state, &self.cluster, node));
        nodes
    }

    pub fn applier(&self, secrets: BTreeMap<String, String>) -> Applier {
        Applier {
            state: Arc::clone(&self.state),
            subject: self.slug(),
            cluster_name: self.instance.cluster.clone(),
            cluster: self.cluster.clone(),
            secrets,
        }
    }
}

/// Everything that rendering needs beside the release.
pub struct Ingredients {
    pub site: Site,
    pub resolved: Resolved,
    pub secrets: Secrets,
    /// How many replicas people have set, whatever the manifest says.
    pub scales: Scales,
    texts: BTreeMap<String, String>,
    pub images: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
    db_address: IpAddr,
    instance_gateway: IpAddr,
}

/// The hosts under which an instance answers: its domains, or its name below the cluster's domain.
pub fn hosts_of(site: &Site, resolved: &Resolved) -> Vec<String> {
    let routing = &resolved.sections.routing;
    let mut hosts: Vec<String> = routing.domains.iter().chain(&routing.redirects).cloned().collect();
    if routing.domains.is_empty() {
        hosts.extend(magrathea_layers::default_host(&site.instance.app_name, &site.instance.label, &site.cluster));
    }
    hosts
}

/// How long a Tomcat is watched after its cut-over: its process is the app's own, and may end with it.
const TOMCAT_WATCH: Span = Span(std::time::Duration::from_secs(15));

/// The configuration with what the buildpack found where the file is silent.
pub fn settle(mut resolved: Resolved, recipe: &Recipe) -> Resolved {
    let app = &mut resolved.sections.app_layer;
    app.stack = Some(recipe.stack);
    if app.version.is_none() {
        app.version = Some(recipe.version.clone());
    }
    if app.health.watch.is_none() && recipe.stack == Stack::Tomcat {
        app.health.watch = Some(TOMCAT_WATCH);
    }
    if !resolved.origins.contains_key("app_layer.root") {
        app.root.clone_from(&recipe.root);
    }
    resolved
}

/// The values of an instance's secrets for a release that was made with this.
pub async fn load_secrets_of(site: &Site, configured: &Configured) -> Result<BTreeMap<String, String>, Failure> {
    let Configured { resolved, config_version } = configured;
    let hosts = hosts_of(site, resolved);
    Ok(load_secrets(&site.state, &site.instance, &resolved.sections, &hosts, *config_version).await?.values)
}

/// Gathers it: secrets, the nodes' images and addresses, and the files that the manifest names.
pub async fn gather(site: Site, configured: Configured, source: &str) -> Result<Ingredients, Failure> {
    let Configured { resolved, config_version } = configured;
    let hosts = hosts_of(&site, &resolved);
    let secrets = load_secrets(&site.state, &site.instance, &resolved.sections, &hosts, config_version).await?;
    gather_with(site, resolved, source, secrets).await
}

/// Gathers the rest.
pub async fn gather_with(
    site: Site,
    resolved: Resolved,
    source: &str,
    secrets: Secrets,
) -> Result<Ingredients, Failure> {
    let sections = &resolved.sections;
    let files = [&sections.proxy.vcl, &sections.access.maintenance_page];
    let wanted: BTreeSet<String> = files.into_iter().flatten().cloned().collect();
    let archive = intake::blob_path(&site.state.blobs(), source);
    let texts = intake::read_texts(archive, wanted).await.context("cannot read the source")?;

    let lists = named(&site.state, Some(site.instance.organisation)).await?;
    let mut images = BTreeMap::new();
    // Whatever runs one of them runs there; another node may have others of the name.
    for node in site.needed_nodes() {
        images.extend(site.state.hub.report(&node).unwrap_or_default().images);
    }
    let db_address = gateway_of(&site, Layer::Db)?;
    let instance_gateway = gateway_of(&site, Layer::App)?;
    let scales = load_scales(&site.state.db.conn().await?, site.instance.id).await?;
    Ok(Ingredients { scales, site, resolved, secrets, texts, images, lists, db_address, instance_gateway })
}

/// The address at which containers reach the first node with this layer (of any, when none carries it).
fn gateway_of(site: &Site, layer: Layer) -> Result<IpAddr, Failure> {
    let mut nodes = nodes_of(&site.instance.cluster, &site.cluster, layer);
    nodes.extend(site.needed_nodes());
    let known = nodes.iter().find_map(|node| site.state.hub.report(node)?.instance_gateway);
    known.ok_or_else(|| {
        Failure::new("node", format!("no node of cluster {} has reported its addresses", site.instance.cluster))
            .hint("see `td cluster info`")
    })
}

impl Ingredients {
    /// The plan of a release. Pure from here on.
    pub fn render(
        &self,
        stack: Stack,
        release: ReleaseNumber,
        image: &str,
        generation: u64,
        parent: Option<String>,
    ) -> Result<Plan, Failure> {
        let site = &self.site;
        let mut sections = self.resolved.sections.clone();
        sections.app_layer = sections.app_layer.with_replicas(&self.scales);
        let names: BTreeSet<String> = self.secrets.values.keys().cloned().collect();
        let input = InstanceInput {
            instance: site.instance.id,
            app: &site.instance.app_name,
            label: &site.instance.label,
            release,
            sections: &sections,
            cluster_name: &site.instance.cluster,
            cluster: &site.cluster,
            stack,
            image,
            images: &self.images,
            uid: site.instance.uid,
            db_address: self.db_address,
            instance_gateway: self.instance_gateway,
            access_lists: &self.lists,
            secrets: &names,
            texts: &self.texts,
            certificates: &self.secrets.certificates,
        };
        let resources = plan_instance(&input).map_err(|error| {
            let mut failure = Failure::new("manifest_invalid", error.to_string());
            failure.hint = error.hint;
            failure
        })?;
        let subject = Subject::Instance { instance: site.instance.id, release };
        Ok(Plan::new(subject, generation, parent, resources))
    }

    /// The URLs under which the instance answers.
    pub fn urls(&self) -> Vec<String> {
        urls_of(&self.site, &self.resolved)
    }
}

/// The URLs under which an instance with this configuration answers.
pub fn urls_of(site: &Site, resolved: &Resolved) -> Vec<String> {
    let routing = &resolved.sections.routing;
    let tls = routing.tls != magrathea_core::manifest::Tls::Off;
    let (scheme, port, usual) = match tls {
        true => ("https", site.cluster.routing.https, 443),
        false => ("http", site.cluster.routing.http, 80),
    };
    let port = if port == usual { String::new() } else { format!(":{port}") };
    let hosts = hosts_of(site, resolved);
    let own = hosts.iter().filter(|host| !host.starts_with("*.") && !routing.redirects.contains(host));
    own.map(|host| format!("{scheme}://{host}{port}/")).collect()
}

/// What a resource is to a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Additive and independent of the release: network, files, database, memcached.
    Ground,
    /// Fills new writable paths from the release.
    Seed,
    /// Keeps what is to outlive the release.
    Assets,
    /// The release's replicas.
    Replicas,
    Cache,
    Route,
    Support,
}

/// Sorts a resource of an instance's plan into its part.
pub fn part_of(resource: &Resource) -> Part {
    match &resource.spec {
        Spec::Seed(_) => Part::Seed,
        Spec::Assets(_) => Part::Assets,
        Spec::Service(_) if resource.layer == Layer::App => Part::Replicas,
        Spec::Cache(_) => Part::Cache,
        Spec::Route(_) => Part::Route,
        Spec::Support(_) | Spec::Logs(_) => Part::Support,
        Spec::Network(_) | Spec::Storage(_) | Spec::Database(_) | Spec::Service(_) => Part::Ground,
        Spec::Router(_) | Spec::Firewall(_) => Part::Ground,
    }
}

/// The resources of a plan that are this part, in order.
pub fn parts(plan: &Plan, part: Part) -> Vec<&Resource> {
    plan.resources.iter().filter(|resource| part_of(resource) == part).collect()
}

/// Every rendered text of a plan by name, as in `proxy/cache` or `app/web/etc/php.ini`. Secrets stay placeholders.
pub fn rendered(plan: &Plan) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for resource in &plan.resources {
        let key = &resource.key;
        match &resource.spec {
            Spec::Database(database) => {
                texts.insert(format!("{key}/ensure.sql"), database.ensure.0.clone());
            }
            Spec::Service(service) => {
                let files = service.files.iter();
                texts.extend(files.map(|file| (format!("{key}{}", file.target), file.content.clone())));
            }
            Spec::Cache(cache) => {
                texts.insert(key.clone(), cache.text.clone());
            }
            Spec::Route(route) => {
                texts.insert(format!("{key}/backend"), route.backend.clone());
                texts.extend(route.files.iter().map(|(name, text)| (format!("{key}/{name}"), text.0.clone())));
            }
            Spec::Router(router) => {
                texts.insert(format!("{key}/haproxy.cfg"), router.config.clone());
            }
            _ => {}
        }
    }
    texts
}
