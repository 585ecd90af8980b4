//! Connections that nobody has logged in on yet. There is room for so many; when it is full, a newcomer takes the place
//! of the one that has come least far, the oldest of these, of the address that holds the most. So whoever only holds
//! connections open stands in nobody's way, and a client that goes on with its handshake gets through.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::locked;
use tokio_util::sync::CancellationToken;

/// How many may wait altogether, and from one address.
const ROOM: usize = 1024;
const ROOM_OF_ONE: usize = 512;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// TCP alone.
    Connected,
    /// It said that it speaks SSH.
    Identified,
    /// Keys for the connection are agreed on; now it may log in.
    Agreed,
}

/// The room.
#[derive(Default)]
pub struct WaitingRoom {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    by_network: HashMap<IpAddr, usize>,
}

struct Waiting {
    network: IpAddr,
    stage: Stage,
    end: CancellationToken,
}

/// A place in the room, left when dropped.
pub struct Place {
    room: Arc<WaitingRoom>,
    id: u64,
}

impl WaitingRoom {
    /// A place for a connection from this address; `end` is cancelled when somebody else needs it.
    pub fn enter(self: &Arc<Self>, address: IpAddr, end: CancellationToken) -> Place {
        let network = network_of(address);
        let mut inner = self.lock();
        let of_one = inner.by_network.get(&network).copied().unwrap_or_default();
        if of_one >= ROOM_OF_ONE {
            inner.send_away(network);
        } else if inner.waiting.len() >= ROOM {
            let most = inner.by_network.iter().max_by_key(|(_, count)| **count).map(|(network, _)| *network);
            if let Some(most) = most {
                inner.send_away(most);
            }
        }
        let id = inner.next;
        inner.next += 1;
        inner.waiting.insert(id, Waiting { network, stage: Stage::Connected, end });
        *inner.by_network.entry(network).or_default() += 1;
        Place { room: Arc::clone(self), id }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }
}

impl Inner {
    fn send_away(&mut self, network: IpAddr) {
        let of_it = self.waiting.iter().filter(|(_, waiting)| waiting.network == network);
        if let Some(id) = of_it.min_by_key(|(id, waiting)| (waiting.stage, **id)).map(|(id, _)| *id)
            && let Some(waiting) = self.leave(id)
        {
            waiting.end.cancel();
        }
    }

    fn leave(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(count) = self.by_network.get_mut(&waiting.network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&waiting.network);
            }
        }
        Some(waiting)
    }
}

impl Place {
    /// Notes how far the connection has come.
    pub fn advance(&self, stage: Stage) {
        if let Some(waiting) = self.room.lock().waiting.get_mut(&self.id) {
            waiting.stage = stage;
        }
    }

    pub fn stage(&self) -> Stage {
        self.room.lock().waiting.get(&self.id).map_or(Stage::Connected, |waiting| waiting.stage)
    }

    /// Gives the place to somebody else: this connection waits no longer.
    pub fn leave(&self) {
        self.room.lock().leave(self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What counts as one address: of IPv6, the network that is given to one customer.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !(u128::from(u64::MAX)))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(room: &Arc<WaitingRoom>, address: &str) -> (Place, CancellationToken) {
        let end = CancellationToken::new();
        (room.enter(address.parse().unwrap(), end.clone()), end)
    }

    #[test]
    fn whoever_goes_on_stays_and_the_idle_go() {
        let room = Arc::new(WaitingRoom::default());
        let good = enter(&room, "192.0.2.1");
        good.0.advance(Stage::Identified);
        let idle: Vec<_> = (0..3000).map(|_| enter(&room, "192.0.2.1")).collect();
        assert!(!good.1.is_cancelled());
        assert_eq!(idle.iter().filter(|(_, end)| !end.is_cancelled()).count(), ROOM_OF_ONE - 1);
        assert!(idle[0].1.is_cancelled() && !idle[2999].1.is_cancelled(), "the oldest go first");
        drop((good, idle));
        assert!(room.lock().waiting.is_empty() && room.lock().by_network.is_empty());
    }

    #[test]
    fn the_greediest_address_makes_room() {
        let room = Arc::new(WaitingRoom::default());
        let greedy: Vec<_> = (0..ROOM_OF_ONE).map(|_| enter(&room, "192.0.2.1")).collect();
        let many: Vec<_> = (0..ROOM).map(|n| enter(&room, &format!("10.1.{}.{}", n / 256, n % 256))).collect();
        assert!(many.iter().all(|(_, end)| !end.is_cancelled() || room.lock().waiting.len() == ROOM));
        assert!(greedy.iter().filter(|(_, end)| end.is_cancelled()).count() > ROOM_OF_ONE / 2);
        assert_eq!(room.lock().waiting.len(), ROOM);
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        for (a, b, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(network_of(a.parse().unwrap()) == network_of(b.parse().unwrap()), same, "{a} {b}");
        }
    }
}
