//! A deploy's events as the lines that a push shows, like those of `td app deploy`. Pure but for the time that passes
//! between calls.

use std::time::{Duration, Instant};

use magrathea_core::api::{DeployEventKind, DeployInfo, DeployStatus, Phase, describe_canary};

/// A phase that takes longer is announced before its first word.
const PATIENCE: Duration = Duration::from_secs(1);

const INDENT: &str = "       ";

/// Renders one deploy.
#[derive(Debug, Default)]
pub struct Lines {
    running: Option<(Phase, Option<Instant>)>,
    heading: Option<Phase>,
    logged: usize,
}

impl Lines {
    /// What is shown of an event; `now` is when it came.
    pub fn event(&mut self, event: &DeployEventKind, now: Instant) -> Vec<String> {
        match event {
            DeployEventKind::PhaseStarted { phase } => {
                self.running = Some((*phase, Some(now)));
                self.logged = 0;
                Vec::new()
            }
            DeployEventKind::PhaseFinished { phase, milliseconds, detail } => {
                self.running = None;
                let took = duration(Duration::from_millis(*milliseconds));
                let line = if self.heading.take() == Some(*phase) {
                    format!("{INDENT}{took}  {detail}")
                } else {
                    format!("-----> {phase:<13} {took:>7}  {detail}")
                };
                vec![line.trim_end().to_owned()]
            }
            DeployEventKind::Log { phase, line } => {
                self.logged += 1;
                let mut lines = self.head(*phase);
                lines.push(format!("{INDENT}{line}").trim_end().to_owned());
                lines
            }
            DeployEventKind::Warning { message } => vec![format!(" !     {message}")],
            DeployEventKind::Canary { release, share } => {
                vec![format!(" !     {}", describe_canary(*release, *share))]
            }
            DeployEventKind::Finished { deploy } => self.end(deploy),
        }
    }

    /// What is shown when nothing happened for a while.
    pub fn tick(&mut self, now: Instant) -> Vec<String> {
        match self.running {
            Some((phase, Some(since))) if now.duration_since(since) > PATIENCE => self.head(phase),
            _ => Vec::new(),
        }
    }

    fn head(&mut self, phase: Phase) -> Vec<String> {
        if self.heading == Some(phase) {
            return Vec::new();
        }
        self.heading = Some(phase);
        vec![format!("-----> {phase}")]
    }

    fn end(&self, deploy: &DeployInfo) -> Vec<String> {
        let mut lines = Vec::new();
        let serving = deploy.serving.as_ref().and_then(|serving| serving.release);
        if deploy.status == DeployStatus::Succeeded {
            let release = deploy.release.map(|release| release.to_string()).unwrap_or_default();
            let DeployInfo { app, label, cluster, .. } = deploy;
            lines.push(format!("=====> {release} of {app}, label {label} on {cluster}"));
            lines.extend(deploy.urls.iter().map(|url| format!("=====> {url}")));
        } else if let Some(failure) = &deploy.failure {
            // What was just shown as it happened is not shown again.
            if self.logged < failure.log_tail.len() {
                lines.extend(failure.log_tail.iter().map(|line| format!("{INDENT}{line}").trim_end().to_owned()));
            }
        }
        if deploy.status != DeployStatus::Succeeded
            && let Some(release) = serving
        {
            lines.push(format!("=====> {release} serves on"));
        }
        lines
    }
}

/// `0.31 s`, `4.2 s`, `2m 5s`.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 => format!("{seconds:.2} s"),
        1..100 => format!("{seconds:.1} s"),
        whole => format!("{}m {}s", whole / 60, whole % 60),
    }
}
