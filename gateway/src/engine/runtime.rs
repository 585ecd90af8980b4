//! What the engine knows beside the store: nothing here outlives the process, and nothing here decides what is true.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use magrathea_core::names::{DeployId, InstanceId};
use tokio::sync::{Notify, OwnedMutexGuard, broadcast, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::scaling::Loads;
use crate::hub::NodeRef;
use crate::lock::locked;

/// The engine's part of the gateway's state.
pub struct Engine {
    /// Names this gateway's data folder in leases; a later process on the same folder is the same gateway.
    pub id: Uuid,
    /// Whether what an earlier process left was taken over: before it, a new deploy would be taken for an old one.
    open: watch::Sender<bool>,
    /// Wakes those who follow a deploy.
    topics: Mutex<HashMap<DeployId, watch::Sender<()>>>,
    /// Stops the deploys that this process runs.
    stops: Mutex<HashMap<DeployId, CancellationToken>>,
    /// One thing at a time is done to an instance by this process.
    holds: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
    /// The nodes whose shared services are as the cluster's plan says.
    ready: watch::Sender<HashSet<NodeRef>>,
    /// Told of nodes that failed and were gone on without.
    put_off: broadcast::Sender<NodeRef>,
    /// What each node has confirmed since it connected; the hashes are over resources with their secrets.
    confirmed: Mutex<HashMap<NodeRef, Confirmed>>,
    /// One writer of the configuration history at a time.
    pub(super) history: Arc<Mutex<()>>,
    /// Told when an access list was edited.
    pub(super) lists: watch::Sender<()>,
    /// Told when a traffic quota was set or taken away.
    pub(super) quotas: Notify,
    /// What the routers saw in the last minutes.
    pub(super) loads: Mutex<Loads>,
}

/// Subject and key → hash.
type Confirmed = HashMap<(String, String), String>;

/// Proof that this process does nothing else to the instance.
pub type Hold = OwnedMutexGuard<()>;

impl Engine {
    /// Prepares the data folder and reads (or makes) the gateway's own id in it.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        for folder in ["blobs", "history"] {
            let folder = data.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let path = data.join("gateway-id");
        let id = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().with_context(|| format!("{} is damaged", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = Uuid::now_v7();
                std::fs::write(&path, id.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
                id
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Engine {
            id,
            open: watch::channel(false).0,
            topics: Mutex::default(),
            stops: Mutex::default(),
            holds: Mutex::default(),
            ready: watch::channel(HashSet::new()).0,
            put_off: broadcast::Sender::new(64),
            confirmed: Mutex::default(),
            history: Arc::default(),
            lists: watch::channel(()).0,
            quotas: Notify::new(),
            loads: Mutex::default(),
        })
    }

    /// New deploys may be recorded from now on.
    pub fn set_open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until new deploys may be recorded.
    pub async fn wait_open(&self) {
        // Fails only when the sender is gone, which `self` holds.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Tells followers that the deploy has new events.
    pub fn announce(&self, id: DeployId) {
        let mut topics = locked(&self.topics);
        if topics.get(&id).is_some_and(|topic| topic.send(()).is_err()) {
            topics.remove(&id);
        }
    }

    /// Changes whenever the deploy has new events.
    pub fn topic(&self, id: DeployId) -> watch::Receiver<()> {
        locked(&self.topics).entry(id).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// The token that stops a deploy of this process.
    pub fn stop_token(&self, id: DeployId) -> CancellationToken {
        locked(&self.stops).entry(id).or_default().clone()
    }

    /// Stops a deploy if this process runs it.
    pub fn stop(&self, id: DeployId) {
        if let Some(token) = locked(&self.stops).get(&id) {
            token.cancel();
        }
    }

    /// Forgets a deploy that is over.
    pub fn forget(&self, id: DeployId) {
        locked(&self.stops).remove(&id);
    }

    /// Waits until this process does nothing else to the instance.
    pub async fn hold(&self, instance: InstanceId) -> Hold {
        let mutex = Arc::clone(locked(&self.holds).entry(instance).or_default());
        mutex.lock_owned().await
    }

    pub fn set_ready(&self, node: &NodeRef) {
        self.ready.send_modify(|ready| {
            ready.insert(node.clone());
        });
    }

    /// Has whoever needs the node wait until it is prepared anew.
    pub fn set_unready(&self, node: &NodeRef) {
        self.ready.send_modify(|ready| {
            ready.remove(node);
        });
    }

    pub fn is_ready(&self, node: &NodeRef) -> bool {
        self.ready.borrow().contains(node)
    }

    /// Forgets what was known of a node: it came or went.
    pub fn set_unknown(&self, node: &NodeRef) {
        locked(&self.confirmed).remove(node);
        self.set_unready(node);
    }

    /// Has a node prepared anew.
    pub fn put_off(&self, node: &NodeRef) {
        self.set_unknown(node);
        // Nobody listens while the gateway ends.
        let _ = self.put_off.send(node.clone());
    }

    /// The nodes that are to be prepared anew from now on.
    pub fn nodes_put_off(&self) -> broadcast::Receiver<NodeRef> {
        self.put_off.subscribe()
    }

    /// Waits until all these nodes are ready.
    pub async fn wait_ready(&self, nodes: &[NodeRef]) {
        let mut ready = self.ready.subscribe();
        // Fails only when the sender is gone, which `self` holds.
        let _ = ready.wait_for(|ready| nodes.iter().all(|node| ready.contains(node))).await;
    }

    /// Which of these nodes is not ready.
    pub fn unready(&self, nodes: &[NodeRef]) -> Option<NodeRef> {
        let ready = self.ready.borrow();
        nodes.iter().find(|node| !ready.contains(node)).cloned()
    }

    /// Whether the node has confirmed exactly this since it connected.
    pub fn is_confirmed(&self, node: &NodeRef, subject: &str, key: &str, hash: &str) -> bool {
        let confirmed = locked(&self.confirmed);
        let key = (subject.to_owned(), key.to_owned());
        confirmed.get(node).and_then(|known| known.get(&key)).is_some_and(|known| known == hash)
    }

    pub fn confirm(&self, node: &NodeRef, subject: &str, key: &str, hash: String) {
        let key = (subject.to_owned(), key.to_owned());
        locked(&self.confirmed).entry(node.clone()).or_default().insert(key, hash);
    }

    /// Forgets one resource: it is about to change in a way that may fail half-way.
    pub fn unconfirm(&self, node: &NodeRef, subject: &str, key: &str) {
        if let Some(known) = locked(&self.confirmed).get_mut(node) {
            known.remove(&(subject.to_owned(), key.to_owned()));
        }
    }
}
