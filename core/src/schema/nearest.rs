//! What somebody who mistyped a word most likely meant.

/// The candidate that a mistyped `text` most likely means.
pub(crate) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let distance = |candidate: &str| strsim::osa_distance(&text.to_lowercase(), candidate);
    let best = candidates.into_iter().map(|c| (distance(c), c)).min()?;
    let far = best.0 > best.1.len().div_ceil(3);
    let extends = text.len() > 2 && (best.1.starts_with(text) || text.starts_with(best.1));
    (!far || extends).then_some(best.1)
}
