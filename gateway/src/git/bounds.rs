//! How far a push or a clone may go: the room that there is for it, and what ends it before it is done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magrathea_core::units::{ByteSize, Span};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::push::{Push, Stage};
use super::repository::Repository;
use super::update::Refusal;
use crate::api::error::{ApiError, Code};
use crate::doors::Door;
use crate::state::State;

/// How long a transfer may go on once the gateway is to end.
const DRAIN: Duration = Duration::from_secs(5);

/// How much a push may bring.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub bytes: u64,
    /// Whether it is the disk that has no more, and not the limit that allows no more.
    scarce: bool,
}

/// The room for a push into a repository; an error when there is none.
pub async fn find_room(state: &State, repository: &Repository) -> Result<Room, ApiError> {
    let limits = &state.git.limits;
    // It is counted after each push; since then somebody may have made room.
    if repository.size() > limits.repository && repository.count().await? > limits.repository {
        let most = ByteSize(limits.repository);
        let message = format!("the repository has grown beyond its limit of {most}");
        let hint = "keep large files out of git; whoever runs the gateway can throw old commits away, see \
                    docs/operate/README.md";
        return Err(ApiError::new(Code::SourceTooLarge, message).with_hint(hint));
    }
    Ok(Room::within(crate::disk::find_room(state, "pushed")?, limits))
}

impl Room {
    /// What a disk with room for so many bytes has.
    fn within(room: u64, limits: &Limits) -> Room {
        Room { bytes: limits.pack.min(room), scarce: room < limits.pack }
    }

    /// What a push that brings more is told.
    fn exceeded(self) -> Refusal {
        let most = ByteSize(self.bytes >> 20 << 20);
        if self.scarce {
            return Refusal::new(format!("the gateway's disk has no room for a push of more than {most}"))
                .hint("tell whoever runs the gateway");
        }
        Refusal::new(format!("the push brings more than {most}, the most at once")).hint(
            "push older commits first, to a branch that deploys nothing: git push magrathea COMMIT:refs/heads/parts; \
             and keep large files out of git",
        )
    }
}

/// Counts what moves one way.
pub struct Meter {
    bytes: AtomicU64,
    /// Signs of life: something was read, or taken by whom it is for.
    beats: AtomicU64,
    most: u64,
    /// More moved than may.
    over: CancellationToken,
}

impl Meter {
    pub fn new(most: Option<Room>) -> Self {
        let most = most.map_or(u64::MAX, |room| room.bytes);
        Meter { bytes: AtomicU64::new(0), beats: AtomicU64::new(0), most, over: CancellationToken::new() }
    }

    pub fn add(&self, bytes: usize) {
        let sum = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if sum > self.most {
            self.over.cancel();
        }
        self.beat();
    }

    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// What can end git's work for a client.
pub struct Bounds<'a> {
    pub state: &'a State,
    pub door: Option<&'a Door>,
    pub push: Option<&'a Push>,
    pub room: Option<Room>,
    pub gone: &'a CancellationToken,
    pub received: &'a Meter,
    pub sent: &'a Meter,
}

impl Bounds<'_> {
    /// Why the work must end before it is done. A push that is decided is left to finish: its references must move.
    pub async fn reached(&self) -> Refusal {
        let Limits { idle, longest, .. } = self.state.git.limits;
        tokio::select! {
            () = self.revoked() => Refusal::new("access was taken away"),
            () = self.left() => Refusal::new("the client has left"),
            () = self.ending() => Refusal::new("the gateway is about to end").hint("try again soon"),
            refusal = self.over() => refusal,
            () = self.idle(idle) => Refusal::new(format!("nothing moved for {}", Span(idle))).hint("try again"),
            () = tokio::time::sleep(longest) => Refusal::new(format!("it took longer than {}", Span(longest)))
                .hint("move less at once: push older commits first, or clone with --depth"),
        }
    }

    async fn revoked(&self) {
        match self.door {
            Some(door) => door.revoked().await,
            None => std::future::pending().await,
        }
    }

    async fn left(&self) {
        self.gone.cancelled().await;
        // Its decision knows that the client is gone, and ends by itself.
        while self.push.is_some_and(|push| push.stage() != Stage::Receiving) {
            std::future::pending::<()>().await;
        }
    }

    async fn ending(&self) {
        self.state.shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }

    async fn over(&self) -> Refusal {
        self.received.over.cancelled().await;
        match self.room {
            Some(room) => room.exceeded(),
            None => std::future::pending().await,
        }
    }

    async fn idle(&self, limit: Duration) {
        let beats = || self.received.beats() + self.sent.beats();
        let mut last = beats();
        loop {
            tokio::time::sleep(limit).await;
            let now = beats();
            if now == last && !self.gone.is_cancelled() {
                return;
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_limit_and_the_disk_allow() {
        let limits = Limits { pack: 100 << 20, ..Limits::default() };
        for (free, most, told) in [
            (150, 100, "error: the push brings more than 100MiB, the most at once"),
            (100, 100, "error: the push brings more than 100MiB, the most at once"),
            (90, 90, "error: the gateway's disk has no room for a push of more than 90MiB"),
        ] {
            let room = Room::within(free << 20, &limits);
            assert_eq!(room.bytes >> 20, most, "{free}");
            assert!(room.exceeded().tell().starts_with(told), "{free}");
        }
    }
}
