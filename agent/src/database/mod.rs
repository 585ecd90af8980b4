//! Databases: SQL fed to the server's own client inside its container, as its root over the Unix socket.

pub mod quota;

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::plan::DatabaseSpec;

use crate::engine::{Engine, Said};
use crate::fail::{Outcome, internal, node, refused};
use crate::node::NodeAgent;

/// A server that is making its data folder takes this long at most.
const START: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// Makes a database and its user.
pub async fn ensure(agent: &NodeAgent, spec: &DatabaseSpec, secrets: &BTreeMap<String, String>) -> Outcome<()> {
    // The texts go into SQL between quotes; nothing that could end them may come in.
    let harmless = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    for name in spec.ensure.names() {
        if !secrets.get(name).is_some_and(|value| harmless(value)) {
            return Err(internal(format!("the secret {name} is missing or has characters that do not go into SQL")));
        }
    }
    let sql = spec.ensure.reveal(secrets).map_err(|name| internal(format!("no value came for the secret {name}")))?;
    feed(&agent.engine, &sql).await?;
    quota::ensured(agent, &spec.name, spec.quota.as_ref()).await
}

/// Takes a database away with its data.
pub async fn destroy(agent: &NodeAgent, spec: &DatabaseSpec) -> Outcome<()> {
    feed(&agent.engine, &spec.destroy).await?;
    quota::forget(&agent.folders, &spec.name)
}

/// Has the server do it.
async fn feed(engine: &Engine, sql: &str) -> Outcome<()> {
    ask(engine, sql).await.map(drop)
}

/// What the server answers, without the names of columns.
async fn ask(engine: &Engine, sql: &str) -> Outcome<String> {
    let give_up = tokio::time::Instant::now() + START;
    loop {
        let said = match engine.role_container("mariadb").await? {
            Some(container) => {
                engine.exec(&container, &["mariadb", "--batch", "--skip-column-names"], Some(sql)).await?
            }
            None => Said { code: -1, out: String::new(), err: "ERROR 2002: no container runs".into() },
        };
        if said.code == 0 {
            return Ok(said.out);
        }
        // 2002: nothing listens on the socket yet; 2013: it went away; 1130 and 1045: it is still being set up.
        let starting =
            ["ERROR 2002", "ERROR 2013", "ERROR 1130", "ERROR 1045"].iter().any(|code| said.err.contains(code));
        if !starting {
            return Err(refused(format!("mariadb: {}", said.all())));
        }
        if tokio::time::Instant::now() > give_up {
            return Err(node(format!("mariadb does not answer: {}", said.all())));
        }
        tokio::time::sleep(POLL).await;
    }
}
