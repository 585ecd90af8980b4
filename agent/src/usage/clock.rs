//! The gateway's time, as far as this node knows it: usage belongs to the hour in which it was, whatever the node's own clock
//! is set to meanwhile.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What this node's clocks show at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Names the time since the node was started.
    pub boot: String,
    /// Time since then; nobody can set it.
    pub since_boot: SignedDuration,
    /// What anybody may set.
    pub wall: Timestamp,
}

impl Reading {
    pub fn take() -> Self {
        static BOOT: LazyLock<String> = LazyLock::new(|| {
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
        });
        let since = clock_gettime(ClockId::Boottime);
        Reading {
            boot: BOOT.clone(),
            since_boot: SignedDuration::new(since.tv_sec, i32::try_from(since.tv_nsec).unwrap_or_default()),
            wall: Timestamp::now(),
        }
    }
}

/// Goes on from what the gateway told last. Until it has told anything since the node was started, it is the node's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    told: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    boot: String,
    since_boot: SignedDuration,
    time: Timestamp,
}

impl Clock {
    /// The gateway says what time it is.
    pub fn set(&mut self, reading: &Reading, time: Timestamp) {
        self.told = Some(Told { boot: reading.boot.clone(), since_boot: reading.since_boot, time });
    }

    pub fn now(&self, reading: &Reading) -> Timestamp {
        match &self.told {
            Some(told) if told.boot == reading.boot => {
                told.time.checked_add(reading.since_boot - told.since_boot).unwrap_or(reading.wall)
            }
            _ => reading.wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_meanwhile_does_not_matter() {
        let at = |boot: &str, seconds, wall: &str| Reading {
            boot: boot.into(),
            since_boot: SignedDuration::from_secs(seconds),
            wall: wall.parse().unwrap(),
        };
        let mut clock = Clock::default();
        let first = at("a", 100, "2026-11-30T23:50:00Z");
        assert_eq!(clock.now(&first), first.wall);
        clock.set(&first, "2026-11-30T23:49:00Z".parse().unwrap());
        // Somebody puts the node's clock an hour ahead: it is not December yet.
        let now = clock.now(&at("a", 160, "2026-12-01T00:51:00Z"));
        assert_eq!(now, "2026-11-30T23:50:00Z".parse().unwrap());
        // After a restart of the node there is nothing better than its own clock.
        let restarted = at("b", 5, "2026-12-01T00:10:00Z");
        assert_eq!(clock.now(&restarted), restarted.wall);
    }

    #[test]
    fn the_nodes_clocks_are_read() {
        let (one, two) = (Reading::take(), Reading::take());
        assert!(one.boot.len() == 36 && one.boot == two.boot && one.since_boot <= two.since_boot);
    }
}
