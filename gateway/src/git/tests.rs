//! Pushes and clones with the real git over HTTPS, on a real PostgreSQL, against an agent that keeps its world in memory.

mod forge;
mod limits;
mod meaning;
mod people;
mod pushes;
mod survival;

use clap::Parser;

use crate::config::{Cli, Command};

/// Not a test: what git runs as the hook of the other tests' pushes.
#[test]
#[ignore = "run by git"]
fn acts_as_hook() {
    let cli = Cli::parse_from(["magrathea-gateway", "hook", "pre-receive"]);
    let Command::Hook(hook) = cli.command else { panic!("not a hook") };
    let accepted = super::hook::run(&hook) == std::process::ExitCode::SUCCESS;
    #[expect(clippy::disallowed_methods, reason = "a failed test would say more than a hook does")]
    std::process::exit(i32::from(!accepted));
}
