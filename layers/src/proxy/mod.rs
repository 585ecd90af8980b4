//! Layer 4: what an instance adds to the shared cache. Whether a request is offered to the cache at all is decided in
//! the router, from its method, cookies and path.

mod custom;
mod nginx;
mod varnish;

use magrathea_core::manifest::ProxyKind;
use magrathea_core::names::Layer;
use magrathea_core::plan::{CacheSpec, Resource, Spec};

use crate::{InstanceInput, LayerError, resource};

pub fn plan_proxy(input: &InstanceInput<'_>) -> Result<Option<Resource>, LayerError> {
    let proxy = &input.sections.proxy;
    if proxy.vcl.is_some() && proxy.kind != ProxyKind::Varnish {
        return Err(LayerError::new("proxy.vcl", "only Varnish reads VCL").hint("set proxy.kind to varnish"));
    }
    let text = match proxy.kind {
        ProxyKind::Varnish => varnish::render_varnish(input)?,
        ProxyKind::Nginx => nginx::render_nginx(input)?,
        ProxyKind::None => return Ok(None),
    };
    let spec = CacheSpec { slug: input.slug(), proxy: proxy.kind, text };
    Ok(Some(resource(Layer::Proxy, "cache", Spec::Cache(spec))))
}
