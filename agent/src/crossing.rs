//! Crossings: the way from a routing node into the network of an instance that is spread over nodes. The engine gives the
//! node itself none, so a container of the instance's stands in both the network and the node's bridge, and passes on what
//! this node sends: its router's requests, and questions how replicas are. Nobody else's packets go through.

use std::time::Duration;

use magrathea_core::plan::crossing_name;

use crate::engine::{Engine, GATEWAY_BRIDGE, Identity};
use crate::fail::{Outcome, node};
use crate::folders::{self, Folders};
use crate::program::{run_program, run_program_with};

const STATE: &str = "crossings";

/// A container gets its addresses a moment after it has started.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// The overlay's packets bear one more header than the bridge's.
const MTU: &str = "1450";

/// The instance whose crossing a service is.
pub fn slug_of(service: &str) -> Option<String> {
    Identity::of(service).slug.filter(|slug| service == crossing_name(slug))
}

/// Opens the way through the container that runs now. May be repeated.
pub async fn open(engine: &Engine, folders: &Folders, slug: &str) -> Outcome<()> {
    let service = crossing_name(slug);
    let subnet = engine.subnet_of(slug).await?.ok_or_else(|| node(format!("there is no network {slug}")))?;
    let mut tries = 0;
    let (via, namespace) = loop {
        let running = engine.running(&service).await?.into_iter().next();
        if let Some(running) = running
            && let Some(address) = running.address
            && let Some(namespace) = engine.namespace_of(&running.container).await?
        {
            break (address, namespace);
        }
        tries += 1;
        if tries >= TRIES {
            return Err(node(format!("{service} does not run")));
        }
        tokio::time::sleep(PAUSE).await;
    };
    let own = engine.instance_gateway().await?.ok_or_else(|| node(format!("there is no {GATEWAY_BRIDGE}")))?;
    let inside = format!("--net={namespace}");
    run_program("nsenter", &[&inside, "sysctl", "-qw", "net.ipv4.ip_forward=1"]).await?;
    run_program_with("nsenter", &[&inside, "nft", "-f", "-"], &render(&own.to_string(), &subnet)).await?;
    // Before the route: what is noted and not there is taken away without harm.
    folders::store(&folders.state(STATE).join(format!("{slug}.json")), &subnet)?;
    let via = via.to_string();
    let route = ["route", "replace", &subnet, "via", &via, "dev", GATEWAY_BRIDGE, "mtu", "lock", MTU];
    run_program("ip", &route).await.map(drop)
}

/// Lets nothing out to where the network was reached: that address may be somebody else's next.
pub async fn interrupt(folders: &Folders, slug: &str) -> Outcome<()> {
    match load(folders, slug)? {
        Some(subnet) => run_program("ip", &["route", "replace", "unreachable", &subnet]).await.map(drop),
        None => Ok(()),
    }
}

/// Forgets the way. Says whether there was one.
pub async fn close(folders: &Folders, slug: &str) -> Outcome<bool> {
    let Some(subnet) = load(folders, slug)? else { return Ok(false) };
    if !run_program("ip", &["route", "show", &subnet]).await?.trim().is_empty() {
        run_program("ip", &["route", "del", &subnet]).await?;
    }
    folders::remove_file(&folders.state(STATE).join(format!("{slug}.json")))
}

/// Puts all ways in order: containers, and networks, may have come and gone unseen. First those that lead nowhere, whose
/// addresses may be another network's by now.
pub async fn restore(engine: &Engine, folders: &Folders) {
    let mut open_again = Vec::new();
    for slug in known(folders) {
        let outcome = async {
            if !engine.running(&crossing_name(&slug)).await?.is_empty() {
                open_again.push(slug.clone());
                return Ok(());
            }
            match engine.subnet_of(&slug).await? {
                Some(_) => interrupt(folders, &slug).await,
                None => close(folders, &slug).await.map(drop),
            }
        };
        complain(&slug, outcome.await);
    }
    for slug in open_again {
        complain(&slug, open(engine, folders, &slug).await);
    }
}

fn complain(slug: &str, outcome: Outcome<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, slug, "replicas on other nodes are out of reach");
    }
}

/// Takes all routes away.
pub async fn close_all(folders: &Folders) -> Outcome<()> {
    for slug in known(folders) {
        close(folders, &slug).await?;
    }
    Ok(())
}

fn known(folders: &Folders) -> Vec<String> {
    let entries = std::fs::read_dir(folders.state(STATE)).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned);
    entries.filter_map(name).collect()
}

fn load(folders: &Folders, slug: &str) -> Outcome<Option<String>> {
    folders::load(&folders.state(STATE).join(format!("{slug}.json")))
}

/// What the container's network lets through, as one transaction: connections that this node begins, in the container's name.
fn render(own: &str, subnet: &str) -> String {
    format!(
        "add table ip magrathea\n\
         add chain ip magrathea forward {{ type filter hook forward priority 0; policy drop; }}\n\
         add chain ip magrathea leave {{ type nat hook postrouting priority 100; policy accept; }}\n\
         flush chain ip magrathea forward\n\
         flush chain ip magrathea leave\n\
         add rule ip magrathea forward ct state established,related accept\n\
         add rule ip magrathea forward ip saddr {own} ip daddr {subnet} meta l4proto tcp accept\n\
         add rule ip magrathea leave ip saddr {own} ip daddr {subnet} masquerade\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crossing_is_one() {
        let slugs =
            ["i0123456789ab-crossing", "i0123456789ab-crossing-v2", "i0123456789ab-web-v1", "router", "x-crossing"]
                .map(slug_of);
        assert_eq!(slugs, [Some("i0123456789ab".to_owned()), None, None, None, None]);
    }

    #[test]
    fn nft_accepts_it() {
        use std::io::Write;
        let text = render("172.18.0.1", "10.201.0.32/27");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let Ok(output) = std::process::Command::new("nft").arg("-c").arg("-f").arg(file.path()).output() else {
            return; // no nft here
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("not permitted"), "{said}");
    }
}
