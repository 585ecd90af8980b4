//! The gateway's tasks. Each is known by where it was started, so that one that does not end with the gateway is named.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use crate::lock::locked;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

type Running = Mutex<BTreeMap<(&'static str, u32), usize>>;

/// Starts tasks and waits for their end.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Running>,
}

impl Tasks {
    #[track_caller]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(self.named(Location::caller(), task))
    }

    /// A future that counts as a task until it is dropped.
    #[track_caller]
    pub fn track_future<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.tracker.track_future(self.named(Location::caller(), task))
    }

    #[track_caller]
    pub fn spawn_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let entry = self.enter(Location::caller());
        self.tracker.spawn_blocking(move || {
            let _entry = entry;
            work()
        })
    }

    /// Lets `wait` return once the last has ended.
    pub fn close(&self) {
        self.tracker.close();
    }

    pub async fn wait(&self) {
        self.tracker.wait().await;
    }

    /// Where those that still run were started, and how many of each.
    pub fn left(&self) -> String {
        let running = locked(&self.running);
        let left = running.iter().map(|((file, line), count)| format!("{count} × {file}:{line}"));
        left.collect::<Vec<_>>().join(", ")
    }

    fn named<F: Future>(&self, place: &'static Location<'static>, task: F) -> impl Future<Output = F::Output> + use<F> {
        let entry = self.enter(place);
        async move {
            let _entry = entry;
            task.await
        }
    }

    fn enter(&self, place: &'static Location<'static>) -> Entry {
        let place = (place.file(), place.line());
        *locked(&self.running).entry(place).or_default() += 1;
        Entry { running: Arc::clone(&self.running), place }
    }
}

/// A task that runs, until it is dropped.
struct Entry {
    running: Arc<Running>,
    place: (&'static str, u32),
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = locked(&self.running);
        if let Some(count) = running.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_still_runs_is_named() {
        let tasks = Tasks::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let task = tasks.spawn(ended);
        tasks.spawn(async { panic!("a task that fails is gone as well") }).await.unwrap_err();
        assert!(tasks.left().starts_with(concat!("1 × ", file!(), ":")), "{}", tasks.left());
        end.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(tasks.left(), "");
    }
}
