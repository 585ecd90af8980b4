//! The server that tests share: started here, but owned by no process.

use super::{Options, binaries, cluster, process};

/// Whether the server runs.
pub fn is_ready(options: &Options) -> bool {
    process::ready_pid(options).is_some_and(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
}

/// Starts it, and leaves it to itself.
pub async fn start(options: &Options) {
    let binaries = binaries::find().unwrap();
    cluster::ensure(&binaries, options).await.unwrap();
    process::stop_orphan(options).await.unwrap();
    drop(process::Server::start(&binaries, options).await.unwrap());
}
