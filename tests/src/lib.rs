//! The laboratory: a whole Magrathea of its own (`scripts/test.sh` brings it up), and what the end-to-end tests and
//! benchmarks do with it. Everything goes through the doors that people use: the real `td`, HTTP, the real engine.

pub mod billing;
pub mod cutover;
pub mod disk;
pub mod load;
pub mod people;
pub mod plain;
pub mod push;
pub mod readers;
pub mod repo;
pub mod second;
pub mod site;
pub mod socket;
pub mod ssh;
pub mod terminal;
pub mod typing;
pub mod usage;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running installation.
#[derive(Debug, Clone)]
pub struct Lab {
    pub home: PathBuf,
    pub repository: PathBuf,
    pub http: u16,
    pub https: u16,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The JSON on stdout.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The same, after making sure that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl Lab {
    /// The laboratory that `scripts/test.sh` started.
    pub fn get() -> Lab {
        let var =
            |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through `make test`"));
        Lab {
            home: var("MAGRATHEA_HOME").into(),
            repository: Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into(),
            http: var("MAGRATHEA_TEST_HTTP").parse().unwrap(),
            https: var("MAGRATHEA_TEST_HTTPS").parse().unwrap(),
        }
    }

    /// A command of td's, not yet started.
    pub fn td_command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(self.home.join("bin/td"));
        command.args(args).current_dir(dir).env("TD_CONFIG_DIR", self.home.join("td")).env("NO_COLOR", "1");
        command
    }

    /// Runs td in a folder.
    pub fn td(&self, dir: &Path, args: &[&str]) -> Ended {
        run(&mut self.td_command(dir, args))
    }

    /// Runs `scripts/local.sh VERB` with this laboratory's settings.
    pub fn local(&self, verb: &str) -> Ended {
        run(Command::new(self.repository.join("scripts/local.sh")).arg(verb).env("MAGRATHEA_SKIP_BUILD", "1"))
    }

    /// Kills one of the installation's processes without a chance to clean up.
    pub fn kill(&self, process: &str) {
        let pid = std::fs::read_to_string(self.home.join("run").join(format!("{process}.pid"))).unwrap();
        run(Command::new("kill").args(["-9", pid.trim()]));
        let gone = PathBuf::from(format!("/proc/{}", pid.trim()));
        until(Duration::from_secs(10), "the killed process is gone", || !gone.exists());
    }

    /// Sends a signal to the private PostgreSQL and all its backends.
    pub fn signal_postgres(&self, signal: &str) {
        let data = self.home.join("gateway/postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(&data).unwrap_or_else(|error| panic!("{}: {error}", data.display()));
        let main = text.lines().next().unwrap();
        let backends = run(Command::new("pgrep").args(["-P", main])).stdout;
        let all = std::iter::once(main).chain(backends.lines());
        all.for_each(|pid| drop(run(Command::new("kill").args([&format!("-{signal}"), pid]))));
    }

    /// A client that reaches the router whatever the host name, keeps cookies, and follows no redirect.
    pub fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(Loopback))
            .build()
            .unwrap()
    }

    /// The URL of a path on a host of the laboratory.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.http)
    }

    /// The engine's answer to a docker command.
    pub fn docker(&self, args: &[&str]) -> String {
        run(Command::new("docker").args(args)).ok().stdout
    }

    /// The id of one of the installation's processes.
    pub fn pid(&self, process: &str) -> String {
        let path = self.home.join("run").join(format!("{process}.pid"));
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A command at the router's own control socket.
    pub fn ask_router(&self, command: &str) -> String {
        let mut control = UnixStream::connect(self.home.join("agent/node/admin/master.sock")).unwrap();
        control.write_all(format!("{command}\n").as_bytes()).unwrap();
        control.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The prefix of this installation's names in the engine.
    pub fn prefix(&self) -> String {
        std::env::var("MAGRATHEA_PREFIX").unwrap_or_else(|_| "mag".into())
    }
}

/// Resolves every name to this machine: `*.localhost` must not depend on the machine's resolver.
struct Loopback;

impl reqwest::dns::Resolve for Loopback {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Box::pin(async move { Ok(Box::new(std::iter::once(address)) as reqwest::dns::Addrs) })
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    let output =
        command.stdin(std::process::Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a condition; panics with `what` when it does not come about in time.
#[track_caller]
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
