//! Why a deploy stopped, in the words that its person reads.

use magrathea_core::api::{DeployFailure, Phase};
use magrathea_core::wire::{ActionError, ActionErrorKind};

use crate::api::error::{ApiError, Code};
use crate::db::DbError;
use crate::hub::{CallError, NodeRef};

/// A failure on the way; the phase is added where it is recorded.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of [`DeployFailure::code`]'s.
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    pub log_tail: Vec<String>,
    /// For the gateway's log alone.
    #[source]
    pub cause: Option<anyhow::Error>,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), hint: None, log_tail: Vec::new(), cause: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whose replicas they are.
    pub fn of_process(mut self, process: &str) -> Self {
        if self.code == "unhealthy" {
            self.message = format!("{process}: {}", self.message);
        }
        self
    }

    /// A call that did not succeed. `own` is the code when it is the app's own fault.
    pub fn call(node: &NodeRef, own: &'static str, error: CallError) -> Self {
        match error {
            CallError::Action(error) => Self::action(own, error),
            CallError::NotConnected | CallError::Lost | CallError::Timeout => {
                Failure::new("node", format!("node {node}: {error}"))
                    .hint("see `td cluster info`, and whether the node's agent runs")
            }
        }
    }

    fn action(own: &'static str, error: ActionError) -> Self {
        let code = match error.kind {
            ActionErrorKind::CommandFailed
            | ActionErrorKind::TimedOut
            | ActionErrorKind::DiskFull
            | ActionErrorKind::OutOfMemory => own,
            ActionErrorKind::Unhealthy => "unhealthy",
            ActionErrorKind::Refused => "refused",
            ActionErrorKind::Cancelled => "cancelled",
            ActionErrorKind::Node => "node",
            ActionErrorKind::Internal => "internal",
        };
        Failure { code, message: error.message, hint: error.hint, log_tail: error.log_tail, cause: None }
    }

    /// As it is recorded; an app's own log stands for the tail when the failure has none.
    pub fn record(&self, phase: Phase, tail: Vec<String>) -> DeployFailure {
        DeployFailure {
            phase,
            code: self.code.to_owned(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            log_tail: if self.log_tail.is_empty() { tail } else { self.log_tail.clone() },
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        let mut failure = Failure::new("internal", "the gateway made a mistake; its log says more");
        failure.cause = Some(cause);
        failure
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        anyhow::Error::from(error).into()
    }
}

/// A failure outside of a deploy, as the API tells it.
pub fn into_api(failure: Failure) -> ApiError {
    let code = match failure.code {
        "manifest_invalid" => Code::PlanInvalid,
        "build_failed" => Code::BuildpackUnknown,
        "host_taken" => Code::HostTaken,
        "node" => Code::NodeUnavailable,
        "internal" => Code::Internal,
        _ => Code::ActionFailed,
    };
    let mut api = ApiError::new(code, failure.message);
    api.hint = failure.hint;
    api.cause = failure.cause;
    api
}
