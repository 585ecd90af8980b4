//! Layer 2: the instance's own database account and its own memcached.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::names::Layer;
use magrathea_core::plan::{
    DatabaseQuota, DatabaseSpec, Limits, Resource, SecretText, ServiceMode, ServiceNetwork, ServiceSpec, Spec,
};
use magrathea_core::units::{ByteSize, Span};
use minijinja::context;

use crate::render::render;
use crate::{InstanceInput, LayerError, image, resource};

/// The secret that holds the database password. The gateway makes it, out of letters and digits alone.
pub const PASSWORD: &str = "DB_PASSWORD";
/// The secret that holds the password before it, for as long as a release that knows no other may run; the same one
/// otherwise. The account takes both, so that no plan differs for a rotation, and none that is laid again breaks one.
pub const OLD_PASSWORD: &str = "DB_PASSWORD_OLD";
/// The name under which an instance's replicas find its memcached.
pub const MEMCACHED_HOST: &str = "memcached";
pub const MEMCACHED_PORT: u16 = 11211;

pub fn plan_db(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let mut resources = Vec::new();
    if let Some(mysql) = &input.sections.db.mysql {
        let old = input.secrets.contains(OLD_PASSWORD).then_some(OLD_PASSWORD);
        let values = context! { name => input.slug(), password => PASSWORD, old, connections => mysql.connections };
        let spec = DatabaseSpec {
            name: input.slug(),
            ensure: SecretText(render("ensure.sql", include_str!("../templates/ensure.sql.j2"), values.clone())?),
            destroy: render("destroy.sql", include_str!("../templates/destroy.sql.j2"), values.clone())?,
            quota: mysql.quota.map(|bytes| database_quota(bytes, values)).transpose()?,
        };
        resources.push(resource(Layer::Db, "mysql", Spec::Database(spec)));
    }
    if let Some(memory) = input.sections.db.memcache {
        resources.push(resource(Layer::Db, "memcached", Spec::Service(Box::new(memcached(input, memory)?))));
    }
    Ok(resources)
}

fn database_quota(bytes: ByteSize, values: minijinja::Value) -> Result<DatabaseQuota, LayerError> {
    Ok(DatabaseQuota {
        bytes,
        close: render("close.sql", include_str!("../templates/close.sql.j2"), values.clone())?,
        open: render("open.sql", include_str!("../templates/open.sql.j2"), values)?,
    })
}

fn memcached(input: &InstanceInput<'_>, memory: ByteSize) -> Result<ServiceSpec, LayerError> {
    let key = "db.memcache";
    if !(ByteSize::mib(8)..=ByteSize::gib(64)).contains(&memory) {
        return Err(LayerError::new(key, format!("{memory} is not between 8MiB and 64GiB")));
    }
    let megabytes = memory.as_mib().to_string();
    let command = ["setpriv", "--no-new-privs", "memcached", "-U", "0", "-t", "2", "-c", "1024", "-m", &megabytes];
    Ok(ServiceSpec {
        name: format!("{}-memcached", input.slug()),
        image: image(input.images, key, "memcached")?,
        mode: ServiceMode::Replicated(1),
        on: Layer::Db,
        spread: false,
        network: ServiceNetwork::Instance { network: input.slug(), aliases: vec![MEMCACHED_HOST.into()] },
        user: Some(format!("{0}:{0}", input.uid)),
        command: command.map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        files: Vec::new(),
        secret_env: BTreeMap::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        read_only: true,
        capabilities: Some(Vec::new()),
        // Connections, the hash table and the threads take memory beside the items.
        limits: Limits {
            memory: Some(ByteSize(memory.bytes() + ByteSize::mib(48).bytes())),
            millicpus: None,
            pids: Some(32),
        },
        stop_signal: None,
        stop_grace: Span(Duration::from_secs(5)),
        labels: BTreeMap::new(),
    })
}
