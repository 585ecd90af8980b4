use std::fs::File;
use std::io::Write;
use std::path::Path;

use jiff::SignedDuration;
use magrathea_core::usage::Batch;

use super::*;
use crate::logs::Tail;

const SLUG: &str = "i0123456789ab";
const WORKER: i64 = 1_795_262_000_000_000;

struct World {
    folder: tempfile::TempDir,
    file: File,
    ledger: Ledger,
    tail: Tail,
    spool: Spool,
}

impl World {
    fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    fn of(folder: tempfile::TempDir) -> Self {
        let log = folder.path().join("access.log");
        std::fs::create_dir_all(folder.path().join("spool")).unwrap();
        World {
            file: File::options().append(true).create(true).open(&log).unwrap(),
            ledger: ledger(folder.path()),
            tail: Tail::new(&log, None),
            spool: Spool::open(folder.path().join("spool")).unwrap(),
            folder,
        }
    }

    /// As after a kill; everything in the router's log is read anew.
    fn restarted(self) -> Self {
        Self::of(self.folder)
    }

    fn ended(&mut self, ago: SignedDuration, ms: i64, sent: u64) {
        let at = (Timestamp::now() - ago).as_microsecond();
        writeln!(
            self.file,
            r#"{{"layer": "routing", "slug": "{SLUG}", "worker": {WORKER}, "at": {at}, "status": 206, "sent": {sent}, "received": 7, "ms": {ms}, "cache": "HIT", "tls": false, "release": "1"}}"#
        )
        .unwrap();
    }

    fn read(&mut self) {
        while let Some(lines) = self.tail.read().unwrap() {
            self.ledger.count(&lines);
        }
    }

    fn told(&self, requests: u64, sent: u64) {
        let sums = [(SLUG.to_owned(), Sums { requests, received: 0, sent })].into();
        let asked = Timestamp::now().as_microsecond();
        self.ledger.told(&[Told { began: WORKER, asked, sums, dropped: 0 }]);
    }

    /// Everything that the gateway would count, each batch once.
    fn total(&self) -> Usage {
        // The first may be the one from before a restart, once more.
        (0..2).for_each(|_| self.ledger.seal_when_due(&self.spool));
        let mut batches: BTreeMap<u64, Box<Batch>> = BTreeMap::new();
        for (_, observation) in self.spool.after(0) {
            if let Observation::Usage(batch) = observation {
                batches.insert(batch.number, batch);
            }
        }
        let mut total = Usage::default();
        batches.values().flat_map(|batch| &batch.rows).for_each(|row| total.add_all(&row.usage));
        total
    }
}

fn ledger(folder: &Path) -> Ledger {
    Ledger::open(folder.join("usage.json"), Duration::ZERO)
}

fn amounts(usage: &Usage) -> [u64; 4] {
    [Metric::Requests, Metric::Sent, Metric::Status2xx, Metric::Hits].map(|metric| usage.get(metric))
}

#[test]
fn requests_are_counted_once_however_often_the_agent_is_killed() {
    let mut world = World::new();
    for round in 1..=5 {
        world.ended(SignedDuration::ZERO, 1, 100);
        world.read();
        if round % 2 == 0 {
            world.ledger.inner().stored_at = None;
            world.ledger.store_when_due();
        }
        if round % 3 == 0 {
            world.total();
        }
        world = world.restarted();
        world.read();
    }
    assert_eq!(amounts(&world.total()), [5, 500, 5, 5]);
}

#[test]
fn a_batch_that_comes_into_the_spool_twice_is_the_same() {
    let mut world = World::new();
    world.ended(SignedDuration::ZERO, 1, 100);
    world.read();
    // Killed after the batch came into the spool, before the ledger knew it.
    let before = {
        let mut inner = world.ledger.inner();
        inner.settle();
        inner.state.seal();
        world.ledger.store(&mut inner).unwrap();
        std::fs::read(&world.ledger.path).unwrap()
    };
    world.total();
    std::fs::write(&world.ledger.path, before).unwrap();
    let world = world.restarted();
    assert_eq!(amounts(&world.total()), [1, 100, 1, 1]);
    assert_eq!(world.spool.count(), 2);
}

#[test]
fn what_is_under_way_is_counted_over_restarts_and_once() {
    let world = World::new();
    world.told(1, 5000);
    assert_eq!(amounts(&world.total()), [1, 5000, 0, 0]);
    world.told(1, 9000);
    let mut world = world.restarted();
    world.told(1, 9500);
    world.ended(SignedDuration::ZERO, 60_000, 10_000);
    world.ended(SignedDuration::from_millis(-5), 1, 10);
    world.read();
    assert_eq!(amounts(&world.total()), [2, 10_010, 2, 2]);
}

#[test]
fn a_node_whose_clock_is_set_counts_into_the_right_hour() {
    let mut world = World::new();
    let truth = Timestamp::now() - SignedDuration::from_hours(24);
    world.ledger.set_clock(truth);
    world.ended(SignedDuration::ZERO, 1, 1);
    world.ended(SignedDuration::from_hours(-1), 1, 1);
    world.ended(SignedDuration::from_hours(1), 1, 1);
    world.read();
    world.total();
    let hour = magrathea_core::usage::hour_of;
    for (_, observation) in world.spool.after(0) {
        let Observation::Usage(batch) = observation else { continue };
        for row in batch.rows {
            // No later than it is, and in the order of the log: a clock put back does not move what came after it.
            let early = truth - SignedDuration::from_secs(5);
            assert!([hour(early), hour(truth)].contains(&row.hour), "{} {truth}", row.hour);
        }
    }
    assert_eq!(world.total().get(Metric::Requests), 3);
}

#[test]
fn a_ledger_that_is_damaged_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("usage.json"), "{").unwrap();
    let ledger = ledger(folder.path());
    let gaps = ledger.inner().state.seal().map(|batch| batch.gaps.clone()).unwrap();
    assert_eq!(gaps[0].reason, GapReason::LedgerLost);
    assert!(folder.path().join("usage.damaged").exists());
}

#[test]
fn lines_that_are_not_the_routers_are_told() {
    let mut world = World::new();
    writeln!(world.file, "Proxy public stopped.\n{{\"layer\": \"rou").unwrap();
    world.ended(SignedDuration::ZERO, 1, 100);
    world.read();
    assert_eq!(
        world.ledger.inner().state.seal().map(|batch| (batch.gaps[0].reason, batch.gaps[0].requests)),
        Some((GapReason::LogDamaged, Some(1)))
    );
}

#[test]
fn what_cannot_be_kept_is_told_and_not_lost() {
    let mut world = World::new();
    let (spool, away) = (world.folder.path().join("spool"), world.folder.path().join("away"));
    let trouble = world.ledger.trouble();
    world.ended(SignedDuration::ZERO, 1, 100);
    world.read();
    // As a full disk: nothing can be put there.
    std::fs::rename(&spool, &away).unwrap();
    for _ in 0..3 {
        world.ledger.seal_when_due(&world.spool);
        world.ledger.store_now();
        assert!(trouble.borrow().as_ref().is_some_and(|trouble| trouble.contains("cannot be stored")));
        world.ended(SignedDuration::ZERO, 1, 100);
        world.read();
    }
    std::fs::rename(&away, &spool).unwrap();
    assert_eq!(amounts(&world.total()), [4, 400, 4, 4]);
    assert_eq!(*trouble.borrow(), None);
}
