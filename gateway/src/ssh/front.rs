//! What all SSH connections share: who waits, who guesses, and how many connections each person has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use magrathea_core::names::PersonId;

use super::attempts::Attempts;
use super::waiting::WaitingRoom;
use crate::lock::locked;

/// Connections of people who logged in: altogether, and of one person.
const CONNECTIONS: usize = 2048;
const OF_ONE: usize = 512;

#[derive(Default)]
pub struct Front {
    pub waiting: Arc<WaitingRoom>,
    pub attempts: Attempts,
    seats: Arc<Mutex<HashMap<PersonId, usize>>>,
}

/// A connection of a person's, counted until dropped.
pub struct Seat {
    seats: Arc<Mutex<HashMap<PersonId, usize>>>,
    person: PersonId,
}

impl Front {
    /// A seat for one more connection; none when the person, or everybody together, has too many.
    pub fn seat(&self, person: PersonId) -> Option<Seat> {
        let mut seats = locked(&self.seats);
        if seats.values().sum::<usize>() >= CONNECTIONS || seats.get(&person).is_some_and(|taken| *taken >= OF_ONE) {
            return None;
        }
        *seats.entry(person).or_default() += 1;
        Some(Seat { seats: Arc::clone(&self.seats), person })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = locked(&self.seats);
        if let Some(taken) = seats.get_mut(&self.person) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_person_does_not_take_all_seats() {
        let front = Front::default();
        let (one, two) = (PersonId(Uuid::from_u128(1)), PersonId(Uuid::from_u128(2)));
        let taken: Vec<_> = (0..OF_ONE).map(|_| front.seat(one).unwrap()).collect();
        assert!(front.seat(one).is_none() && front.seat(two).is_some());
        drop(taken);
        assert!(front.seat(one).is_some() && front.seats.lock().unwrap().is_empty());
    }
}
