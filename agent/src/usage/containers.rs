//! What instances' containers take: processor time, memory and what they send, read from the kernel every few seconds. What a
//! container took between the last look and its end is not counted.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use magrathea_core::usage::Metric;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::levels::tell;
use crate::fail::{Outcome, internal};
use crate::node::NodeAgent;

const EVERY: Duration = Duration::from_secs(10);
const GROUPS: &str = "/sys/fs/cgroup";

/// Looks until told to stop.
pub async fn watch(agent: Arc<NodeAgent>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = look(&agent, &mut known).await {
            tracing::warn!(%error, "what containers take was not read");
        }
    }
}

/// Where the kernel tells what a container takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Of its first process.
    process: u32,
    cpu: PathBuf,
    memory: PathBuf,
    /// Whether the kernel has control groups of the second version.
    unified: bool,
}

/// What a container took since it was started, and the memory that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    cpu_milliseconds: u64,
    memory: u64,
    /// Bytes.
    sent: u64,
}

async fn look(agent: &NodeAgent, known: &mut HashMap<String, u32>) -> Outcome<()> {
    let containers = agent.engine.instance_containers().await?;
    known.retain(|id, _| containers.iter().any(|(container, _)| container == id));
    for (container, _) in &containers {
        if !known.contains_key(container)
            && let Some(process) = agent.engine.process_of(container).await?
        {
            known.insert(container.clone(), process);
        }
    }
    let asked: Vec<_> =
        containers.into_iter().filter_map(|(id, slug)| Some((known.get(&id).copied()?, id, slug))).collect();
    let read = tokio::task::spawn_blocking(move || {
        let read = |(process, id, slug): (u32, String, String)| {
            let taken = find_place(process, &id).and_then(|place| place.read());
            (id, slug, taken)
        };
        asked.into_iter().map(read).collect::<Vec<_>>()
    });
    let mut memory: BTreeMap<String, u64> = BTreeMap::new();
    for (id, slug, taken) in read.await.map_err(|error| internal(format!("reading control groups: {error}")))? {
        let Some(taken) = taken else {
            // It has ended, or was started again with another process.
            known.remove(&id);
            continue;
        };
        agent.usage.counter(&format!("{id} cpu"), &slug, Metric::Cpu, taken.cpu_milliseconds);
        agent.usage.counter(&format!("{id} egress"), &slug, Metric::Egress, taken.sent);
        *memory.entry(slug).or_default() += taken.memory;
    }
    tell(&agent.usage, Metric::Memory, &memory);
    Ok(())
}

/// None when the process is not the container's any more.
fn find_place(process: u32, container: &str) -> Option<Place> {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let unified = Path::new(GROUPS).join("cgroup.controllers").exists();
    place_in(&groups, process, container, unified)
}

fn place_in(groups: &str, process: u32, container: &str, unified: bool) -> Option<Place> {
    let group = |controller: &str| {
        let (folder, path) = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it =
                if unified { controllers.is_empty() } else { controllers.split(',').any(|one| one == controller) };
            is_it.then_some((if unified { "" } else { controller }, path))
        })?;
        // The container's name in it tells that the number was not given to another process since.
        let is_own = path.contains(container) && !path.contains("..");
        is_own.then(|| Path::new(GROUPS).join(folder).join(path.trim_start_matches('/')))
    };
    Some(Place { process, cpu: group("cpuacct")?, memory: group("memory")?, unified })
}

impl Place {
    fn read(&self) -> Option<Taken> {
        let text = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let number = |folder: &Path, name: &str| text(folder, name)?.trim().parse::<u64>().ok();
        let (cpu_milliseconds, memory, cached) = if self.unified {
            let micros = field(&text(&self.cpu, "cpu.stat")?, "usage_usec")?;
            let cached = field(&text(&self.memory, "memory.stat")?, "inactive_file")?;
            (micros / 1000, number(&self.memory, "memory.current")?, cached)
        } else {
            let nanos = number(&self.cpu, "cpuacct.usage")?;
            let cached = field(&text(&self.memory, "memory.stat")?, "total_inactive_file")?;
            (nanos / 1_000_000, number(&self.memory, "memory.usage_in_bytes")?, cached)
        };
        let devices = text(Path::new("/proc"), &format!("{}/net/dev", self.process))?;
        // Files that lie in memory only because nobody needs it are nobody's.
        Some(Taken { cpu_milliseconds, memory: memory.saturating_sub(cached), sent: sent(&devices) })
    }
}

/// As in `usage_usec 1234`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Bytes that left through all devices but the loopback: the ninth number of a line of `/proc/net/dev`.
fn sent(devices: &str) -> u64 {
    let of = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        if name.trim() == "lo" {
            return None;
        }
        numbers.split_whitespace().nth(8)?.parse::<u64>().ok()
    };
    devices.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_groups_are_found() {
        let one = "9:name=systemd:/docker/c0ffee\n4:memory:/docker/c0ffee\n2:cpu,cpuacct:/docker/c0ffee\n0::/\n";
        let place = place_in(one, 7, "c0ffee", false).unwrap();
        assert_eq!(place.cpu, Path::new("/sys/fs/cgroup/cpuacct/docker/c0ffee"));
        assert_eq!(place.memory, Path::new("/sys/fs/cgroup/memory/docker/c0ffee"));
        let two = "0::/system.slice/docker-c0ffee.scope\n";
        let place = place_in(two, 7, "c0ffee", true).unwrap();
        assert_eq!(place.cpu, Path::new("/sys/fs/cgroup/system.slice/docker-c0ffee.scope"));
        for (groups, unified) in [("0::/user.slice\n", true), ("0::/../c0ffee\n", true), ("", true), (two, false)] {
            assert_eq!(place_in(groups, 7, "c0ffee", unified), None, "{groups}");
        }
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(field("user_usec 1\nusage_usec 1234\n", "usage_usec"), Some(1234));
        assert_eq!(field("total_inactive_files 5\n", "total_inactive_file"), None);
        let devices = "Inter-|   Receive                  |  Transmit\n face |bytes    packets errs\n\
                       lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n\
                       eth0: 10 1 0 0 0 0 0 0 70 2 0 0 0 0 0 0\n  eth1:5 1 0 0 0 0 0 0 8 2 0 0 0 0 0 0\n";
        assert_eq!(sent(devices), 78);
    }
}
