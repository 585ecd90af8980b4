//! Process types: how an app's processes are started, limited and asked whether they are well.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AppLayer, Replicas};
use crate::names::ProcessName;
use crate::schema::format::*;
use crate::units::{ByteSize, Span};

impl AppLayer {
    /// How many replicas of a process type there are to be, at least; none when there is no such process type.
    pub fn replicas_of(&self, process: &ProcessName) -> Option<u16> {
        if process.is_web() {
            Some(self.replicas.least())
        } else {
            self.workers.get(process).map(|worker| worker.replicas)
        }
    }

    /// The same with other numbers of replicas; process types that are not there any more are passed over.
    #[must_use]
    pub fn with_replicas(mut self, scales: &BTreeMap<ProcessName, u16>) -> Self {
        for (process, count) in scales {
            if process.is_web() {
                self.replicas = Replicas::Fixed(*count);
            } else if let Some(worker) = self.workers.get_mut(process) {
                worker.replicas = *count;
            }
        }
        self
    }
}

/// When a replica counts as healthy, before it gets its first visitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// The path that is asked for.
    #[schemars(with = "UrlPath")]
    pub path: String,
    /// The status, or the range of statuses, that is healthy: `200` or `200-399`.
    #[schemars(with = "Status")]
    pub expect: String,
    /// A text that the answer must hold.
    #[schemars(with = "Option<Line>")]
    pub contains: Option<String>,
    /// Asks for nothing: a replica that takes a connection is healthy.
    pub tcp: bool,
    /// Instead of a request, a command run in each replica as the app, with its environment: healthy is exit status 0.
    #[schemars(with = "Option<Command>")]
    pub command: Option<String>,
    /// Gives up after this many wrong answers of one replica, before `timeout`. What has not begun to listen has not
    /// answered.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: Option<u16>,
    /// Time between two questions to a replica; without it the next one follows at once, with `attempts` or `command`
    /// after `1s`.
    pub interval: Option<Span>,
    /// Most time that one answer may take.
    pub attempt_timeout: Span,
    /// Most time until every replica is healthy.
    pub timeout: Span,
    /// How long the old release stands by after the cut-over: when a replica of the new one ends or stops answering in
    /// that time, the old one serves again. Without it `15s` for Tomcat, whose process is the app's own, otherwise `0s`.
    pub watch: Option<Span>,
}

impl Default for Health {
    fn default() -> Self {
        let WorkerHealth { command, attempts, interval, attempt_timeout, timeout } = WorkerHealth::default();
        Health {
            path: "/".into(),
            expect: "200-499".into(),
            contains: None,
            tcp: false,
            command,
            attempts,
            interval,
            attempt_timeout,
            timeout,
            watch: None,
        }
    }
}

/// A process type that visitors do not reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// The command that each replica runs; when it ends it is started again.
    #[schemars(with = "Option<Command>")]
    pub run: Option<String>,
    /// How many replicas run.
    #[schemars(range(min = 0, max = 64))]
    pub replicas: u16,
    /// Memory of one replica.
    pub memory: ByteSize,
    /// CPUs of one replica, as in `"0.5"`; no limit of its own when absent.
    #[schemars(with = "Option<Cpus>")]
    pub cpus: Option<String>,
    /// Most processes and threads of one replica.
    #[schemars(range(min = 16, max = 32768))]
    pub processes: u32,
    /// How long a replica that was told to end (TERM) may finish what it does before it is killed.
    pub stop_timeout: Span,
    /// When a replica counts as healthy; without a command, when it has run for two seconds.
    pub health: WorkerHealth,
}

impl Default for Worker {
    fn default() -> Self {
        Worker {
            run: None,
            replicas: 1,
            memory: ByteSize::mib(256),
            cpus: None,
            processes: 128,
            stop_timeout: Span(Duration::from_secs(30)),
            health: WorkerHealth::default(),
        }
    }
}

/// When a replica that visitors do not reach counts as healthy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerHealth {
    /// A command run in each replica as the app, with its environment: healthy is exit status 0.
    #[schemars(with = "Option<Command>")]
    pub command: Option<String>,
    /// Gives up after this many wrong answers of one replica, before `timeout`.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: Option<u16>,
    /// Time between two questions to a replica; `1s` when absent.
    pub interval: Option<Span>,
    /// Most time that one answer may take.
    pub attempt_timeout: Span,
    /// Most time until every replica is healthy.
    pub timeout: Span,
}

impl Default for WorkerHealth {
    fn default() -> Self {
        WorkerHealth {
            command: None,
            attempts: None,
            interval: None,
            attempt_timeout: Span(Duration::from_secs(10)),
            timeout: Span(Duration::from_secs(60)),
        }
    }
}
