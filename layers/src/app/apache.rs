//! Apache's whole configuration in a replica, with or without PHP behind it.

use magrathea_core::manifest::Stack;
use magrathea_core::plan::OVERLAY_POOL;
use minijinja::{Value, context};

use super::served::{document_root, timeout_seconds, upload_folders};
use super::{php, replica_port};
use crate::render::render;
use crate::spread::is_spread;
use crate::storage::{ASSETS, keeps_assets};
use crate::{InstanceInput, LayerError, check};

/// How many requests are answered at once where there is nothing behind Apache.
pub const REQUESTS: u64 = 256;

/// What a URL prefix, or a folder, is allowed to do.
struct Rules {
    /// The URL prefix without the closing slash; none when the rule is about a folder alone.
    url: Option<String>,
    /// The folder in the container.
    folder: String,
    scripts: bool,
    allow: bool,
    expires: Option<u64>,
    headers: Vec<(String, String)>,
}

impl Rules {
    fn uploads(folder: String) -> Self {
        Rules { url: None, folder, scripts: false, allow: true, expires: None, headers: Vec::new() }
    }

    fn value(self) -> Value {
        let headers: Vec<_> = self.headers.into_iter().map(|(name, value)| context! { name, value }).collect();
        let Rules { url, folder, scripts, allow, expires, .. } = self;
        context! { url, folder, scripts, allow, expires, headers }
    }
}

pub fn render_apache(input: &InstanceInput<'_>) -> Result<String, LayerError> {
    let document_root = document_root(input)?;
    let php = input.stack == Stack::Php;
    let mut rules: Vec<_> = upload_folders(input)?.into_iter().map(Rules::uploads).collect();
    rules.extend(location_rules(input, &document_root)?);
    let values = context! {
        port => replica_port(input.uid),
        document_root,
        requests => REQUESTS,
        php,
        php_version => php::VERSION,
        socket => php::SOCKET,
        assets => keeps_assets(input).then_some(ASSETS),
        rules => rules.into_iter().map(Rules::value).collect::<Vec<_>>(),
        gateway => input.instance_gateway.to_string(),
        crossings => is_spread(input).then_some(OVERLAY_POOL),
        max_body => input.sections.proxy.max_body.bytes(),
        timeout => timeout_seconds(input),
    };
    render("apache.conf", include_str!("../../templates/apache.conf.j2"), values)
}

fn location_rules(input: &InstanceInput<'_>, document_root: &str) -> Result<Vec<Rules>, LayerError> {
    let mut rules = Vec::new();
    for (prefix, location) in &input.sections.app_layer.locations {
        let key = format!("app_layer.locations.{prefix}");
        let url = check::url_path(&key, prefix)?.trim_end_matches('/');
        let mut headers = Vec::new();
        for (name, value) in &location.headers {
            let key = format!("{key}.headers.{name}");
            headers.push((check::header_name(&key, name)?.to_owned(), check::header_value(&key, value)?));
        }
        rules.push(Rules {
            url: Some(url.to_owned()),
            folder: format!("{document_root}{url}"),
            scripts: location.scripts,
            allow: location.allow,
            expires: location.expires.map(|span| span.0.as_secs()),
            headers,
        });
    }
    Ok(rules)
}
