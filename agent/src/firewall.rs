//! The node's packet filter: what instances' and builds' containers reach, and what is reached from outside.
//!
//! One nftables table is shared by all installations on the node; each puts its own ports into the sets. The table only
//! drops: what it lets pass, the engine's own rules still judge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use magrathea_core::plan::{FirewallSpec, OVERLAY_POOL};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, GATEWAY_BRIDGE};
use crate::fail::Outcome;
use crate::folders::{self, Folders};
use crate::program::{run_program, run_program_with};

const STATE: &str = "firewall.json";
/// The port of the engine's overlay networks.
const TUNNEL: u16 = 4789;

/// What this installation has put into the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Doors {
    public_ports: Vec<u16>,
    instance_ports: Vec<u16>,
    /// The node's address on the instances' bridge.
    gateway: Option<IpAddr>,
    /// The interface of the builds' bridge.
    build_bridge: String,
    /// The swarm's nodes: those that a manager knows, and those of the cluster.
    #[serde(default)]
    peers: BTreeSet<IpAddr>,
    /// The cluster's nodes.
    #[serde(default)]
    nodes: Vec<IpAddr>,
}

/// Opens and closes. Says whether anything changed.
pub async fn ensure(engine: &Engine, folders: &Folders, spec: &FirewallSpec) -> Outcome<bool> {
    let held: Option<Doors> = folders::load(&folders.state(STATE))?;
    let doors = Doors {
        public_ports: spec.public_ports.clone(),
        instance_ports: spec.instance_ports.clone(),
        gateway: engine.instance_gateway().await?,
        build_bridge: engine.prefix().name("build"),
        peers: peers(engine, &spec.nodes).await?,
        nodes: spec.nodes.clone(),
    };
    put(folders, &doors, held.as_ref()).await?;
    Ok(held.as_ref() != Some(&doors))
}

async fn put(folders: &Folders, doors: &Doors, held: Option<&Doors>) -> Outcome<()> {
    run_program_with("nft", &["-f", "-"], &render(doors, held)).await?;
    folders::store(&folders.state(STATE), doors)
}

/// After a start of the node: the table as it was.
pub async fn restore(engine: &Engine, folders: &Folders) {
    let work = async {
        let Some(held) = folders::load::<Doors>(&folders.state(STATE))? else { return Ok(()) };
        let doors = Doors { gateway: engine.instance_gateway().await?, ..held.clone() };
        run_program_with("nft", &["-f", "-"], &render(&doors, Some(&held))).await.map(|_| ())
    };
    let outcome: Outcome<()> = work.await;
    if let Err(error) = outcome {
        tracing::error!(%error, "the packet filter is not in place");
    }
}

/// Lets in nodes that joined the swarm meanwhile, and no longer those that left.
pub async fn refresh(engine: &Engine, folders: &Folders) -> Outcome<()> {
    let Some(held) = folders::load::<Doors>(&folders.state(STATE))? else { return Ok(()) };
    let doors = Doors { peers: peers(engine, &held.nodes).await?, ..held.clone() };
    if doors == held {
        return Ok(());
    }
    put(folders, &doors, Some(&held)).await
}

async fn peers(engine: &Engine, nodes: &[IpAddr]) -> Outcome<BTreeSet<IpAddr>> {
    let reachable = nodes.iter().copied().filter(|node| !node.is_loopback());
    Ok(engine.peers().await?.into_iter().chain(reachable).collect())
}

/// Takes this installation's ports away, and the table when none is left. Says whether there were any.
pub async fn remove(engine: &Engine, folders: &Folders) -> Outcome<bool> {
    let Some(held) = folders::load::<Doors>(&folders.state(STATE))? else { return Ok(false) };
    let nothing = Doors {
        build_bridge: engine.prefix().name("build"),
        gateway: held.gateway,
        peers: held.peers.clone(),
        nodes: held.nodes.clone(),
        ..Doors::default()
    };
    run_program_with("nft", &["-f", "-"], &render(&nothing, Some(&held))).await?;
    let text = format!("delete element inet magrathea closed {{ \"{}\" }}\n", nothing.build_bridge);
    run_program_with("nft", &["-f", "-"], &text).await?;
    let used = run_program("nft", &["list", "set", "inet", "magrathea", "public_ports"]).await?;
    if !used.contains("elements") {
        run_program("nft", &["delete", "table", "inet", "magrathea"]).await?;
    }
    folders::remove_file(&folders.state(STATE))?;
    Ok(true)
}

/// The whole table as one transaction, whatever was there before.
fn render(doors: &Doors, held: Option<&Doors>) -> String {
    let mut text = String::from(
        "add table inet magrathea\n\
         add set inet magrathea public_ports { type inet_service; }\n\
         add set inet magrathea instance_ports { type inet_service; }\n\
         add set inet magrathea closed { type ifname; }\n",
    );
    let mut elements = |verb: &str, set: &str, values: Vec<String>| {
        if !values.is_empty() {
            text.push_str(&format!("{verb} element inet magrathea {set} {{ {} }}\n", values.join(", ")));
        }
    };
    let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>();
    let gone = |old: &[u16], new: &[u16]| {
        old.iter().filter(|port| !new.contains(port)).map(u16::to_string).collect::<Vec<_>>()
    };
    // Adding what is there is fine; deleting what is not would fail, so it is added before.
    if let Some(held) = held {
        for (set, old, new) in [
            ("public_ports", &held.public_ports, &doors.public_ports),
            ("instance_ports", &held.instance_ports, &doors.instance_ports),
        ] {
            elements("add", set, gone(old, new));
            elements("delete", set, gone(old, new));
        }
    }
    elements("add", "public_ports", ports(&doors.public_ports));
    elements("add", "instance_ports", ports(&doors.instance_ports));
    elements("add", "closed", vec![format!("\"{GATEWAY_BRIDGE}\""), format!("\"{}\"", doors.build_bridge)]);
    // Instances' ports on the bridge's address answer the bridge alone: a neighbour could route to that address.
    let shield = match doors.gateway {
        Some(IpAddr::V4(gateway)) => format!(
            "add rule inet magrathea input iifname != {{ \"lo\", \"{GATEWAY_BRIDGE}\" }} ip daddr {gateway} tcp dport @instance_ports drop\n"
        ),
        Some(IpAddr::V6(gateway)) => format!(
            "add rule inet magrathea input iifname != {{ \"lo\", \"{GATEWAY_BRIDGE}\" }} ip6 daddr {gateway} tcp dport @instance_ports drop\n"
        ),
        None => String::new(),
    };
    // The kernel takes the overlay's packets from whoever sends them; they bear no signature.
    let (mut tunnel, mut peers) = (String::new(), String::new());
    for peer in &doors.peers {
        let family = if peer.is_ipv4() { "ip" } else { "ip6" };
        tunnel.push_str(&format!("add rule inet magrathea input {family} saddr {peer} udp dport {TUNNEL} accept\n"));
        // What a container sends there bears this node's address, which is believed: it may ask for pages, as everybody may.
        let to_peer = format!("add rule inet magrathea forward iifname @closed {family} daddr {peer}");
        peers.push_str(&format!("{to_peer} meta l4proto != tcp drop\n{to_peer} tcp dport != @public_ports drop\n"));
    }
    tunnel.push_str(&format!("add rule inet magrathea input iifname != \"lo\" udp dport {TUNNEL} counter drop\n"));
    text.push_str(&format!(
        "add chain inet magrathea input {{ type filter hook input priority -10; policy accept; }}\n\
         add chain inet magrathea forward {{ type filter hook forward priority -10; policy accept; }}\n\
         flush chain inet magrathea input\n\
         flush chain inet magrathea forward\n\
         {tunnel}\
         add rule inet magrathea input ct state established,related accept\n\
         {shield}\
         add rule inet magrathea input iifname @closed meta l4proto ipv6-icmp icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept\n\
         add rule inet magrathea input iifname @closed tcp dport @public_ports accept\n\
         add rule inet magrathea input iifname \"{GATEWAY_BRIDGE}\" tcp dport @instance_ports accept\n\
         add rule inet magrathea input iifname @closed drop\n\
         add rule inet magrathea forward ct state established,related accept\n\
         add rule inet magrathea forward oifname @closed drop\n\
         add rule inet magrathea forward iifname @closed udp dport {TUNNEL} drop\n\
         {peers}\
         add rule inet magrathea forward iifname @closed oifname \"docker*\" drop\n\
         add rule inet magrathea forward iifname @closed oifname \"br-*\" drop\n\
         add rule inet magrathea forward iifname @closed ip daddr {{ {OVERLAY_POOL}, 169.254.0.0/16 }} drop\n\
         add rule inet magrathea forward iifname @closed ip6 daddr fe80::/10 drop\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(public: &[u16]) -> Doors {
        Doors {
            public_ports: public.to_vec(),
            instance_ports: vec![3306],
            gateway: Some([172, 18, 0, 1].into()),
            build_bridge: "mag-build".into(),
            peers: [[192, 0, 2, 7].into()].into(),
            nodes: Vec::new(),
        }
    }

    #[test]
    fn the_table() {
        insta::assert_snapshot!(render(&doors(&[8080, 8443]), Some(&doors(&[80, 8080]))));
    }

    #[test]
    fn nft_accepts_it() {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(render(&doors(&[8080]), Some(&doors(&[80]))).as_bytes()).unwrap();
        let Ok(output) = std::process::Command::new("nft").arg("-c").arg("-f").arg(file.path()).output() else {
            return; // no nft here
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("not permitted"), "{said}");
    }
}
