//! One at a time per key: calls run concurrently, but two that touch the same resource wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Hands out turns by key. Tokio's mutex is meant to be held over an await; its queue is fair.
#[derive(Debug, Default)]
pub struct Serial {
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Serial {
    /// Waits for the key's turn, which ends when the guard is dropped.
    pub async fn turn(&self, key: String) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(key).or_default().clone()
        };
        turn.lock_owned().await
    }
}
