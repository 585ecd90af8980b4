//! The real `td` against a gateway made of paper: what it prints, asks, sends, and exits with.

mod commands;
mod deploy;
mod failures;
mod fixtures;
mod gateway;
mod offline;
mod source;
mod td;
