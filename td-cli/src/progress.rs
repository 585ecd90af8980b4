//! A deploy's phases and build log as lines; on a terminal with a spinner for each phase that runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use magrathea_core::api::{DeployEvent, DeployEventKind, Phase, describe_canary};

use crate::follow::Watcher;
use crate::human;
use crate::printer::{Look, Printer, clean};
use crate::source::Sent;

/// A phase that takes longer is announced before its first word.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
const INDENT: &str = "       ";

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Beside other data: stderr.
    Progress,
    /// The lines are the data: stdout.
    Data,
}

/// Tells a deploy as it happens.
pub struct Progress<'a> {
    printer: &'a Printer,
    target: Target,
    live: Option<MultiProgress>,
    running: BTreeMap<Phase, Running>,
    /// The phase whose heading was printed last.
    heading: Option<Phase>,
    logged: BTreeMap<Phase, usize>,
    /// Stands before every line, to tell several apart.
    prefix: String,
}

struct Running {
    since: Instant,
    spinner: Option<ProgressBar>,
}

impl<'a> Progress<'a> {
    pub fn new(printer: &'a Printer, target: Target) -> Self {
        let live = (target == Target::Progress && printer.is_live()).then(MultiProgress::new);
        let (running, logged) = (BTreeMap::new(), BTreeMap::new());
        Progress { printer, target, live, running, heading: None, logged, prefix: String::new() }
    }

    /// One of several that are told side by side.
    pub fn labelled(printer: &'a Printer, target: Target, label: &str) -> Self {
        Progress { live: None, prefix: format!("{label:<12} "), ..Progress::new(printer, target) }
    }

    /// Shows an upload until the guard is dropped.
    pub fn uploading(&self, sent: Sent) -> Upload {
        Upload(self.live.as_ref().map(|live| {
            let style = style("{spinner} send          {elapsed:>7}  {sent}").with_key(
                "sent",
                move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = out.write_str(&human::size(sent.bytes()));
                },
            );
            spin(live, style)
        }))
    }

    /// A phase that is over, on one line.
    pub fn done(&self, name: &str, took: Duration, detail: &str) {
        let arrow = self.paint(Look::Bold, "----->");
        self.line(format!("{arrow} {name:<13} {:>7}  {}", human::duration(took), clean(detail)));
    }

    pub fn warning(&self, message: &str) {
        let mark = self.paint(Look::Yellow, " !    ");
        let text = format!("{mark} {}", clean(message));
        // Even the quiet want to know.
        match (&self.live, self.target) {
            (None, Target::Progress) => self.printer.message(format!("{}{text}", self.prefix)),
            _ => self.line(text),
        }
    }

    /// How many log lines of a phase were shown.
    pub fn logged(&self, phase: Phase) -> usize {
        self.logged.get(&phase).copied().unwrap_or_default()
    }

    /// Takes the spinners away.
    pub fn finish(&mut self) {
        self.running.clear();
        if let Some(live) = &self.live {
            let _ = live.clear();
        }
    }

    fn started(&mut self, phase: Phase) {
        let spinner = self.live.as_ref().map(|live| {
            let spinner = spin(live, style("{spinner} {msg} {elapsed:>7}"));
            spinner.set_message(format!("{:<13}", phase));
            spinner
        });
        self.running.insert(phase, Running { since: Instant::now(), spinner });
    }

    fn finished(&mut self, phase: Phase, took: Duration, detail: &str) {
        if let Some(Running { spinner: Some(spinner), .. }) = self.running.remove(&phase) {
            spinner.finish_and_clear();
        }
        if self.heading == Some(phase) {
            self.line(format!("{INDENT}{}  {}", human::duration(took), clean(detail)).trim_end());
        } else {
            self.done(phase.as_str(), took, detail);
        }
        self.heading = None;
    }

    fn log(&mut self, phase: Phase, line: &str) {
        self.head(phase);
        *self.logged.entry(phase).or_default() += usize::from(!self.printer.is_quiet());
        self.line(format!("{INDENT}{}", clean(line)).trim_end());
    }

    fn head(&mut self, phase: Phase) {
        if self.heading != Some(phase) {
            self.line(format!("{} {}", self.paint(Look::Bold, "----->"), phase));
            self.heading = Some(phase);
        }
    }

    fn line(&self, line: impl AsRef<str>) {
        let line = format!("{}{}", self.prefix, line.as_ref());
        match (&self.live, self.target) {
            (Some(live), _) => drop(live.println(&line)),
            (None, Target::Progress) => self.printer.note(line),
            (None, Target::Data) => self.printer.data(line),
        }
    }

    fn paint<'t>(&self, look: Look, text: &'t str) -> std::borrow::Cow<'t, str> {
        match self.target {
            Target::Progress => self.printer.on_stderr(look, text),
            Target::Data => self.printer.on_stdout(look, text),
        }
    }
}

impl Watcher for Progress<'_> {
    fn event(&mut self, event: &DeployEvent) {
        match &event.event {
            DeployEventKind::PhaseStarted { phase } => self.started(*phase),
            DeployEventKind::PhaseFinished { phase, milliseconds, detail } => {
                self.finished(*phase, Duration::from_millis(*milliseconds), detail);
            }
            DeployEventKind::Log { phase, line } => self.log(*phase, line),
            DeployEventKind::Warning { message } => self.warning(message),
            DeployEventKind::Canary { release, share } => self.warning(&describe_canary(*release, *share)),
            DeployEventKind::Finished { .. } => self.finish(),
        }
    }

    fn tick(&mut self) {
        if self.live.is_some() {
            return;
        }
        let slow = self.running.iter().filter(|(_, running)| running.since.elapsed() > PATIENCE);
        if let Some(phase) = slow.map(|(phase, _)| *phase).next_back() {
            self.head(phase);
        }
    }
}

/// A running upload's place on the terminal.
pub struct Upload(Option<ProgressBar>);

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_strings(&[
        "·     ",
        "··    ",
        "···   ",
        "····  ",
        "····· ",
        "······",
    ])
}

fn spin(live: &MultiProgress, style: ProgressStyle) -> ProgressBar {
    let spinner = live.add(ProgressBar::new_spinner());
    spinner.set_style(style);
    spinner.enable_steady_tick(TICK);
    spinner
}

/// The events as they came, one JSON object per line.
pub struct Events<'a>(pub &'a Printer);

impl Watcher for Events<'_> {
    fn event(&mut self, event: &DeployEvent) {
        self.0.json_line(event);
    }
}
