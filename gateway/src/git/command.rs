//! How git is run: with an environment of its own, and a configuration that no repository, person or machine changes.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::config;

/// The configuration in force; what a repository's own file says is overruled.
const SETTINGS: &[(&str, &str)] = &[
    // What comes in is checked before anything refers to it. Old tools' harmless slips are let pass.
    ("transfer.fsckObjects", "true"),
    ("receive.fsck.badTimezone", "ignore"),
    ("receive.fsck.missingSpaceBeforeDate", "ignore"),
    ("receive.fsck.missingEmail", "ignore"),
    ("receive.fsck.zeroPaddedFilemode", "ignore"),
    // Machines that build push from shallow clones as a rule.
    ("receive.shallowUpdate", "true"),
    // The gateway says when repositories are tidied.
    ("receive.autogc", "false"),
    ("gc.autoDetach", "false"),
    ("receive.denyDeleteCurrent", "refuse"),
    ("receive.keepAlive", "5"),
    ("uploadpack.keepAlive", "5"),
    ("uploadpack.allowFilter", "true"),
    // A rewritten branch can be brought back.
    ("core.logAllRefUpdates", "true"),
    // A reference that was promised is on the disk.
    ("core.fsync", "committed,reference"),
    ("core.fsyncMethod", "batch"),
    // Memory is bounded whatever is pushed or cloned.
    ("core.bigFileThreshold", "32m"),
    ("pack.threads", "1"),
    ("pack.windowMemory", "64m"),
    ("pack.deltaCacheSize", "64m"),
    ("core.fsmonitor", "false"),
    ("protocol.allow", "never"),
];

/// A git that is about to be run in a repository. Its process group is its own, so that all of it can be ended.
pub fn git(base: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(base).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_clear().env("PATH", config::search_path()).env("LC_ALL", "C").env("HOME", base.join("home"));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_NO_REPLACE_OBJECTS", "1");
    let hooks = base.join("hooks");
    let all = SETTINGS.iter().map(|(key, value)| (*key, value.as_ref())).chain([("core.hooksPath", hooks.as_os_str())]);
    let mut count = 0;
    for (key, value) in all {
        command.env(format!("GIT_CONFIG_KEY_{count}"), key).env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
    command
}
