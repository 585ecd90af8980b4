//! How two releases of an instance differ: in their sources, their settings, the app's values, and in what the layers were
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use git2::Patch;
use magrathea_core::api::{ReleaseDiff, SettingDifference, TextDifference, compare};
use magrathea_core::manifest::Resolved;
use magrathea_core::names::ReleaseNumber;

use super::intake;
use super::layout::rendered;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::releases::Configured;
use crate::db::{config_values, plans, releases};
use crate::state::State;

/// One release, with all that is compared.
struct Side {
    configured: Configured,
    files: Option<BTreeMap<String, String>>,
    values: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
}

pub async fn diff_releases(
    state: &Arc<State>,
    instance: &Instance,
    (from, to): (ReleaseNumber, ReleaseNumber),
) -> Result<ReleaseDiff, ApiError> {
    let (before, after) = tokio::try_join!(load(state, instance, from), load(state, instance, to))?;
    Ok(ReleaseDiff {
        from,
        to,
        files: before.files.as_ref().zip(after.files.as_ref()).map(|(before, after)| compare(before, after)),
        settings: settings(&before.configured.resolved, &after.configured.resolved),
        values: compare(&before.values, &after.values),
        rendered: diff_texts(&renumbered(before.texts, from, to), &after.texts)?,
    })
}

async fn load(state: &Arc<State>, instance: &Instance, number: ReleaseNumber) -> Result<Side, ApiError> {
    let conn = state.db.conn().await?;
    let none = || {
        let message = format!("{} ({}) has no release {number}", instance.app_name, instance.label);
        ApiError::new(Code::ReleaseNotFound, message).with_hint("td release list shows which there are")
    };
    let configured = releases::load_configured(&conn, instance.id, number).await?.ok_or_else(none)?;
    let source = releases::load_source(&conn, instance.id, number).await?.ok_or_else(none)?;
    let plan = plans::load_plan(&conn, instance.id, number).await?;
    let version = Some(configured.config_version);
    let values = config_values::load_values(&conn, &state.seal, instance.app, &instance.label, version).await?;
    drop(conn);
    let files = intake::list_files(intake::blob_path(&state.blobs(), &source)).await;
    let files = files.context("reading a release's source")?;
    Ok(Side { configured, files, values, texts: plan.as_ref().map(rendered).unwrap_or_default() })
}

fn settings(before: &Resolved, after: &Resolved) -> Vec<SettingDifference> {
    let by_path = |resolved: &Resolved| -> BTreeMap<String, String> {
        let set = resolved.values().into_iter().filter(|(_, value, _)| value != "-");
        set.map(|(path, value, _)| (path, value)).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    let differing = compare(&before, &after).into_iter();
    differing
        .map(|differing| SettingDifference {
            from: before.get(&differing.name).cloned(),
            to: after.get(&differing.name).cloned(),
            path: differing.name,
        })
        .collect()
}

/// The texts of one release as if it had the other's number, which says nothing.
fn renumbered(texts: BTreeMap<String, String>, from: ReleaseNumber, to: ReleaseNumber) -> BTreeMap<String, String> {
    texts.into_iter().map(|(name, text)| (name, renumber(&text, &from.to_string(), &to.to_string()))).collect()
}

/// Replaces a word that stands alone or at the end of a name, as in `web-v12`.
fn renumber(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(from) {
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let whole = !is_word(before.chars().next_back()) && !is_word(after.chars().next());
        out.push_str(before);
        out.push_str(if whole { to } else { from });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How texts with names differ.
pub fn diff_texts(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<Vec<TextDifference>, ApiError> {
    texts(before, after).map_err(ApiError::internal)
}

fn texts(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<Vec<TextDifference>, git2::Error> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut all = Vec::new();
    for name in names {
        let side = |texts: &BTreeMap<String, String>| texts.get(name).cloned().unwrap_or_default();
        let (old, new) = (side(before), side(after));
        if old == new {
            continue;
        }
        let path = Some(std::path::Path::new(name));
        let mut patch = Patch::from_buffers(old.as_bytes(), path, new.as_bytes(), path, None)?;
        let text = String::from_utf8_lossy(&patch.to_buf()?).into_owned();
        // Git's own header names blobs that nobody can look up.
        let hunks = text.split_inclusive('\n').skip_while(|line| !line.starts_with("@@"));
        all.push(TextDifference { name: name.clone(), diff: hunks.collect() });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_no_difference() {
        assert_eq!(renumber("use i0-web-v1\nv1 v12 av1 v1x (v1)", "v1", "v3"), "use i0-web-v3\nv3 v12 av1 v1x (v3)");
        let texts_of = |text: &str| BTreeMap::from([("routing/route".to_owned(), text.to_owned())]);
        let before = renumbered(texts_of("server i0-web-v1\nmaxconn 10\n"), ReleaseNumber(1), ReleaseNumber(2));
        assert_eq!(texts(&before, &texts_of("server i0-web-v2\nmaxconn 10\n")).unwrap(), []);
        let changed = texts(&before, &texts_of("server i0-web-v2\nmaxconn 20\n")).unwrap();
        assert_eq!(changed[0].diff, "@@ -1,2 +1,2 @@\n server i0-web-v2\n-maxconn 10\n+maxconn 20\n");
    }
}
