//! Observations that must not be lost: each a file until the gateway has acknowledged it.

use std::path::PathBuf;

use magrathea_core::wire::Observation;
use tokio::sync::watch;

use crate::fail::Outcome;
use crate::folders;

/// While so many wait, replicas that die are not told: a gateway that was away for so long reads the inventory instead.
const MOST: usize = 10_000;

/// The spool folder: `SEQUENCE.json`, numbered upwards for ever.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// The last number given away; changes wake the sender.
    last: watch::Sender<u64>,
}

impl Spool {
    pub fn open(folder: PathBuf) -> Outcome<Self> {
        // The number goes on after an acknowledged spool was emptied, so that the gateway never sees one twice.
        let counted = folders::load::<u64>(&folder.join("last"))?.unwrap_or(0);
        let spool = Spool { folder, last: watch::Sender::new(counted) };
        let last = spool.sequences().last().copied().unwrap_or(0).max(counted);
        spool.last.send_replace(last);
        Ok(spool)
    }

    pub fn push(&self, observation: &Observation) -> Outcome<()> {
        // What instances used is never left out; the ledger itself makes fewer batches when many wait.
        if self.count() >= MOST && !matches!(observation, Observation::Usage(_)) {
            return Ok(());
        }
        let next = *self.last.borrow() + 1;
        folders::store(&self.path(next), observation)?;
        folders::store(&self.folder.join("last"), &next)?;
        self.last.send_replace(next);
        Ok(())
    }

    /// Everything after the number, in order.
    pub fn after(&self, sequence: u64) -> Vec<(u64, Observation)> {
        let read = |n: u64| folders::load(&self.path(n)).ok().flatten().map(|observation| (n, observation));
        self.sequences().into_iter().filter(|n| *n > sequence).filter_map(read).collect()
    }

    /// How many wait for the gateway.
    pub fn count(&self) -> usize {
        self.sequences().len()
    }

    /// Everything up to the number is stored by the gateway.
    pub fn acknowledge(&self, sequence: u64) -> Outcome<()> {
        self.sequences()
            .into_iter()
            .filter(|n| *n <= sequence)
            .try_for_each(|n| folders::remove_file(&self.path(n)).map(|_| ()))
    }

    /// Tells when something was pushed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence}.json"))
    }

    fn sequences(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
        let mut all: Vec<u64> = entries.flatten().filter_map(|e| number(e.file_name().to_str()?)).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_acknowledged_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let died = |service: &str| Observation::ReplicaDied {
            slug: "i0".into(),
            service: service.into(),
            exit_code: Some(1),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let spool = Spool::open(folder.path().into()).unwrap();
        spool.push(&died("a")).unwrap();
        spool.push(&died("b")).unwrap();
        spool.acknowledge(1).unwrap();
        let spool = Spool::open(folder.path().into()).unwrap();
        assert_eq!(spool.after(0), [(2, died("b"))]);
        spool.acknowledge(2).unwrap();
        let spool = Spool::open(folder.path().into()).unwrap();
        spool.push(&died("c")).unwrap();
        assert_eq!(spool.after(0), [(3, died("c"))]);
    }
}
