//! Tomcat's configuration: one web application on one connector, nothing else deployed.

use magrathea_core::plan::{FileSpec, OVERLAY_POOL};
use magrathea_core::units::ByteSize;
use minijinja::context;

use super::served::{document_root, timeout_seconds};
use super::{file, replica_port};
use crate::render::render;
use crate::spread::is_spread;
use crate::{InstanceInput, LayerError, check};

pub fn render_tomcat(input: &InstanceInput<'_>) -> Result<Vec<FileSpec>, LayerError> {
    let app = &input.sections.app_layer;
    if app.version.as_deref().is_some_and(|version| !matches!(version, "10" | "10.1")) {
        return Err(
            LayerError::new("app_layer.version", "there is no such Tomcat here").hint("the tomcat stack has 10.1")
        );
    }
    if !app.ini.is_empty() {
        return Err(LayerError::new("app_layer.ini", "php.ini settings mean nothing to Tomcat"));
    }
    if !app.locations.is_empty() {
        return Err(LayerError::new("app_layer.locations", "Tomcat has no location rules")
            .hint("say it in the application's WEB-INF/web.xml"));
    }
    let folder = document_root(input)?;
    let values = context! {
        port => replica_port(input.uid),
        context => check::url_path("app_layer.context", &app.context)?.trim_end_matches('/'),
        folder,
        threads => threads(app.memory),
        gateway => trusted(input),
        max_body => input.sections.proxy.max_body.bytes(),
        timeout => timeout_seconds(input) * 1000,
    };
    let server = render("server.xml", include_str!("../../templates/server.xml.j2"), values)?;
    Ok(vec![
        file("/etc/magrathea/tomcat/server.xml", server),
        file("/etc/magrathea/tomcat/logging.properties", include_str!("../../templates/logging.properties").into()),
    ])
}

/// A pattern of the addresses that the router comes from.
fn trusted(input: &InstanceInput<'_>) -> String {
    let gateway = input.instance_gateway.to_string().replace('.', "\\.");
    if !is_spread(input) {
        return gateway;
    }
    let start: Vec<_> = OVERLAY_POOL.split('.').take(2).collect();
    format!("{gateway}|{}\\.\\d+\\.\\d+", start.join("\\."))
}

/// How many requests run at once.
pub fn threads(memory: ByteSize) -> u64 {
    (memory.as_mib() / 4).clamp(25, 400)
}

/// Options of the JVM: a heap that leaves room for threads, classes and compiled code in the replica's memory.
pub fn java_options(memory: ByteSize) -> String {
    let heap = memory.as_mib() * 55 / 100;
    let collector = if memory >= ByteSize::gib(2) { "G1" } else { "Serial" };
    format!(
        "-Xms{}m -Xmx{heap}m -Xss512k -XX:MaxMetaspaceSize={}m -XX:ReservedCodeCacheSize=48m -XX:+Use{collector}GC \
         -XX:TieredStopAtLevel=4 -Xshare:auto -XX:+ExitOnOutOfMemoryError -Djava.security.egd=file:/dev/urandom",
        heap / 4,
        memory.as_mib() / 4,
    )
}
