//! How a command ends: its exit code, and for a failure what the person is told.

use std::process::ExitCode;

use magrathea_core::api::{DeployInfo, DeployStatus, ErrorBody, LabelRefusal};
use magrathea_core::diagnostics::Diagnostics;

/// The exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// It failed; what served before serves on.
    Failed,
    Usage,
    ManifestInvalid,
    BuildFailed,
    NotAllowed,
    Locked,
    /// The time given was over before the deploy was, or the person detached; it goes on.
    Running,
    RolledBack,
    Unreachable,
    /// A program's own status, of `td app shell` and `td app run`.
    Remote(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

impl Exit {
    /// Of several, the first that did not succeed.
    pub fn or(self, later: Exit) -> Exit {
        if self == Exit::Done { later } else { self }
    }

    /// What the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::ManifestInvalid => 3,
            Exit::BuildFailed => 4,
            Exit::NotAllowed => 5,
            Exit::Locked => 6,
            Exit::Running => 7,
            Exit::RolledBack => 8,
            Exit::Unreachable => 9,
            Exit::Remote(code) => code,
        }
    }

    /// All codes with their meaning.
    pub const ALL: [(Exit, &str); 10] = [
        (Exit::Done, "done"),
        (Exit::Failed, "failed; what served before serves on"),
        (Exit::Usage, "the command line is not understood"),
        (Exit::ManifestInvalid, "magrathea.yml is invalid"),
        (Exit::BuildFailed, "the build failed"),
        (Exit::NotAllowed, "not allowed, or not known to the gateway"),
        (Exit::Locked, "another deploy of the instance is under way"),
        (Exit::Running, "the deploy still runs: the timeout is over, or td was detached"),
        (Exit::RolledBack, "rolled back after the cut-over"),
        (Exit::Unreachable, "the gateway cannot be reached"),
    ];

    /// How a deploy ended.
    pub fn of_deploy(deploy: &DeployInfo) -> Self {
        match (deploy.status, &deploy.failure) {
            (DeployStatus::Succeeded, _) => Exit::Done,
            (DeployStatus::Waiting | DeployStatus::Running, _) => Exit::Running,
            (_, Some(failure)) => Exit::of_code(&failure.code),
            (_, None) => Exit::Failed,
        }
    }

    /// What an error code of the API comes to.
    pub fn of_code(code: &str) -> Self {
        match code {
            "name_invalid" | "query_invalid" | "cluster_ambiguous" | "confirmation_mismatch" => Exit::Usage,
            "manifest_invalid" | "label_unknown" | "cluster_unknown" | "plan_invalid" => Exit::ManifestInvalid,
            "build_failed" | "buildpack_unknown" => Exit::BuildFailed,
            "unauthenticated" | "login_failed" | "invitation_invalid" | "forbidden" | "too_many_attempts" => {
                Exit::NotAllowed
            }
            "locked" => Exit::Locked,
            "rolled_back" => Exit::RolledBack,
            _ => Exit::Failed,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
    pub hint: Option<String>,
    /// The API's code.
    pub code: Option<String>,
    /// Names the request in the gateway's log.
    pub request: Option<String>,
    /// Findings in magrathea.yml.
    pub diagnostics: Option<Box<Diagnostics>>,
    /// The clusters that could be meant.
    pub clusters: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Failure {
            exit,
            error: error.into(),
            hint: None,
            code: None,
            request: None,
            diagnostics: None,
            clusters: Vec::new(),
        }
    }

    /// A failure told in one sentence.
    pub fn say(exit: Exit, message: impl Into<String>) -> Self {
        Failure::new(exit, anyhow::Error::msg(message.into()))
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Failure::say(Exit::Usage, message)
    }

    /// An answer of the gateway's that is not what this td knows.
    pub fn not_understood(error: serde_json::Error) -> Self {
        Failure::new(Exit::Failed, anyhow::Error::from(error).context("the gateway's answer was not understood"))
            .hint("td and the gateway may be of different versions: compare `td --version` with `td status --json`")
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is told of it where others may succeed.
    pub fn into_refusal(self) -> LabelRefusal {
        let code = self.code.unwrap_or_default();
        LabelRefusal { code, message: format!("{:#}", self.error), hint: self.hint }
    }

    /// The gateway's own error.
    pub fn from_api(status: u16, body: ErrorBody) -> Self {
        let exit = match (Exit::of_code(&body.code), status) {
            (Exit::Failed, 401 | 403) => Exit::NotAllowed,
            (Exit::Failed, 423) => Exit::Locked,
            (exit, _) => exit,
        };
        Failure {
            hint: body.hint,
            code: Some(body.code),
            request: Some(body.request).filter(|id| !id.is_empty()),
            diagnostics: body.diagnostics.map(Box::new),
            clusters: body.clusters,
            ..Failure::say(exit, body.message)
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_errors_become_exit_codes() {
        for (status, code, exit) in [
            (401, "unauthenticated", Exit::NotAllowed),
            (403, "anything", Exit::NotAllowed),
            (409, "locked", Exit::Locked),
            (423, "anything", Exit::Locked),
            (422, "manifest_invalid", Exit::ManifestInvalid),
            (404, "not_found", Exit::Failed),
            (500, "internal", Exit::Failed),
        ] {
            let body = ErrorBody {
                code: code.into(),
                message: "m".into(),
                hint: None,
                request: "r".into(),
                diagnostics: None,
                clusters: Vec::new(),
            };
            assert_eq!(Failure::from_api(status, body).exit, exit, "{status} {code}");
        }
    }
}
