//! `td cert set`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use magrathea_core::api::SetCertificate;
use serde_json::Value;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The name that `routing.tls` refers to
    name: String,
    /// The certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let body = SetCertificate { chain: read(&arguments.chain)?, key: read(&arguments.key)? };
    let stored: Value = context.client()?.put(&["certificates", &arguments.name], &body).await?;
    context.done(&stored);
    let name = &arguments.name;
    context
        .printer
        .note(format!("set the certificate {name}; apps with `routing: {{tls: {name}}}` take it within five minutes"));
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?)
}
