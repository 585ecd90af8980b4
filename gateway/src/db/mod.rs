//! The store. Only this folder names the PostgreSQL driver; each function holds the text of the one query it runs and
//! turns rows into domain types. Functions take any [`Client`], so that services decide where a transaction begins.

pub mod apps;
pub mod billing;
pub mod certificates;
pub mod config_values;
pub mod deploys;
pub mod drains;
pub mod grants;
pub mod instances;
pub mod keys;
pub mod lists;
pub mod loads;
pub mod members;
mod migrate;
pub mod nodes;
pub mod organisations;
pub mod people;
pub mod plans;
pub mod previews;
pub mod promises;
pub mod quotas;
pub mod releases;
pub mod runs;
pub mod scales;
pub mod teams;
pub mod timeline;
pub mod tokens;
pub mod usage;

#[cfg(test)]
mod tests;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::error::SqlState;

#[cfg(test)]
pub use self::migrate::fingerprint;
pub use self::migrate::migrate;
pub use deadpool_postgres::GenericClient as Client;
pub use deadpool_postgres::Transaction;
pub use tokio_postgres::Row;

/// A pooled connection; `transaction()` begins a transaction, which is rolled back unless it is committed.
pub type Connection = deadpool_postgres::Object;

/// Idle connections cost PostgreSQL memory; this many serve a gateway well.
const POOL_SIZE: usize = 8;

/// How long a request waits for a connection or for the server, before it is told that the store is away.
const WAIT: Duration = Duration::from_secs(10);

/// The store.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("no connection to the database")]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("the database refused a query")]
    Query(#[from] tokio_postgres::Error),
    /// A stored value is not of the type it should be.
    #[error("the database holds a wrong value in {column}: {reason}")]
    Value { column: &'static str, reason: String },
}

/// Beginning and committing a transaction are the driver's own, and so are their errors.
impl From<tokio_postgres::Error> for crate::api::error::ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        DbError::from(error).into()
    }
}

impl DbError {
    /// Whether the named unique or foreign key constraint was violated.
    pub fn violates(&self, constraint: &str) -> bool {
        match self {
            DbError::Query(error) => error.as_db_error().and_then(|e| e.constraint()) == Some(constraint),
            _ => false,
        }
    }

    /// Whether the server is away, which passes, rather than the query wrong.
    pub fn is_unavailable(&self) -> bool {
        match self {
            DbError::Pool(_) => true,
            DbError::Query(error) => {
                let stopping = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
                error.is_closed() || error.code().is_some_and(|code| stopping.contains(code))
            }
            DbError::Value { .. } => false,
        }
    }

    /// A stored value that does not parse.
    pub fn value(column: &'static str, reason: impl std::fmt::Display) -> Self {
        DbError::Value { column, reason: reason.to_string() }
    }
}

impl Db {
    /// Makes a pool for a connection string (`postgresql://…` or `host=… dbname=…`). Connects on first use.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let config: tokio_postgres::Config = url.parse()?;
        let manager = Manager::from_config(
            config,
            tokio_postgres::NoTls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts = Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) };
        let pool = Pool::builder(manager).max_size(POOL_SIZE).runtime(Runtime::Tokio1).timeouts(timeouts).build()?;
        Ok(Db { pool })
    }

    /// A connection from the pool. Begin a transaction with `conn.transaction()`.
    pub async fn conn(&self) -> Result<Connection, DbError> {
        Ok(self.pool.get().await?)
    }

    /// Whether the server answers now.
    pub async fn ping(&self) -> bool {
        match self.conn().await {
            Ok(conn) => conn.simple_query("SELECT 1").await.is_ok(),
            Err(_) => false,
        }
    }

    /// Closes all connections; waiting callers get an error.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// Makes a database unless it exists.
pub async fn ensure_database(db: &Db, name: &str) -> anyhow::Result<()> {
    let conn = db.conn().await?;
    if conn.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await?.is_none() {
        conn.batch_execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).await?;
    }
    Ok(())
}
