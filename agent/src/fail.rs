//! Failures of actions: makes [`ActionError`]s out of what goes wrong here, with what was being done.

use magrathea_core::wire::{ActionError, ActionErrorKind};

pub type Outcome<T> = Result<T, ActionError>;

pub fn fail(kind: ActionErrorKind, message: impl Into<String>) -> ActionError {
    ActionError { kind, message: message.into(), hint: None, log_tail: Vec::new() }
}

/// The node is not as it must be.
pub fn node(message: impl Into<String>) -> ActionError {
    fail(ActionErrorKind::Node, message)
}

/// A real program refused a generated text.
pub fn refused(message: impl Into<String>) -> ActionError {
    fail(ActionErrorKind::Refused, message)
}

/// A defect of ours.
pub fn internal(message: impl Into<String>) -> ActionError {
    fail(ActionErrorKind::Internal, message)
}

pub fn cancelled() -> ActionError {
    fail(ActionErrorKind::Cancelled, "the call was cancelled")
}

pub fn with_hint(mut error: ActionError, hint: &str) -> ActionError {
    error.hint = Some(hint.to_owned());
    error
}

/// Turns a lower error into an [`ActionError`] that says what was being done.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T> Doing<T> for Result<T, std::io::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| node(format!("{}: {error}", what())))
    }
}

impl<T> Doing<T> for Result<T, rustix::io::Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(std::io::Error::from).doing(what)
    }
}

impl<T> Doing<T> for Result<T, serde_json::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| internal(format!("{}: {error}", what())))
    }
}

impl<T> Doing<T> for Result<T, bollard::errors::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| {
            let message = match &error {
                bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
                other => other.to_string(),
            };
            node(format!("{}: the engine says: {message}", what()))
        })
    }
}
