//! An instance's VCL: the platform's rules first, then the app's own, then Varnish's built-in ones.

use minijinja::context;

use super::custom::check_custom_vcl;
use crate::render::render;
use crate::{InstanceInput, LayerError};

pub fn render_varnish(input: &InstanceInput<'_>) -> Result<String, LayerError> {
    let proxy = &input.sections.proxy;
    let custom = match &proxy.vcl {
        Some(path) => check_custom_vcl("proxy.vcl", input.text("proxy.vcl", path)?)?,
        None => String::new(),
    };
    let values = context! {
        ttl => proxy.ttl.0.as_millis().to_string(),
        grace => proxy.grace.0.as_millis().to_string(),
        timeout => crate::app::timeout_seconds(input),
        custom,
    };
    render("instance.vcl", include_str!("../../templates/instance.vcl.j2"), values)
}
