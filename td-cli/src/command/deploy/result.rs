//! How the end of a deploy is told.

use std::time::Duration;

use magrathea_core::api::{DeployFailure, DeployInfo, DeployStatus};
use uuid::Uuid;

use crate::command::instances::describe_serving;
use crate::human;
use crate::printer::{Look, Printer, clean};
use crate::progress::Progress;

/// Tells on stderr what a finished deploy came to.
pub fn print_summary(printer: &Printer, deploy: &DeployInfo, progress: &Progress<'_>, took: Option<Duration>) {
    let arrow = printer.on_stderr(Look::Bold, "=====>");
    let serving = describe_serving(deploy.serving.as_ref());
    if deploy.status == DeployStatus::Succeeded {
        let release = deploy.release.map(|release| release.to_string()).unwrap_or_default();
        let took = took.map(|took| format!(" in {}", human::duration(took))).unwrap_or_default();
        let DeployInfo { app, label, cluster, .. } = deploy;
        if deploy.unchanged {
            return printer
                .note(format!("{arrow} {release} of {app}, label {label} on {cluster}, serves this already"));
        }
        printer.note(format!("{arrow} {release} of {app}, label {label} on {cluster}{took}"));
        for url in &deploy.urls {
            printer.note(format!("{arrow} {url}"));
        }
        printer.note(format!("{arrow} serving {serving}"));
        if deploy.serving.as_ref().is_some_and(|serving| serving.release != deploy.release) {
            printer.warning("the router does not serve the release that was deployed");
        }
        return;
    }
    let error = printer.on_stderr(Look::Red, "error:");
    match &deploy.failure {
        Some(failure) => print_failure(printer, failure, progress),
        None if deploy.status == DeployStatus::Cancelled => {
            printer.message(format!("{error} the deploy was cancelled"))
        }
        None => printer.message(format!("{error} the deploy failed")),
    }
    if deploy.serving.is_some() {
        printer.note(format!("{arrow} serving {serving}"));
    }
}

fn print_failure(printer: &Printer, failure: &DeployFailure, progress: &Progress<'_>) {
    let phase = failure.phase;
    let error = printer.on_stderr(Look::Red, "error:");
    printer.message(format!("{error} {phase}: {}", clean(&failure.message)));
    // What was just shown as it happened is not shown again.
    if progress.logged(failure.phase) < failure.log_tail.len() {
        for line in &failure.log_tail {
            printer.message(format!("       {}", clean(line)).trim_end());
        }
    }
    if let Some(hint) = &failure.hint {
        printer.hint(hint);
    }
}

/// Tells how to go on with a deploy that td leaves alone.
pub fn print_running(printer: &Printer, deploy: Uuid, why: &str) {
    printer.message(format!(
        "{why}: the deploy goes on\n  follow it: td deploy log {deploy}\n  stop it:   td deploy cancel {deploy}"
    ));
}

/// Tells how to decide about a release that is on trial.
pub fn print_trial(printer: &Printer, deploy: Uuid) {
    printer.message(format!(
        "the new release is on trial\n  let it serve everybody: td deploy promote {deploy}\n  take it back:           td deploy abort {deploy}"
    ));
}
