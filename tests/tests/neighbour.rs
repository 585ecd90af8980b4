//! A machine on the same wire as the node: a network namespace of its own, joined by a pair of interfaces.

use std::process::Command;

use magrathea_tests::{Lab, run};

const NODE: &str = "198.18.77.1";
const NEIGHBOUR: &str = "198.18.77.2";

/// Taken away when the test ends, however it ends.
struct Wire(String);

impl Wire {
    fn new() -> Wire {
        let name = format!("mag{}", std::process::id());
        let wire = Wire(name.clone());
        let (near, far) = (format!("{name}n"), format!("{name}f"));
        for line in [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("address add {NODE}/30 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} address add {NEIGHBOUR}/30 dev {far}"),
            format!("-n {name} link set {far} up"),
            format!("-n {name} route add default via {NODE}"),
        ] {
            run(Command::new("ip").args(line.split(' '))).ok();
        }
        wire
    }

    /// Whether the neighbour's shell succeeds with this.
    fn tries(&self, script: &str) -> bool {
        run(Command::new("ip").args(["netns", "exec", &self.0, "timeout", "2", "bash", "-c", script])).code == 0
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn dropped_tunnel_packets() -> u64 {
    let chain = run(Command::new("nft").args(["list", "chain", "inet", "magrathea", "input"])).ok().stdout;
    let rule = chain.lines().find(|line| line.contains("udp dport 4789") && line.contains("drop")).expect("the rule");
    let count = rule.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.expect("a counter").parse().unwrap()
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_neighbour_reaches_nothing_inside() {
    let lab = Lab::get();
    let wire = Wire::new();
    let gateway = lab.docker(&["network", "inspect", "docker_gwbridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]);
    let gateway = gateway.trim();
    // So that a wire which carries nothing cannot pass for closed doors.
    assert!(
        wire.tries(&format!("ping -c 1 -W 1 {NODE} >/dev/null || (exec 3<>/dev/tcp/{NODE}/1) 2>&1 | grep -q refused"))
    );
    for (address, port) in
        [(gateway, 13306), (NODE, 13306), (NODE, 17443), (NODE, 17444), (NODE, 2377), (NODE, lab.http)]
    {
        assert!(!wire.tries(&format!("exec 3<>/dev/tcp/{address}/{port}")), "{address}:{port} answers");
    }
    let before = dropped_tunnel_packets();
    assert!(wire.tries(&format!("echo forged >/dev/udp/{NODE}/4789")));
    assert!(dropped_tunnel_packets() > before, "the overlay's port takes a stranger's packet");
}
