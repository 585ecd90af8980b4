//! One entry of an archive: which paths, links and types are taken. Pure; knows nothing of streams.

use super::limits::Limits;

/// Why an entry, or the whole archive, is refused.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("{path:?} {reason}")]
    Entry { path: String, reason: String, hint: &'static str },
    #[error("the archive {what} its limit of {limit}")]
    Limit { what: &'static str, limit: String, hint: &'static str },
    #[error("the archive cannot be read: {0}")]
    Unreadable(String),
    #[error("the archive holds no file")]
    Empty,
    /// The gateway's own disk failed.
    #[error("the archive cannot be stored")]
    Store(#[source] std::io::Error),
}

impl IntakeError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            IntakeError::Entry { hint, .. } | IntakeError::Limit { hint, .. } => Some((*hint).to_owned()),
            IntakeError::Unreadable(_) => Some("send a tar archive compressed with zstd".into()),
            IntakeError::Empty => Some("commit a file first, or deploy the working tree with --dirty".into()),
            IntakeError::Store(_) => None,
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Symlink,
}

fn refuse<T>(path: &str, reason: impl Into<String>, hint: &'static str) -> Result<T, IntakeError> {
    let path = path.chars().take(200).collect();
    Err(IntakeError::Entry { path, reason: reason.into(), hint })
}

/// The entry's path without `./`, doubled slashes and a slash at the end; none for the root itself.
pub fn clean_path(raw: &[u8], limits: &Limits) -> Result<Option<String>, IntakeError> {
    let Ok(path) = std::str::from_utf8(raw) else {
        return refuse(&String::from_utf8_lossy(raw), "is not a UTF-8 name", "rename the file");
    };
    if path.chars().any(char::is_control) {
        return refuse(path, "holds a control character", "rename the file");
    }
    if path.starts_with('/') {
        return refuse(path, "is an absolute path", "make the archive from inside the app's folder");
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return refuse(path, "leaves the app's folder", "make the archive from inside the app's folder");
        }
        if part.len() > limits.component {
            let reason = format!("has a component longer than the limit of {} bytes", limits.component);
            return refuse(path, reason, "shorten the name");
        }
        if !clean.is_empty() {
            clean.push('/');
        }
        clean.push_str(part);
    }
    if clean.len() > limits.path {
        return refuse(path, format!("is longer than the limit of {} bytes", limits.path), "shorten the path");
    }
    Ok((!clean.is_empty()).then_some(clean))
}

/// Whether the path belongs to a version control folder, which never becomes part of a release.
pub fn is_ignored(path: &str) -> bool {
    path.split('/').any(|part| part == ".git")
}

/// Checks where a symbolic link at `path` points. `..` is taken only at the target's beginning: there it climbs real
/// folders, so that the check holds whatever other links the archive has.
pub fn check_symlink(path: &str, raw: &[u8], limits: &Limits) -> Result<String, IntakeError> {
    let hint = "point the link to a path inside the app's folder, relative to the link";
    let Ok(target) = std::str::from_utf8(raw) else {
        return refuse(path, "is a link to a name that is not UTF-8", hint);
    };
    if target.is_empty() || target.chars().any(char::is_control) || target.len() > limits.path {
        return refuse(path, "is a link to an unusable name", hint);
    }
    if target.starts_with('/') {
        return refuse(path, format!("is a link to the absolute path {target:?}"), hint);
    }
    let mut climbs = 0;
    let mut descended = false;
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if descended => {
                return refuse(path, format!("is a link to {target:?}, with `..` inside it"), hint);
            }
            ".." => climbs += 1,
            _ => descended = true,
        }
    }
    if climbs > path.matches('/').count() {
        return refuse(path, format!("is a link to {target:?}, outside the app's folder"), hint);
    }
    Ok(target.to_owned())
}

/// The paths seen so far. An entry may not stand where another already does, nor below anything but a folder, so
/// that nothing is ever written through a link.
#[derive(Debug, Default)]
pub struct Seen(std::collections::HashMap<String, Kind>);

impl Seen {
    /// Notes an entry. False when it is a folder that is known already.
    pub fn note(&mut self, path: &str, kind: Kind) -> Result<bool, IntakeError> {
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            match self.0.get(parent) {
                None => {
                    self.0.insert(parent.to_owned(), Kind::Folder);
                }
                Some(Kind::Folder) => {}
                Some(_) => {
                    let reason = format!("stands below {parent:?}, which is not a folder");
                    return refuse(path, reason, "make the archive anew, without duplicate entries");
                }
            }
        }
        match (self.0.get(path), kind) {
            (None, _) => {
                self.0.insert(path.to_owned(), kind);
                Ok(true)
            }
            (Some(Kind::Folder), Kind::Folder) => Ok(false),
            (Some(_), _) => {
                refuse(path, "stands in the archive twice", "make the archive anew, without duplicate entries")
            }
        }
    }

    /// Checks that a hard link's target is a file that came before it.
    pub fn check_hard_link(&self, path: &str, target: Option<&str>) -> Result<(), IntakeError> {
        match target.and_then(|target| self.0.get(target)) {
            Some(Kind::File) => Ok(()),
            _ => refuse(path, "is a hard link to something outside the archive", "send the file itself"),
        }
    }
}

/// Refuses an entry that is no file, folder or link.
pub fn refuse_type(path: &str, kind: tar::EntryType) -> IntakeError {
    let what = match kind {
        tar::EntryType::Fifo => "is a named pipe",
        tar::EntryType::Char | tar::EntryType::Block => "is a device",
        tar::EntryType::GNUSparse => "is stored as a sparse file",
        _ => "is neither a file, a folder nor a link",
    };
    IntakeError::Entry {
        path: path.chars().take(200).collect(),
        reason: what.into(),
        hint: "leave it out of the archive, or add it to .gitignore",
    }
}
