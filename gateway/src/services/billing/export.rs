//! The export of a closed month, page by page, so that its size does not matter. Its bytes are those of the first time: what
//! differs from the hash that was stored at the closing is broken off.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use magrathea_core::billing::{Format, Month, Statement};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::owners;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::billing;
use crate::state::State;

/// Rows that are read and sent at a time.
const PAGE: i64 = 2000;

/// What is to be sent.
pub struct Export {
    /// Of all its bytes; absent when it is not the whole month's.
    pub sha256: Option<String>,
    pages: Pages,
}

struct Pages {
    state: Arc<State>,
    statement: Statement,
    format: Format,
    owners: Option<Vec<Uuid>>,
    expected: Option<String>,
    hash: Sha256,
    /// Rows that were sent, and the number of the last.
    sent: usize,
    after: i32,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Over,
}

/// A closed month, as far as somebody may see it.
pub async fn export(
    state: &Arc<State>,
    actor: &Actor,
    month: Month,
    format: Format,
    organisation: Option<&str>,
) -> Result<Export, ApiError> {
    let conn = state.db.conn().await?;
    let owners = owners(&conn, actor, organisation).await?;
    let closed = billing::load_month(&conn, month).await?.ok_or_else(|| {
        ApiError::new(Code::MonthNotFound, format!("{month} is not closed"))
            .with_hint("td billing list shows those that are; td billing preview shows one that is not")
    })?;
    let expected = closed.sha256.get(format.as_str()).filter(|_| owners.is_none()).cloned();
    let (state, hash) = (Arc::clone(state), Sha256::new());
    let (sha256, statement) = (expected.clone(), closed.statement);
    let pages = Pages { state, statement, format, owners, expected, hash, sent: 0, after: 0, stage: Stage::Head };
    Ok(Export { sha256, pages })
}

impl Export {
    /// The bytes; an error breaks the answer off, so that nobody takes a part for the whole.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self.pages, async |mut pages: Pages| {
            let next = pages.next().await.map_err(|error| {
                tracing::error!(month = %pages.statement.month, error = format!("{error:#}"), "an export was broken off");
                io::Error::other(error)
            })?;
            Ok(next.map(|bytes| (bytes, pages)))
        })
    }
}

impl Pages {
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let text = match self.stage {
            Stage::Over => return Ok(None),
            Stage::Head => {
                self.stage = Stage::Rows;
                self.format.head(&self.statement)
            }
            Stage::Rows => self.rows().await?,
        };
        self.hash.update(&text);
        if self.stage == Stage::Over {
            let hash = hex::encode(std::mem::take(&mut self.hash).finalize());
            anyhow::ensure!(
                self.expected.as_ref().is_none_or(|expected| *expected == hash),
                "the export of {} is not what it was when the month was closed",
                self.statement.month
            );
        }
        Ok(Some(text.into()))
    }

    async fn rows(&mut self) -> anyhow::Result<String> {
        let conn = self.state.db.conn().await?;
        let month = self.statement.month;
        let rows = billing::list_charges(&conn, month, self.owners.as_deref(), (self.after, PAGE)).await?;
        let mut text = String::new();
        for (number, charge) in &rows {
            text.push_str(&self.format.row(&self.statement, self.sent, charge));
            self.sent += 1;
            self.after = *number;
        }
        if rows.is_empty() {
            self.stage = Stage::Over;
            text.push_str(self.format.tail());
        }
        Ok(text)
    }
}
