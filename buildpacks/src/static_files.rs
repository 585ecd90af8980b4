//! The `static` pack: files as they are.

use crate::{Packed, ROOTS, Tree};

const INDEX: [&str; 2] = ["index.html", "index.htm"];

/// The served folder of a tree of files.
pub(crate) fn detect(tree: &Tree) -> Option<&'static str> {
    ROOTS.into_iter().find(|root| INDEX.iter().any(|index| tree.has_in(root, index)))
}

pub(crate) fn pack(tree: &Tree) -> Packed {
    let root = detect(tree);
    let reason = match root {
        Some(".") => "an index file found".into(),
        Some(root) => format!("an index file found in {root}"),
        None => "named in magrathea.yml".into(),
    };
    Packed { reason, root: root.unwrap_or(".").into(), ..Packed::default() }
}
