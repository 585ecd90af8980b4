//! An instance's part of the shared nginx cache.

use minijinja::context;

use crate::render::render;
use crate::routing::hosts;
use crate::{InstanceInput, LayerError};

pub fn render_nginx(input: &InstanceInput<'_>) -> Result<String, LayerError> {
    let proxy = &input.sections.proxy;
    let names = hosts(input)?;
    let values = context! {
        names => names.exact.iter().cloned().chain(names.wildcards.iter().map(|w| format!("*.{w}"))).collect::<Vec<_>>(),
        ttl => proxy.ttl.0.as_secs(),
        grace => !proxy.grace.0.is_zero(),
        timeout => crate::app::timeout_seconds(input),
    };
    render("instance.nginx", include_str!("../../templates/instance.nginx.j2"), values)
}
