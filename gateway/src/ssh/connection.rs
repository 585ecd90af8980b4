//! One client's connection: who it is from, whether they may log in, and what may be opened on it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use magrathea_core::people::Verb;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::front::{Front, Seat};
use super::inbox::Inbox;
use super::output::Output;
use super::server::Opening;
use super::waiting::{Place, Stage};
use super::{session, tunnel};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::timeline::{self, NewEntry};
use crate::doors::{Door, DoorKind, NewDoor};
use crate::services::people;
use crate::state::State;

/// Channels that may be open at a time on one connection.
const CHANNELS: usize = 32;

/// How long what runs on a channel may take to end once the connection has.
const GRACE: Duration = Duration::from_secs(5);

/// How long a refusal takes once an address has had many.
const SLOWED: Duration = Duration::from_secs(3);

/// What the callbacks, the listener and the channels' tasks share.
pub struct Connection {
    pub state: Arc<State>,
    pub address: IpAddr,
    /// Ends everything that belongs to the connection.
    pub end: CancellationToken,
    front: Arc<Front>,
    place: Place,
    /// Keys that were refused.
    refused: AtomicU32,
    login: OnceLock<Login>,
    /// Cancelled when somebody has logged in.
    pub logged_in: CancellationToken,
    channels: Arc<Semaphore>,
}

/// Who is at the other end.
pub struct Login {
    /// The name that the client logged in as; it names an instance, not a person.
    pub user: String,
    /// As it was when they logged in.
    actor: Actor,
    key: String,
    _seat: Seat,
}

impl Connection {
    pub fn new(state: Arc<State>, front: Arc<Front>, address: IpAddr) -> Self {
        let end = CancellationToken::new();
        Connection {
            place: front.waiting.enter(address, end.clone()),
            state,
            address,
            end,
            front,
            refused: AtomicU32::new(0),
            login: OnceLock::new(),
            logged_in: CancellationToken::new(),
            channels: Arc::new(Semaphore::new(CHANNELS)),
        }
    }

    /// The client said that it speaks SSH.
    pub fn identified(&self) {
        self.place.advance(Stage::Identified);
    }

    /// Keys for the connection are agreed on.
    pub fn agreed(&self) {
        self.place.advance(Stage::Agreed);
    }

    pub fn has_agreed(&self) -> bool {
        self.place.stage() == Stage::Agreed
    }

    pub fn login(&self) -> Option<&Login> {
        self.login.get()
    }

    /// Whether a key is anybody's. That the client holds it is not proved yet.
    pub async fn is_known(&self, key: &str) -> bool {
        match people::actor_of_key(&self.state, key, self.address).await {
            Ok(Some(_)) => true,
            Ok(None) => self.refuse().await,
            Err(error) => failed(&error),
        }
    }

    /// Lets somebody in who proved that they hold a key.
    pub async fn log_in(&self, user: &str, key: &str) -> bool {
        let actor = match people::actor_of_key(&self.state, key, self.address).await {
            Ok(Some(actor)) => actor,
            Ok(None) => return self.refuse().await,
            Err(error) => return failed(&error),
        };
        let Some(seat) = self.front.seat(actor.person) else {
            tracing::info!(person = actor.name, "has too many SSH connections");
            return false;
        };
        tracing::debug!(person = actor.name, address = %self.address, user, "logged in over SSH");
        let login = Login { user: user.to_owned(), actor, key: key.to_owned(), _seat: seat };
        if self.login.set(login).is_err() {
            return false;
        }
        self.place.leave();
        self.logged_in.cancel();
        true
    }

    /// Resolves when the person or their key is gone. Waits for somebody to log in first.
    pub async fn revoked(&self) -> Result<(), ApiError> {
        self.logged_in.cancelled().await;
        let Some(login) = self.login.get() else { return Ok(()) };
        let new = NewDoor {
            actor: &login.actor,
            kind: DoorKind::Connection,
            app: None,
            label: None,
            verb: Verb::Look,
            detail: "",
        };
        let door: Door = self.state.doors.open(&self.state, new).await?;
        door.revoked().await;
        Ok(())
    }

    /// Counts a refused key, and answers with delay where there were many. Always false.
    pub async fn refuse(&self) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.front.attempts.is_slowed(self.address, Instant::now()) {
            tokio::time::sleep(SLOWED).await;
        }
        false
    }

    /// Who is there, as of now: keys and rights may have changed since they logged in.
    pub async fn actor(&self) -> Result<Option<Actor>, ApiError> {
        match self.login.get() {
            Some(login) => people::actor_of_key(&self.state, &login.key, self.address).await,
            None => Ok(None),
        }
    }

    /// Serves a session channel; false when there are too many.
    pub fn open_session(self: &Arc<Self>, inbox: Inbox, output: Output) -> bool {
        let Some(permit) = self.permit() else { return false };
        self.run(permit, session::serve(Arc::clone(self), inbox, output));
        true
    }

    /// Serves a tunnel; false when there are too many.
    pub fn open_tunnel(
        self: &Arc<Self>,
        host: &str,
        port: u32,
        opening: Opening,
        inbox: Inbox,
        output: Output,
    ) -> bool {
        let Some(permit) = self.permit() else { return false };
        let to = tunnel::Wanted { host: host.to_owned(), port };
        self.run(permit, tunnel::serve(Arc::clone(self), to, opening, inbox, output));
        true
    }

    /// Waits until no channel is open.
    pub async fn idle(&self) {
        let all = u32::try_from(CHANNELS).unwrap_or(u32::MAX);
        drop(self.channels.acquire_many(all).await);
    }

    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.login.get()?;
        Arc::clone(&self.channels).try_acquire_owned().ok()
    }

    fn run(&self, permit: OwnedSemaphorePermit, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.state.tasks.spawn(async move {
            let _permit = permit;
            let late = async {
                end.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                () = task => {}
                () = late => {}
            }
        });
    }
}

/// A key that may not be used from there is not guessed; it is refused without being counted.
fn failed(error: &ApiError) -> bool {
    if error.code == Code::Forbidden {
        tracing::info!(%error, "a key was refused");
        return false;
    }
    tracing::warn!(error = format!("{error:#}"), "cannot look a key up");
    false
}

impl Drop for Connection {
    fn drop(&mut self) {
        let refused = self.refused.load(Ordering::Relaxed);
        // Whoever gets in after all has other keys in their agent, and does not guess.
        if self.login.get().is_some() {
            return;
        }
        let Some(failures) = self.front.attempts.fail(self.address, refused, Instant::now()) else { return };
        let (state, address) = (Arc::clone(&self.state), self.address);
        self.state.tasks.spawn(async move {
            if let Err(error) = tell(&state, address, failures).await {
                tracing::warn!(error = format!("{error:#}"), "cannot tell the timeline of refused keys");
            }
        });
    }
}

async fn tell(state: &State, address: IpAddr, failures: u64) -> Result<(), ApiError> {
    tracing::warn!(%address, failures, "many keys were refused");
    let message = format!("{failures} keys that are nobody's were refused to {address}; it is answered slowly now");
    let entry = NewEntry { action: "ssh.refused", message: &message, ..NewEntry::default() };
    Ok(timeline::append(&state.db.conn().await?, entry).await?)
}
