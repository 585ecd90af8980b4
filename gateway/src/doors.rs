//! What people hold open for longer than a request: shells, pushes, streams. Each is registered with what it needs, and
//! ends within two seconds once the person, the credential or the right is gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use magrathea_core::names::{AppId, LabelName, OrganisationId};
use magrathea_core::people::{Place, Verb};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::apps::App;
use crate::db::people;
use crate::db::timeline::{self, NewEntry};
use crate::engine;
use crate::lock::locked;
use crate::services::lists::{self, DoorName};
use crate::state::State;

/// How often another gateway's changes are looked for.
const LOOK: Duration = Duration::from_millis(750);

/// How often expired tokens are looked for.
const EXPIRY: Duration = Duration::from_secs(5);

/// How long after a change was seen, which may be this gateway's own.
const AFTER: Duration = Duration::from_millis(400);

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorKind {
    Shell,
    Run,
    Db,
    Tunnel,
    Files,
    Push,
    Fetch,
    Logs,
    Events,
    /// Over which others are opened: stays as long as the person and the credential do, whatever their rights.
    Connection,
}

impl DoorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            DoorKind::Shell => "shell",
            DoorKind::Run => "run",
            DoorKind::Db => "db",
            DoorKind::Tunnel => "tunnel",
            DoorKind::Files => "files",
            DoorKind::Push => "push",
            DoorKind::Fetch => "fetch",
            DoorKind::Logs => "logs",
            DoorKind::Events => "events",
            DoorKind::Connection => "connection",
        }
    }

    /// Whether opening and closing stand in the timeline. Reading along does not: it would drown what was done.
    fn is_told(self) -> bool {
        !matches!(self, DoorKind::Logs | DoorKind::Events | DoorKind::Fetch | DoorKind::Connection)
    }
}

/// A door to open.
#[derive(Debug, Clone, Copy)]
pub struct NewDoor<'a> {
    pub actor: &'a Actor,
    pub kind: DoorKind,
    pub app: Option<&'a App>,
    pub label: Option<&'a LabelName>,
    /// What the person must go on being allowed to do.
    pub verb: Verb,
    /// As in a command.
    pub detail: &'a str,
}

/// All doors that are open on this gateway.
#[derive(Default)]
pub struct Doors {
    open: Mutex<BTreeMap<u64, Open>>,
    next: AtomicU64,
    /// One look at a time.
    looking: AsyncMutex<()>,
}

struct Open {
    actor: Actor,
    kind: DoorKind,
    place: OwnPlace,
    verb: Verb,
    /// As in "shell of blog (staging)".
    title: String,
    revoked: CancellationToken,
}

#[derive(Debug, Clone)]
struct OwnPlace {
    organisation: OrganisationId,
    app: Option<AppId>,
    label: Option<LabelName>,
}

impl OwnPlace {
    fn place(&self) -> Place<'_> {
        let organisation = self.organisation;
        match (self.app, &self.label) {
            (Some(app), Some(label)) => Place::Label { organisation, app, label },
            (Some(app), None) => Place::SomeLabel { organisation, app },
            (None, _) => Place::Organisation(organisation),
        }
    }
}

/// An open door. Dropped without [`Door::close`], its end is recorded all the same.
pub struct Door {
    state: Arc<State>,
    id: u64,
    actor: Actor,
    kind: DoorKind,
    app: Option<String>,
    label: Option<String>,
    detail: String,
    began: Instant,
    revoked: CancellationToken,
    closed: bool,
}

impl Doors {
    /// Opens a door: it is on the timeline before anything happens behind it.
    pub async fn open(&self, state: &Arc<State>, new: NewDoor<'_>) -> Result<Door, ApiError> {
        let place = OwnPlace {
            organisation: new.app.map_or(new.actor.organisation, |app| app.organisation_id),
            app: new.app.map(|app| app.id),
            label: new.label.cloned(),
        };
        let app = new.app.map(|app| app.name.to_string());
        let label = new.label.map(LabelName::to_string);
        let title = match (&app, &label) {
            (Some(app), Some(label)) => format!("{} of {app} ({label})", new.kind.as_str()),
            (Some(app), None) => format!("{} of {app}", new.kind.as_str()),
            _ => new.kind.as_str().to_owned(),
        };
        let revoked = CancellationToken::new();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (actor, kind, verb) = (new.actor.clone(), new.kind, new.verb);
        self.all().insert(id, Open { actor, kind, place, verb, title, revoked: revoked.clone() });
        let door = Door {
            state: Arc::clone(state),
            id,
            actor: new.actor.clone(),
            kind: new.kind,
            app,
            label,
            detail: new.detail.to_owned(),
            began: Instant::now(),
            revoked,
            closed: false,
        };
        if new.kind.is_told() {
            let message = if new.detail.is_empty() { "opened".to_owned() } else { format!("opened: {}", new.detail) };
            door.tell("opened", &message).await?;
        }
        // A right may have gone between the check and now.
        let fresh = people::reload_actor(&state.db.conn().await?, new.actor).await?;
        if fresh.is_none() {
            door.revoked.cancel();
        }
        Ok(door)
    }

    /// Looks whether everything that is open may stay open, and ends what may not. Tells what was ended.
    pub async fn look(&self, state: &State) -> Result<Vec<String>, ApiError> {
        let _one = self.looking.lock().await;
        let open: Vec<(u64, Actor)> = self.all().iter().map(|(id, open)| (*id, open.actor.clone())).collect();
        let mut known: Vec<(Actor, Option<Actor>)> = Vec::new();
        let mut looked_at = Vec::new();
        for (id, actor) in open {
            let fresh = match known.iter().find(|(old, _)| *old == actor) {
                Some((_, fresh)) => fresh.clone(),
                None => {
                    let mut fresh = people::reload_actor(&state.db.conn().await?, &actor).await?;
                    if let (Some(address), Some(one)) = (actor.address, &fresh) {
                        let door = if matches!(actor.credential, crate::actor::Credential::Key(_)) {
                            DoorName::Ssh
                        } else {
                            DoorName::Api
                        };
                        if !lists::admit(state, door, address, Some(one.organisation)).await? {
                            fresh = None;
                        }
                    }
                    known.push((actor, fresh.clone()));
                    fresh
                }
            };
            looked_at.push((id, fresh));
        }
        // All at once: the end of a connection takes along what was opened over it, which is to be told as well.
        let mut ended = Vec::new();
        let mut all = self.all();
        for (id, fresh) in looked_at {
            let Some(open) = all.get_mut(&id) else { continue };
            let may = |fresh: &Actor| open.kind == DoorKind::Connection || fresh.may(open.verb, open.place.place());
            let stays = fresh.as_ref().is_some_and(may);
            if !stays && !open.revoked.is_cancelled() {
                open.revoked.cancel();
                ended.push(format!("{} by {}", open.title, open.actor.name));
            }
        }
        Ok(ended)
    }

    /// How many are open.
    pub fn count(&self, kind: DoorKind) -> usize {
        self.all().values().filter(|open| open.kind == kind).count()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        locked(&self.open)
    }
}

/// Ends doors whose right was taken away, by this gateway or another, until the gateway ends.
pub async fn watch(state: Arc<State>) {
    let mut seen = None;
    loop {
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Err(error) = look_again(&state, &mut seen).await {
            tracing::warn!(error = format!("{error:#}"), "cannot look whether open doors may stay open");
        }
    }
}

async fn look_again(state: &Arc<State>, seen: &mut Option<(i64, Instant)>) -> anyhow::Result<()> {
    let version = people::load_access_version(&state.db.conn().await?).await?;
    if seen.is_none_or(|(last, at)| last != version || at.elapsed() > EXPIRY) {
        // Whoever made the change looks by themselves, and tells the person what ended: they come first.
        tokio::time::sleep(AFTER).await;
        lists::changed(state).await?;
        engine::lists_changed(state);
        for ended in state.doors.look(state).await? {
            tracing::info!(ended, "ended: the right to it is gone");
        }
        *seen = Some((version, Instant::now()));
    }
    Ok(())
}

impl Door {
    /// Resolves when the right is gone: whatever the door stands for must end at once.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// The same, for a task of its own.
    pub fn revocation(&self) -> CancellationToken {
        self.revoked.clone()
    }

    /// Keeps the door open until it must be shut, and tells why: the right is gone, or the gateway is about to end.
    pub async fn over(self) -> &'static str {
        tokio::select! {
            () = self.state.shutdown.cancelled() => "the gateway is about to end",
            () = self.revoked.cancelled() => self.reason(),
        }
    }

    /// What to tell the person.
    pub fn reason(&self) -> &'static str {
        "access was taken away"
    }

    /// Closes the door and records how it went.
    pub async fn close(mut self, outcome: &str) {
        self.closed = true;
        self.forget();
        if let Err(error) = self.record(outcome).await {
            tracing::warn!(error = format!("{error:#}"), kind = self.kind.as_str(), "cannot record a door's end");
        }
    }

    fn forget(&self) {
        self.state.doors.all().remove(&self.id);
    }

    async fn record(&self, outcome: &str) -> Result<(), ApiError> {
        if !self.kind.is_told() {
            return Ok(());
        }
        let took = self.began.elapsed().as_secs_f64();
        let why = if self.revoked.is_cancelled() { ", access was taken away" } else { "" };
        let what = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        self.tell("closed", &format!("closed after {took:.1} s, {outcome}{why}{what}")).await
    }

    async fn tell(&self, what: &str, message: &str) -> Result<(), ApiError> {
        let action = format!("{}.{what}", self.kind.as_str());
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
        let entry = NewEntry {
            actor: Some(&self.actor),
            action: &action,
            app: self.app.as_deref(),
            label: self.label.as_deref(),
            message: &message,
            ..NewEntry::default()
        };
        Ok(timeline::append(&self.state.db.conn().await?, entry).await?)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        self.forget();
        let rest = Door {
            state: Arc::clone(&self.state),
            id: self.id,
            actor: self.actor.clone(),
            kind: self.kind,
            app: self.app.take(),
            label: self.label.take(),
            detail: std::mem::take(&mut self.detail),
            began: self.began,
            revoked: self.revoked.clone(),
            closed: true,
        };
        let tasks = self.state.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = rest.record("left").await {
                tracing::warn!(error = format!("{error:#}"), "cannot record a door's end");
            }
        });
    }
}
