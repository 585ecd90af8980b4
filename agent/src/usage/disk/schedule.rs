//! When each instance's files are measured next.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::plan::hash_text;
use tokio::time::Instant;

/// A tree that takes long to walk is walked less often: at most a twentieth of the time goes into it.
const SHARE: u32 = 20;

/// Spreads measurements over the time between two of the same instance.
#[derive(Debug)]
pub struct Schedule {
    every: Duration,
    begun: Option<Instant>,
    next: BTreeMap<String, Instant>,
}

impl Schedule {
    pub fn new(every: Duration) -> Self {
        Schedule { every, begun: None, next: BTreeMap::new() }
    }

    /// Those of these instances that are due. At the start each has its own moment; one that comes later is due at once.
    pub fn due<'a>(&mut self, slugs: impl Iterator<Item = &'a String>, now: Instant) -> Vec<String> {
        let is_first = self.begun.is_none();
        self.begun.get_or_insert(now);
        let mut kept = BTreeMap::new();
        for slug in slugs {
            let first = if is_first { now + self.phase(slug) } else { now };
            kept.insert(slug.clone(), self.next.get(slug).copied().unwrap_or(first));
        }
        self.next = kept;
        self.next.iter().filter(|(_, next)| **next <= now).map(|(slug, _)| slug.clone()).collect()
    }

    /// It was measured, and took so long.
    pub fn done(&mut self, slug: String, took: Duration, now: Instant) {
        self.next.insert(slug, now + self.every.max(took * SHARE));
    }

    /// A part of the time that is always the same for an instance.
    fn phase(&self, slug: &str) -> Duration {
        let digits = u32::from_str_radix(hash_text(slug).get(..4).unwrap_or_default(), 16).unwrap_or_default();
        self.every * digits / 0x1_0000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let mut schedule = Schedule::new(Duration::from_secs(300));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut slugs: Vec<String> = (0..300).map(|n| format!("i{n}")).collect();
        let mut turns = Vec::new();
        for second in (0..=300).step_by(5) {
            let due = schedule.due(slugs.iter(), at(second));
            assert!(due.len() < 20, "they are spread: {due:?}");
            for slug in due {
                turns.push(slug.clone());
                schedule.done(slug, Duration::ZERO, at(second));
            }
        }
        turns.sort();
        turns.dedup();
        assert_eq!(turns.len(), 300);
        // New ones do not wait; those that take long come less often; those that are gone are forgotten.
        slugs = vec!["i0".into(), "new".into()];
        schedule.next.insert("i0".into(), at(310));
        assert_eq!(schedule.due(slugs.iter(), at(305)), ["new"]);
        schedule.done("new".into(), Duration::from_secs(60), at(400));
        assert_eq!(schedule.due(slugs.iter(), at(1000)), ["i0"]);
        assert_eq!(schedule.due(slugs.iter(), at(1600)), ["i0", "new"]);
        assert!(schedule.due([].iter(), at(1600)).is_empty() && schedule.next.is_empty());
    }
}
