//! `td billing export`: a file is there as a whole, with the hash that was stored when the month was closed, or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use magrathea_core::billing::Month;
use reqwest::Response;
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// How long the gateway may be silent in the middle.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The month, as in 2026-11
    #[arg(long, value_name = "MONTH")]
    month: Month,
    #[arg(long, value_enum, default_value_t = Format::Focus)]
    format: Format,
    /// Of this organisation alone
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
    /// The file to write; else standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// FOCUS 1.2, the FinOps Open Cost and Usage Specification, in CSV
    Focus,
    /// A short table for people
    Csv,
    /// Everything that is stored
    Json,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Format::Focus => "focus",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let client = context.client()?;
    let month = arguments.month.to_string();
    let mut query = vec![("format".to_owned(), arguments.format.as_str().to_owned())];
    query.extend(arguments.org.iter().map(|org| ("organisation".to_owned(), org.clone())));
    let answer = client.stream(&["billing", "months", &month, "export"], &query).await;
    let response = answer.map_err(|error| client.unreachable(&error))??;
    match &arguments.output {
        Some(path) => {
            let bytes = write_file(&client, response, path).await?;
            let size = crate::human::size(bytes);
            context.printer.note(format!("wrote {month} to {} ({size})", path.display()));
        }
        None => {
            copy(&client, response, &mut std::io::stdout().lock()).await?;
        }
    }
    Ok(Exit::Done)
}

async fn write_file(client: &Client, response: Response, path: &Path) -> Result<u64, Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    let bytes = copy(client, response, file.as_file_mut()).await?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(bytes)
}

/// Copies the body and compares its hash.
async fn copy(client: &Client, mut response: Response, out: &mut impl Write) -> Result<u64, Failure> {
    let expected = response.headers().get("x-magrathea-sha256").and_then(|hash| hash.to_str().ok()).map(str::to_owned);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        let silent = |_| Failure::say(Exit::Unreachable, "the gateway fell silent in the middle of the export");
        let broken = |error: reqwest::Error| {
            let hint = "its log says why; nothing of it should be used";
            client.unreachable(&error).hint(hint)
        };
        let Some(chunk) = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(silent)?.map_err(broken)?
        else {
            break;
        };
        hash.update(&chunk);
        bytes += chunk.len() as u64;
        out.write_all(&chunk).context("the export cannot be written")?;
    }
    out.flush().context("the export cannot be written")?;
    let hash = hex::encode(hash.finalize());
    if expected.is_some_and(|expected| expected != hash) {
        return Err(Failure::say(Exit::Failed, "the export is not what it was when the month was closed")
            .hint("ask for it again; if it stays so, the gateway's store was changed by hand"));
    }
    Ok(bytes)
}
