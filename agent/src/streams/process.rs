//! A program of a container's as a process of the node, held by a handle that cannot come to mean another. Whatever is
//! ended here was first seen to be in the container.

use std::os::fd::OwnedFd;
use std::time::Duration;

use magrathea_core::wire::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, kill_process, kill_process_group, pidfd_open};

/// How often a process is looked at whose end is waited for: only one whose output stays open is waited for long.
const LOOK: Duration = Duration::from_millis(300);

/// What was asked to end is killed after this long.
const GRACE: Duration = Duration::from_millis(500);

/// A process that the engine started for us. It leads a session of its own, as all that the engine starts do.
pub struct Process {
    pid: Pid,
    /// None when it had ended before it could be taken hold of.
    handle: Option<OwnedFd>,
    /// The container's id, as it stands in the control groups of its processes.
    container: String,
}

impl Process {
    /// None when the number is no process's. One that has ended may have left others in its session.
    pub fn open(pid: i32, container: &str) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).ok();
        // Looked at while the handle is held: another process of the number would not be in the container.
        let handle = handle.filter(|_| is_in(pid, container));
        Some(Process { pid, handle, container: container.to_owned() })
    }

    /// Resolves when it has ended.
    pub async fn exited(&self) {
        while !self.has_exited() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The handle becomes readable with the process's end.
    fn has_exited(&self) -> bool {
        let Some(handle) = &self.handle else { return true };
        let mut handles = [PollFd::new(handle, PollFlags::IN)];
        !matches!(poll(&mut handles, Some(&Timespec::default())), Ok(0))
    }

    /// Sends a signal to it and what runs with it in the foreground of a script.
    pub fn signal(&self, signal: Signal) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(i32::from(signal.number()))
            && is_in(self.pid, &self.container)
        {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Ends it and all that it started and that did not leave its session: asked first, then killed.
    pub async fn end_all(&self) {
        self.each_of_session(rustix::process::Signal::HUP);
        // What is stopped does not hear.
        self.each_of_session(rustix::process::Signal::CONT);
        let _ = tokio::time::timeout(GRACE, self.gone()).await;
        self.each_of_session(rustix::process::Signal::KILL);
    }

    async fn gone(&self) {
        while !self.session().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn each_of_session(&self, signal: rustix::process::Signal) {
        for pid in self.session() {
            let _ = kill_process(pid, signal);
        }
    }

    /// The processes of its session that still run.
    fn session(&self) -> Vec<Pid> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(|pid| session_of(*pid) == Some(self.pid) && is_in(*pid, &self.container)).collect()
    }
}

/// The session of a process that has not ended.
fn session_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_session(&stat).and_then(Pid::from_raw)
}

/// The fields of `stat` after the name, which may hold anything: state, parent, group, session.
fn parse_session(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(2)?.parse().ok(),
    }
}

fn is_in(pid: Pid, container: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_whatever_the_name() {
        for (stat, session) in [
            ("12 (bash) S 1 12 11 34816 0", Some(11)),
            ("12 (a) Z (b) R 1 12 10 0", Some(10)),
            ("12 (bash) Z 1 12 12 0", None),
            ("12 (bash", None),
            ("12 (bash) S 1", None),
        ] {
            assert_eq!(parse_session(stat), session, "{stat}");
        }
    }
}
