//! `ssh -L`: connections to an instance's own database and memcached, and to nothing else.

use std::sync::Arc;

use super::connection::Connection;
use super::inbox::Inbox;
use super::output::Output;
use super::server::Opening;

/// Where the client wants to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub host: String,
    pub port: u32,
}

/// Serves one forwarded connection to its end.
pub async fn serve(connection: Arc<Connection>, wanted: Wanted, opening: Opening, _inbox: Inbox, _output: Output) {
    tracing::debug!(address = %connection.address, ?wanted, "a tunnel was refused");
    opening.refuse().await;
}
