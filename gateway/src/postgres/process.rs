//! The server's process: started, watched, started again when it dies, stopped.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Options, wait_until};

/// How long the server may take to recover and answer, and to stop before it is stopped the hard way.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// Small: the control plane's data fit into little memory, and the node's memory belongs to the apps.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=40",
    "shared_buffers=16MB",
    "work_mem=2MB",
    "maintenance_work_mem=16MB",
    "max_wal_size=128MB",
    "min_wal_size=32MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_worker_processes=2",
    "max_logical_replication_workers=0",
    "max_parallel_workers=0",
    "autovacuum_max_workers=1",
    "huge_pages=off",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
];

/// A running server.
pub struct Server {
    child: Child,
}

/// One of PostgreSQL's programs, with a clean environment.
pub fn command(binaries: &Path, program: &str, options: &Options) -> Command {
    let program = binaries.join(program);
    let mut command = match options.wrapper.split_first() {
        Some((wrapper, arguments)) => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(program);
            command
        }
        None => Command::new(program),
    };
    // A group of its own, so that an interrupt typed at a terminal reaches the gateway alone.
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).process_group(0);
    command.current_dir(&options.folder);
    command
}

impl Server {
    /// Starts the server and waits until it answers.
    pub async fn start(binaries: &Path, options: &Options) -> anyhow::Result<Self> {
        let end = tokio::time::Instant::now() + START;
        loop {
            let mut server = Server::spawn(binaries, options)?;
            let exited = loop {
                if server.child.id().is_some() && ready_pid(options) == server.child.id() {
                    return Ok(server);
                }
                if let Some(status) = server.child.try_wait()? {
                    break status;
                }
                if tokio::time::Instant::now() >= end {
                    server.stop().await;
                    bail!("PostgreSQL was not ready within {} s", START.as_secs());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            // Backends of a killed server hold its memory until they notice, which is soon.
            if tokio::time::Instant::now() + START / 2 > end {
                bail!("PostgreSQL did not start ({exited}); its messages stand above");
            }
            tracing::warn!(status = %exited, "PostgreSQL did not start; trying again");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn spawn(binaries: &Path, options: &Options) -> anyhow::Result<Self> {
        let sockets = options.socket_folder();
        std::fs::create_dir_all(&sockets).with_context(|| format!("cannot make {}", sockets.display()))?;
        let mut command = command(binaries, "postgres", options);
        command.arg("-D").arg(options.data()).arg("-k").arg(&sockets).stdout(Stdio::null());
        for setting in SETTINGS.iter().copied().chain(options.settings.iter().map(String::as_str)) {
            command.arg("-c").arg(setting);
        }
        Ok(Server { child: command.spawn().context("cannot run postgres")? })
    }

    /// Fast shutdown; immediate when that takes too long.
    async fn stop(&mut self) {
        for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
            if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, signal);
            }
            match tokio::time::timeout(STOP, self.child.wait()).await {
                Ok(_) => return,
                Err(_) => tracing::warn!(?signal, "PostgreSQL does not stop"),
            }
        }
    }

    async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// Keeps the server running until `stop`, then stops it.
pub fn supervise(server: Server, binaries: PathBuf, options: Options, stop: CancellationToken) -> JoinHandle<()> {
    let supervise = async move {
        let mut server = server;
        loop {
            let died = tokio::select! {
                () = stop.cancelled() => break,
                died = server.wait() => died,
            };
            tracing::error!(status = ?died, "PostgreSQL died; starting it again");
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    started = Server::start(&binaries, &options) => match started {
                        Ok(started) => {
                            server = started;
                            break;
                        }
                        Err(error) => tracing::error!(error = format!("{error:#}"), "PostgreSQL does not start"),
                    },
                }
            }
        }
        server.stop().await;
    };
    #[expect(clippy::disallowed_methods, reason = "the owner awaits this handle after all other tasks have ended")]
    tokio::spawn(supervise)
}

/// The server that says in its `postmaster.pid` that it takes connections: its process in the first line, its status
/// in the eighth.
pub fn ready_pid(options: &Options) -> Option<u32> {
    let text = std::fs::read_to_string(options.data().join("postmaster.pid")).ok()?;
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next()?.parse().ok()?;
    (lines.nth(6) == Some("ready")).then_some(pid)
}

/// Stops the server that a killed gateway left behind.
pub async fn stop_orphan(options: &Options) -> anyhow::Result<()> {
    for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
        let Some(pid) = orphan(options) else { return Ok(()) };
        tracing::info!(pid = pid.as_raw_nonzero(), "stopping the PostgreSQL of a gateway that was killed");
        let _ = kill_process(pid, signal);
        if wait_until(STOP, async || orphan(options).is_none()).await {
            return Ok(());
        }
    }
    bail!("the PostgreSQL that an earlier gateway left behind does not stop")
}

/// The process that `postmaster.pid` names, when it is a server of this data folder. Another process may have got the
/// number of a server that is gone; PostgreSQL would then refuse to start, so such a file is taken away. A server that
/// ended but that nobody has waited for yet has no arguments any more, so it counts as gone.
fn orphan(options: &Options) -> Option<Pid> {
    let file = options.data().join("postmaster.pid");
    let text = std::fs::read_to_string(&file).ok()?;
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw)?;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let data = options.data();
    let ours = arguments.split(|b| *b == 0).any(|argument| argument == data.as_os_str().as_encoded_bytes());
    if ours {
        return Some(pid);
    }
    tracing::info!("a server that is gone left its postmaster.pid");
    let _ = std::fs::remove_file(file);
    None
}
