//! The SSH server: people log in with their keys, for git, shells, files and tunnels. What they may do is decided where
//! the API decides it; here is only how they get there.

mod attempts;
mod bridge;
mod connection;
mod front;
mod guarded;
mod host_key;
mod inbox;
mod listen;
mod output;
mod server;
mod session;
mod target;
#[cfg(test)]
mod tests;
mod tunnel;
mod waiting;

pub use self::host_key::{Endpoint, HostKey};
pub use self::listen::Listener;
