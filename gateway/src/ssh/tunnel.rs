//! `ssh -L`: connections to an instance's own database and memcached, and to nothing else.

use std::sync::Arc;

use super::bridge::carry;
use super::connection::Connection;
use super::inbox::Inbox;
use super::output::Output;
use super::server::Opening;
use super::session::find_name;
use super::target::Target;
use crate::api::error::{ApiError, Code};
use crate::remote::{self, StreamHandle, TunnelTo};

/// Where the client wants to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub host: String,
    pub port: u32,
}

impl Wanted {
    /// Names that stand for what the instance has; as addresses they mean nothing.
    fn to(&self) -> Option<TunnelTo> {
        match (self.host.as_str(), self.port) {
            ("db", 3306) => Some(TunnelTo::Db),
            ("memcached", 11211) => Some(TunnelTo::Memcached),
            _ => None,
        }
    }
}

/// Serves one forwarded connection to its end.
pub async fn serve(connection: Arc<Connection>, wanted: Wanted, opening: Opening, inbox: Inbox, mut output: Output) {
    match open(&connection, &wanted).await {
        Ok(stream) => {
            opening.accept().await;
            let ending = output.ending();
            carry(stream, inbox, &mut output).await;
            ending.close().await;
        }
        Err(error) => {
            tracing::info!(address = %connection.address, %error, "a tunnel was refused");
            opening.refuse().await;
        }
    }
}

async fn open(connection: &Connection, wanted: &Wanted) -> Result<StreamHandle, ApiError> {
    let forbidden = |message: &str| ApiError::new(Code::Forbidden, message);
    let to = wanted.to().ok_or_else(|| forbidden("tunnels lead to db:3306 and memcached:11211 alone"))?;
    let login = connection.login().ok_or_else(|| forbidden("nobody is logged in"))?;
    let at: Target =
        login.user.parse().map_err(|_| forbidden("the user name is not APP.LABEL or APP.LABEL.CLUSTER"))?;
    let actor = connection.actor().await?.ok_or_else(|| forbidden("this key is not accepted any more"))?;
    let name = find_name(&connection.state, &actor, at).await?;
    remote::tunnel(&connection.state, &actor, &name, to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_leads_to_what_is_the_instances_own() {
        for (host, port, expect) in [
            ("db", 3306, Some(TunnelTo::Db)),
            ("memcached", 11211, Some(TunnelTo::Memcached)),
            ("db", 22, None),
            ("127.0.0.1", 3306, None),
            ("DB", 3306, None),
            ("", 0, None),
        ] {
            assert_eq!(Wanted { host: host.into(), port }.to(), expect, "{host}:{port}");
        }
    }
}
