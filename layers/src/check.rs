//! Decides which values of a manifest may stand in a rendered text. Each function names what it lets through; nothing
//! here mends a value, because a value that means something in the target's syntax is refused where it was written.

use crate::LayerError;

/// A path inside the repository, as in `web/uploads`, without a leading or trailing slash; `""` for the whole.
pub fn relative_path<'a>(key: &str, path: &'a str) -> Result<&'a str, LayerError> {
    let trimmed = path.trim_end_matches('/');
    let trimmed = trimmed.strip_prefix("./").unwrap_or(trimmed);
    if trimmed.is_empty() && !path.starts_with('/') || trimmed == "." {
        return Ok("");
    }
    let parts_fit = trimmed.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !parts_fit || !trimmed.chars().all(path_char) {
        return Err(LayerError::new(key, format!("{path:?} is not a path inside the repository"))
            .hint("write it relative, without `..`, out of letters, digits, space and . _ - + @ ~"));
    }
    Ok(trimmed)
}

/// The path of a URL, or a prefix of one, as in `/uploads`; without `..` and without characters that a server's
/// configuration reads as its own.
pub fn url_path<'a>(key: &str, path: &'a str) -> Result<&'a str, LayerError> {
    let fits = path.starts_with('/')
        && !path.contains("//")
        && path.split('/').all(|part| part != "." && part != "..")
        && path.chars().all(|c| c != ' ' && (path_char(c) || c == '/'));
    fits.then_some(path).ok_or_else(|| {
        LayerError::new(key, format!("{path:?} is not a URL path"))
            .hint("it starts with / and holds letters, digits and . _ - + @ ~ /")
    })
}

fn path_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@' | '~' | ' ' | '/')
}

/// A host name in lower case; with `*.` before it when it stands for all below it.
pub fn host<'a>(key: &str, name: &'a str) -> Result<&'a str, LayerError> {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if bare.len() <= 253 && bare.split('.').all(label) {
        return Ok(name);
    }
    Err(LayerError::new(key, format!("{name:?} is not a host name"))
        .hint("lower case, as in blog.example or *.blog.example; write international names in their xn-- form"))
}

/// The name of a response header.
pub fn header_name<'a>(key: &str, name: &'a str) -> Result<&'a str, LayerError> {
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !fits || name.to_ascii_lowercase().starts_with("x-magrathea") {
        return Err(LayerError::new(key, format!("{name:?} cannot be set as a response header"))
            .hint("letters, digits and hyphens; X-Magrathea-* belongs to the platform"));
    }
    Ok(name)
}

/// A header's value for between double quotes in Apache's configuration, where `%` begins a format.
pub fn header_value(key: &str, value: &str) -> Result<String, LayerError> {
    let fits = value.chars().all(|c| (' '..='~').contains(&c) && !matches!(c, '\\' | '$')) && value.len() <= 4096;
    if !fits {
        return Err(LayerError::new(key, "the header's value holds a character that is not allowed".to_owned())
            .hint("printable ASCII without backslash and dollar sign, on one line"));
    }
    Ok(value.replace('"', "\\\"").replace('%', "%%"))
}

/// The name of a cookie, which may end in `*`. Gives the part before the star and whether there was one.
pub fn cookie<'a>(key: &str, name: &'a str) -> Result<(&'a str, bool), LayerError> {
    let (stem, star) = name.strip_suffix('*').map_or((name, false), |stem| (stem, true));
    let fits = stem.len() <= 128 && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !fits || (stem.is_empty() && !star) {
        return Err(LayerError::new(key, format!("{name:?} is not a cookie's name"))
            .hint("letters, digits, _ - and ., with * at the end for all that begin so"));
    }
    Ok((stem, star))
}

/// An environment variable of the app's processes.
pub fn environment(key: &str, name: &str, value: &str) -> Result<(), LayerError> {
    let fits = name.bytes().next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    // Read by the dynamic linker and by bash before the entry point's first line.
    let early = name.starts_with("LD_") || matches!(name, "BASH_ENV" | "ENV" | "SHELLOPTS" | "BASHOPTS");
    if !fits || early || name.starts_with("MAGRATHEA_") || value.contains('\0') {
        return Err(LayerError::new(key, format!("{name:?} cannot be set here"))
            .hint("capital letters, digits and _; MAGRATHEA_*, LD_* and the shell's own are reserved"));
    }
    Ok(())
}
