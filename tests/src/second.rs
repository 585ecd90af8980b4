//! A second, real cluster, for as long as one test runs: `tests/second.sh` makes it, and takes it away even when the test is
//! killed. Its engine, router and agent are in a network namespace; what must pass its border is relayed here.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Ended, Lab, run, until};

/// The second cluster.
pub struct Second {
    lab: Lab,
    pub http: u16,
    pub https: u16,
    nodes: usize,
}

impl Second {
    /// The name in clusters.yml.
    pub const NAME: &str = "far";

    /// Makes it and waits until its layers are laid.
    pub fn new(lab: &Lab) -> Second {
        Second::of(lab, 1)
    }

    /// The same with a second node, which carries replicas alone.
    pub fn of_two_nodes(lab: &Lab) -> Second {
        Second::of(lab, 2)
    }

    fn of(lab: &Lab, nodes: usize) -> Second {
        let second = Second { lab: lab.clone(), http: lab.http + 7, https: lab.https + 7, nodes };
        // In a session of its own: it outlives a test that is killed with all that belongs to it.
        let mut guard = second.script("--fork", "guard");
        assert!(guard.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        run(&mut second.script("--wait", "up")).ok();
        let agents = std::env::var("MAGRATHEA_AGENTS").unwrap_or_else(|_| "127.0.0.1:7444".into());
        let agents: u16 = agents.rsplit(':').next().unwrap().parse().unwrap();
        let inside = PathBuf::from(format!("/run/netns/{}far", lab.prefix()));
        relay(agents, Some(&inside), None);
        if nodes > 1 {
            relay(agents, Some(Path::new(&format!("/run/netns/{}far2", lab.prefix()))), None);
        }
        for port in [second.http, second.https] {
            relay(port, None, Some(&inside));
        }
        until(Duration::from_secs(90), "the second cluster's layers are laid", || second.is_ready());
        until(Duration::from_secs(60), "all nodes take replicas", || second.takers() == nodes);
        second
    }

    /// How many nodes are up and take replicas that may be on any of them.
    pub fn takers(&self) -> usize {
        let label = format!("node.label={}.spread=true", self.lab.prefix());
        let listed = self.docker(&["node", "ls", "--filter", &label, "--format", "{{.Status}} {{.Availability}}"]);
        listed.stdout.lines().filter(|line| *line == "Ready Active").count()
    }

    /// Takes the second node's network away.
    pub fn unplug(&self) {
        run(&mut self.script("--wait", "unplug")).ok();
    }

    /// Gives it back.
    pub fn plug(&self) {
        run(&mut self.script("--wait", "plug")).ok();
    }

    /// Kills a node's agent without a chance to clean up, and starts another.
    pub fn restart_agent(&self, node: usize) {
        let pid = std::fs::read_to_string(self.home(node).join("run/magrathea-agent.pid")).unwrap();
        run(Command::new("kill").args(["-9", pid.trim()])).ok();
        run(self.script("--wait", "agent").arg(node.to_string())).ok();
    }

    fn script(&self, how: &str, verb: &str) -> Command {
        let mut command = Command::new("setsid");
        command.arg(how).arg(self.lab.repository.join("tests/second.sh")).arg(verb);
        command.arg(std::process::id().to_string());
        command.env("SECOND_HTTP", self.http.to_string()).env("SECOND_HTTPS", self.https.to_string());
        command.env("SECOND_NODES", self.nodes.to_string());
        command
    }

    fn is_ready(&self) -> bool {
        let status = self.lab.td(&self.lab.repository, &["status", "--json"]);
        let clusters = if status.code == 0 { status.json()["clusters"].clone() } else { return false };
        let far = clusters.as_array().unwrap().iter().find(|cluster| cluster["name"] == Self::NAME).cloned();
        far.is_some_and(|far| {
            let node = &far["nodes"][0];
            let runs =
                |service: &serde_json::Value| service["running"].as_u64() >= service["wanted"].as_u64().max(Some(1));
            let services = node["services"].as_array().unwrap();
            node["state"] == "connected" && !services.is_empty() && services.iter().all(runs)
        })
    }

    /// The URL of a path on a host of this cluster.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.http)
    }

    /// A docker command at this cluster's engine; of two, at the manager's.
    pub fn docker(&self, args: &[&str]) -> Ended {
        self.docker_of(1, args)
    }

    fn home(&self, node: usize) -> PathBuf {
        let end = if node == 1 { "-far".to_owned() } else { format!("-far{node}") };
        PathBuf::from(format!("{}{end}", self.lab.home.display()))
    }

    /// The same at the engine of the first node, or the second.
    pub fn docker_of(&self, node: usize, args: &[&str]) -> Ended {
        let socket = format!("unix://{}/docker.sock", self.home(node).display());
        run(Command::new("docker").args(["--host", &socket]).args(args))
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let ended = run(&mut self.script("--wait", "down"));
        if !thread::panicking() {
            ended.ok();
        }
    }
}

/// Passes connections to a port of the loopback in one network namespace on to the same port in another; without a path it
/// is the machine's own. It lives as long as the process.
fn relay(port: u16, from: Option<&Path>, to: Option<&Path>) {
    let (from, to) = (from.map(Path::to_owned), to.map(Path::to_owned));
    let (accepted, coming) = mpsc::channel::<TcpStream>();
    let (ready, listening) = mpsc::channel();
    thread::spawn(move || {
        enter(from.as_deref());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        ready.send(()).unwrap();
        for near in listener.incoming() {
            accepted.send(near.unwrap()).unwrap();
        }
    });
    listening.recv_timeout(Duration::from_secs(10)).expect("the relay listens");
    // A thread is in one namespace, and so is what it connects; what it spawns begins where it is.
    thread::spawn(move || {
        enter(to.as_deref());
        for near in coming {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || pass(back.0, back.1));
            thread::spawn(move || pass(near, far));
        }
    });
}

fn enter(namespace: Option<&Path>) {
    let Some(path) = namespace else { return };
    move_into_link_name_space(File::open(path).unwrap().as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
