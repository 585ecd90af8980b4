//! The way back to the gateway while an action runs.

use magrathea_core::wire::Progress;
use tokio::sync::mpsc;

/// Tells the gateway what happens meanwhile. What does not fit into the channel is dropped: a log must not slow a build.
#[derive(Debug, Clone)]
pub struct Reporter(pub mpsc::Sender<Progress>);

impl Reporter {
    pub fn log(&self, line: String) {
        let _ = self.0.try_send(Progress::Log { line, number: None });
    }

    /// A line that comes again, with the same number, when the action is repeated.
    pub fn numbered(&self, number: u64, line: String) {
        let _ = self.0.try_send(Progress::Log { line, number: Some(number) });
    }

    pub fn warn(&self, message: String) {
        let _ = self.0.try_send(Progress::Warning { message });
    }
}
