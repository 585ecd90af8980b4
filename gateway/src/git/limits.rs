//! What git may use. `docs/reference/limits.md` tells users the same numbers; a test compares the two.

use std::time::Duration;

/// Those that a push or a clone meets in the course of its work. Tests set others.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes.
    pub pack: u64,
    pub repository: u64,
    pub free: u64,
    pub idle: Duration,
    pub longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { pack: PACK, repository: REPOSITORY, free: FREE, idle: IDLE, longest: LONGEST }
    }
}

/// Bytes of one push's pack.
pub const PACK: u64 = 2 << 30;

/// Bytes of a repository, asked before a push.
pub const REPOSITORY: u64 = 8 << 30;

/// Bytes that stay free on the gateway's disk.
pub const FREE: u64 = 1 << 30;

/// Branches and tags that one push may change, and their text in bytes.
pub const UPDATES: usize = 10_000;
pub const UPDATE_BYTES: u64 = 8 << 20;

/// Git's processes of all people together, and how long one waits for its turn.
pub const AT_ONCE: usize = 32;
pub const TURN: Duration = Duration::from_secs(30);

/// A transfer in which nothing moves for so long is given up; one that takes so long altogether is, too.
pub const IDLE: Duration = Duration::from_secs(120);
pub const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// How long a push waits for another of the same app, and its deploy for another of the instance.
pub const WAIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_tells_these_numbers() {
        let page = include_str!("../../../docs/reference/limits.md");
        for row in [
            format!("| One push, packed | {} GiB |", PACK >> 30),
            format!("| A repository | {} GiB |", REPOSITORY >> 30),
            format!("| Branches and tags changed by one push | {UPDATES} |"),
            format!("| Silence of a git client | {} s |", IDLE.as_secs()),
            format!("| One clone, fetch or push | {} h |", LONGEST.as_secs() / 3600),
            format!("| Wait for another push of the app | {} min |", WAIT.as_secs() / 60),
        ] {
            assert!(page.contains(&row), "docs/reference/limits.md lacks: {row}");
        }
    }
}
