//! The gateway's commands: each a file.

mod init;
mod node_token;
mod reference;
mod serve;

pub use init::init;
pub use node_token::node_token;
pub use reference::{errors_markdown, openapi_json};
#[cfg(test)]
pub use serve::open_state;
pub use serve::serve;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use magrathea_core::clusters::Clusters;

use crate::clusters;
use crate::config::Place;
use crate::db::Db;
use crate::postgres::{self, Options, Ownership, Private};

/// The private server's database.
const DATABASE: &str = "magrathea";

/// The data folder and clusters.yml, checked before anything is changed.
fn prepare(place: &Place) -> anyhow::Result<Clusters> {
    if rustix::process::geteuid().is_root() && !place.allow_root {
        bail!(
            "the gateway needs no rights and does not run as root; run it as a user of its own, or give --allow-root"
        );
    }
    let clusters = clusters::load(&place.clusters)?;
    crate::files::private_folder(&place.data)?;
    crate::files::private_folder(&place.data.join("pki"))?;
    Ok(clusters)
}

/// The store, with its schema up to date.
struct Store {
    db: Db,
    /// The private server, when this process owns it.
    server: Option<Private>,
    /// Whether another gateway process on the same data folder owns the private server.
    shared: bool,
}

impl Store {
    async fn open(place: &Place) -> anyhow::Result<Self> {
        let (url, server, shared) = match &place.database_url {
            Some(url) => (url.clone(), None, false),
            None => {
                let data = std::path::absolute(&place.data)?;
                let options = Options::new(data.join("postgres"));
                let (server, shared) = match postgres::start(&options).await? {
                    Ownership::Owned(server) => (Some(server), false),
                    Ownership::Elsewhere => (None, true),
                };
                postgres::ensure_database(&options, DATABASE).await?;
                (options.url(DATABASE), server, shared)
            }
        };
        let db = Db::new(&url).context("the database URL is malformed")?;
        crate::db::migrate(&db).await.context("cannot bring the database up to date")?;
        Ok(Store { db, server, shared })
    }

    async fn close(self) {
        self.db.close();
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Gives a secret to whoever asked for it: a private file when one is named, standard output otherwise.
fn hand_out(text: &str, file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(file) => crate::files::write(file, 0o600, text.as_bytes()),
        None => Ok(writeln!(std::io::stdout(), "{text}")?),
    }
}
