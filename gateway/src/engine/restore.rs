//! One layer of an instance as an earlier plan had it, beside the others as they are. Only where nothing else depends on what
//! would come back: the cache policy, and the routing's rules. A release is brought back as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use magrathea_core::manifest::ProxyKind;
use magrathea_core::names::Layer;
use magrathea_core::plan::{CacheSpec, Plan, Resource, RouteSpec, Spec};

use super::apply::UNHEARD;
use super::failure::into_api;
use super::layout::rendered;
use super::lists::follow_lists;
use super::reconcile::load_standing;
use super::turn::alone;
use super::{diff_texts, history};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::{plans, releases, timeline};
use crate::state::State;
use magrathea_core::api::RestoredLayer;

/// Puts a layer back to how the history has it under `id`. What serves is never without a layer: it is laid first, and
/// becomes the instance's plan when that has worked.
pub async fn restore_layer(
    state: &Arc<State>,
    actor: &Actor,
    instance: Instance,
    (layer, id): (Layer, &str),
) -> Result<RestoredLayer, ApiError> {
    let (configuration, earlier) = history::plan(state, &instance, id).await?;
    let _hold = alone(state, Some(actor), instance.id).await?;
    let standing = load_standing(state, instance.id)
        .await
        .map_err(into_api)?
        .ok_or_else(|| super::redeploy::nothing(&instance))?;
    let now = &standing.plan;
    let mut back = choose(layer, now, &earlier).map_err(|refusal| refusal.into_api(&instance, &earlier))?;
    if let Some(release) = earlier.release()
        && layer == Layer::Routing
    {
        // Who may not come in today does not come in because of an old configuration.
        let resolved = releases::load_resolved(&state.db.conn().await?, instance.id, release).await?;
        let resolved = resolved.ok_or_else(|| Refusal::Unknown.into_api(&instance, &earlier))?;
        follow_lists(&standing.site, &resolved, std::slice::from_mut(&mut back)).await.map_err(into_api)?;
    }
    check_secrets(&back, &standing.applier.secrets.keys().cloned().collect())
        .map_err(|r| r.into_api(&instance, &earlier))?;

    let mut resources = now.resources.clone();
    let Some(place) = resources.iter_mut().find(|resource| resource.key == back.key) else {
        return Err(Refusal::Absent.into_api(&instance, &earlier));
    };
    let before = std::mem::replace(place, back.clone());
    let mut conn = state.db.conn().await?;
    let generation = plans::next_generation(&conn, instance.id).await?;
    let plan = Plan::new(now.subject.clone(), generation, Some(now.hash()), resources);
    let short: String = configuration.id.chars().take(8).collect();
    let answer = |generation| -> Result<RestoredLayer, ApiError> {
        let differences = diff_texts(&rendered(now), &rendered(&plan))?;
        Ok(RestoredLayer { layer, from: configuration.id.clone(), generation, differences })
    };
    if before == back {
        return answer(now.generation);
    }
    if let Err(failure) = standing.applier.ensure(&back, UNHEARD).await {
        if let Err(error) = standing.applier.ensure(&before, UNHEARD).await {
            tracing::warn!("a layer that was not restored is not as before: {error}");
        }
        return Err(into_api(failure));
    }
    let message = format!("the layer {layer} of {} ({}) is as in {short} again", instance.app_name, instance.label);
    let tx = conn.transaction().await?;
    plans::insert_plan(&tx, instance.id, standing.release, &plan).await?;
    releases::move_serving(&tx, instance.id, standing.release, generation).await?;
    let entry = timeline::NewEntry::about(&instance, Some(actor), "config.restored", &message);
    timeline::append(&tx, entry).await?;
    tx.commit().await?;
    drop(conn);
    let answer = answer(generation);
    history::record_later(state, &instance.cluster, standing.site.slug(), plan, &actor.name, message);
    answer
}

/// Why a layer is not put back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The layer is the release's, or holds data.
    Layer(Layer),
    /// One of the two has none.
    Absent,
    /// The cache is another program: routing leads to it.
    OtherProxy,
    OtherHosts,
    OtherTls,
    /// A value that the release does not have.
    Secret,
    /// The release that it was laid for is forgotten.
    Unknown,
}

impl Refusal {
    fn into_api(self, instance: &Instance, earlier: &Plan) -> ApiError {
        let what = match self {
            Refusal::Layer(layer) => format!("the layer {layer} is not put back by itself: only proxy and routing are"),
            Refusal::Absent => "one of the two configurations does not have that layer".to_owned(),
            Refusal::OtherProxy => "another kind of cache was used then, to which the routing does not lead".to_owned(),
            Refusal::OtherHosts => "it served other domains then; who has a domain is decided by deploys".to_owned(),
            Refusal::OtherTls => "one of the two configurations is without TLS".to_owned(),
            Refusal::Secret => "it needs a value that the release that serves was not made with".to_owned(),
            Refusal::Unknown => "the release that it was laid for is forgotten".to_owned(),
        };
        let back = earlier.release().map(|release| release.to_string()).unwrap_or_default();
        ApiError::new(Code::LayerNotRestorable, what).with_hint(format!(
            "bring the whole release back: td release rollback {back} --app {} --label {}",
            instance.app_name, instance.label
        ))
    }
}

/// The layer's resource as it was, fit for the release that serves. Pure.
fn choose(layer: Layer, now: &Plan, earlier: &Plan) -> Result<Resource, Refusal> {
    if !matches!(layer, Layer::Proxy | Layer::Routing) {
        return Err(Refusal::Layer(layer));
    }
    if proxy_of(now).map(|cache| cache.proxy) != proxy_of(earlier).map(|cache| cache.proxy) {
        return Err(Refusal::OtherProxy);
    }
    let find =
        |plan: &Plan| plan.resources.iter().find(|resource| is_of(resource, layer)).cloned().ok_or(Refusal::Absent);
    let (now, before) = (find(now)?, find(earlier)?);
    match (&now.spec, &before.spec) {
        (Spec::Route(serving), Spec::Route(then)) => {
            let spec = Spec::Route(rules_of(serving, then)?);
            Ok(Resource { spec, ..now })
        }
        _ => Ok(Resource { key: now.key, ..before }),
    }
}

fn is_of(resource: &Resource, layer: Layer) -> bool {
    resource.layer == layer && matches!(resource.spec, Spec::Cache(_) | Spec::Route(_))
}

fn proxy_of(plan: &Plan) -> Option<&CacheSpec> {
    plan.resources.iter().find_map(|resource| match &resource.spec {
        Spec::Cache(cache) if cache.proxy != ProxyKind::None => Some(cache),
        _ => None,
    })
}

/// The rules of then, for the release, the domains and the certificates of now.
fn rules_of(now: &RouteSpec, then: &RouteSpec) -> Result<RouteSpec, Refusal> {
    if (&now.hosts, &now.wildcards) != (&then.hosts, &then.wildcards) {
        return Err(Refusal::OtherHosts);
    }
    if now.certificates.is_empty() != then.certificates.is_empty() {
        return Err(Refusal::OtherTls);
    }
    Ok(RouteSpec {
        backend: then.backend.clone(),
        files: then.files.clone(),
        server_options: then.server_options.clone(),
        drain: then.drain,
        ..now.clone()
    })
}

fn check_secrets(resource: &Resource, known: &BTreeSet<String>) -> Result<(), Refusal> {
    let Spec::Route(route) = &resource.spec else { return Ok(()) };
    let mut names = route.files.values().flat_map(|text| text.names());
    if names.all(|name| known.contains(name)) { Ok(()) } else { Err(Refusal::Secret) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use magrathea_core::names::{InstanceId, ReleaseNumber};
    use magrathea_core::plan::Subject;
    use magrathea_core::units::Span;

    use super::*;

    fn plan(release: u32, proxy: ProxyKind, host: &str, text: &str) -> Plan {
        let instance = InstanceId(uuid::Uuid::nil());
        let cache = CacheSpec { slug: "i1".into(), proxy, text: text.into() };
        let route = RouteSpec {
            instance,
            slug: "i1".into(),
            release: ReleaseNumber(release),
            hosts: vec![host.into()],
            wildcards: Vec::new(),
            service: format!("i1-web-v{release}"),
            port: 8080,
            backend: text.into(),
            server_options: String::new(),
            at_once: None,
            files: BTreeMap::new(),
            certificates: BTreeMap::new(),
            canary: None,
            drain: Span(Duration::from_secs(30)),
        };
        let resource = |layer, key: &str, spec| Resource { layer, key: key.into(), spec };
        let resources = vec![
            resource(Layer::Proxy, "proxy/cache", Spec::Cache(cache)),
            resource(Layer::Routing, "routing/route", Spec::Route(route)),
        ];
        Plan::new(Subject::Instance { instance, release: ReleaseNumber(release) }, release.into(), None, resources)
    }

    #[test]
    fn rules_come_back_and_the_release_stays() {
        let (now, then) = (plan(3, ProxyKind::Varnish, "a", "new"), plan(1, ProxyKind::Varnish, "a", "old"));
        let back = choose(Layer::Routing, &now, &then).unwrap();
        let Spec::Route(route) = &back.spec else { panic!("{back:?}") };
        assert_eq!((route.backend.as_str(), route.service.as_str()), ("old", "i1-web-v3"));
        assert_eq!(route.release, ReleaseNumber(3));
        let back = choose(Layer::Proxy, &now, &then).unwrap();
        assert!(matches!(&back.spec, Spec::Cache(cache) if cache.text == "old"), "{back:?}");
    }

    #[test]
    fn what_others_depend_on_is_refused() {
        let now = plan(3, ProxyKind::Varnish, "a", "new");
        for (layer, then, refusal) in [
            (Layer::App, plan(1, ProxyKind::Varnish, "a", "old"), Refusal::Layer(Layer::App)),
            (Layer::Storage, plan(1, ProxyKind::Varnish, "a", "old"), Refusal::Layer(Layer::Storage)),
            (Layer::Proxy, plan(1, ProxyKind::Nginx, "a", "old"), Refusal::OtherProxy),
            (Layer::Routing, plan(1, ProxyKind::Nginx, "a", "old"), Refusal::OtherProxy),
            (Layer::Routing, plan(1, ProxyKind::Varnish, "b", "old"), Refusal::OtherHosts),
        ] {
            assert_eq!(choose(layer, &now, &then).unwrap_err(), refusal, "{layer}");
        }
    }
}
