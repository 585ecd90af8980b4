//! Runs a program of the node (`nft`, `mount`, `btrfs`) and reads what it says.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::fail::{Doing, Outcome, node};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs it with nothing on its input; its output, or why it failed.
pub async fn run_program(program: &str, arguments: &[&str]) -> Outcome<String> {
    run_program_with(program, arguments, "").await
}

/// The same with a text on its input.
pub async fn run_program_with(program: &str, arguments: &[&str], input: &str) -> Outcome<String> {
    let doing = || format!("running {program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .doing(doing)?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program that ends without reading its input says why on its own.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(LIMIT, work).await {
        Ok(output) => output.doing(doing)?,
        Err(_) => return Err(node(format!("{}: no end after {} s", doing(), LIMIT.as_secs()))),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(node(format!("{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim())))
}
