//! A push under way: what its decision must know, and how far it is.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::repository::{Repository, Turn};
use super::update::Refusal;
use crate::actor::Actor;
use crate::db::apps::App;
use crate::lock::locked;

/// How far a push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Objects arrive.
    Receiving,
    /// The gateway decides; a deploy may be under way.
    Deciding,
    /// References move, or do not.
    Decided,
}

/// A push under way.
pub struct Push {
    pub actor: Actor,
    pub app: App,
    pub repository: Arc<Repository>,
    /// The client has left: nobody waits for the verdict.
    pub gone: CancellationToken,
    /// It must end at once.
    pub stop: CancellationToken,
    stage: watch::Sender<Stage>,
    turn: Mutex<Option<Turn>>,
    /// What it came to, and why it was stopped.
    notes: Mutex<(Vec<String>, Option<Refusal>)>,
}

impl Push {
    pub fn new(actor: Actor, app: App, repository: Arc<Repository>, gone: CancellationToken) -> Self {
        Push {
            actor,
            app,
            repository,
            gone,
            stop: CancellationToken::new(),
            stage: watch::channel(Stage::Receiving).0,
            turn: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Keeps the repository's turn until the push is over: no other may be decided before its references have moved.
    pub fn keep(&self, turn: Turn) {
        *locked(&self.turn) = Some(turn);
    }

    /// Lets the next push have its turn.
    pub fn release(&self) {
        locked(&self.turn).take();
    }

    /// Adds to what the timeline tells.
    pub fn note(&self, note: impl Into<String>) {
        self.notes().0.push(note.into());
    }

    /// What it came to.
    pub fn told(&self) -> String {
        self.notes().0.join("; ")
    }

    /// Ends it, whatever it does.
    pub fn stop(&self, why: Refusal) {
        self.notes().1.get_or_insert(why);
        self.stop.cancel();
    }

    pub fn why_stopped(&self) -> Refusal {
        self.notes().1.clone().unwrap_or_else(|| Refusal::new("the push was stopped"))
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, (Vec<String>, Option<Refusal>)> {
        locked(&self.notes)
    }
}
