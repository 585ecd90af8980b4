//! The real `td` against a gateway made of paper: what it prints, asks, sends, and exits with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop where it stands")]

mod commands;
mod deploy;
mod failures;
mod fixtures;
mod gateway;
mod offline;
mod source;
mod td;
