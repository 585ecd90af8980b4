//! The `.env` form of values: `KEY="value"`, one a line. What [`print()`] writes, [`parse`] reads back to the same values;
//! nothing is ever expanded.

use std::collections::BTreeMap;

/// Why a text is not of this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DotenvError {
    pub line: usize,
    pub reason: &'static str,
}

/// One line each, values in double quotes with `\n`, `\"`, `\\` and `\$` escaped, so that a shell reads them alike.
pub fn print(values: &BTreeMap<String, String>) -> String {
    values.iter().map(|(key, value)| format!("{key}=\"{}\"\n", escape(value))).collect()
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' | '`' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// Reads `KEY=value` lines; values may stand in single quotes (taken as they are) or double quotes (with escapes). Empty
/// lines, `# comments` and a leading `export` are passed over. Of two values of a key the last counts.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, DotenvError> {
    let mut values = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let fail = |reason| DotenvError { line: n + 1, reason };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').ok_or_else(|| fail("there is no `=`"))?;
        let key = key.trim();
        if !is_key(key) {
            return Err(fail("a key starts with a letter or _, and has letters, digits and _ alone"));
        }
        values.insert(key.to_owned(), unquote(value.trim()).map_err(fail)?);
    }
    Ok(values)
}

/// Whether a text can name a value: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn unquote(value: &str) -> Result<String, &'static str> {
    if let Some(rest) = value.strip_prefix('\'') {
        let (inner, after) = rest.split_once('\'').ok_or("the single quote does not end on its line")?;
        return if is_comment(after) { Ok(inner.to_owned()) } else { Err("something follows the closing quote") };
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Ok(value.split_once(" #").map_or(value, |(value, _)| value.trim_end()).to_owned());
    };
    let mut out = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next().ok_or("the double quote does not end on its line; write line ends as \\n")? {
            '"' => break,
            '\\' => out.push(match chars.next().ok_or("a backslash stands at the end")? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            c => out.push(c),
        }
    }
    if is_comment(chars.as_str()) { Ok(out) } else { Err("something follows the closing quote") }
}

fn is_comment(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_people_write_are_read() {
        for (text, expect) in [
            ("A=1", Ok("1")),
            ("export A = two words # a comment", Ok("two words")),
            ("A='it is $HOME'", Ok("it is $HOME")),
            ("A=\"line\\nline \\\"x\\\" \\$y\" # z", Ok("line\nline \"x\" $y")),
            ("A=", Ok("")),
            ("A=a#b", Ok("a#b")),
            ("\n# nothing\nA=1\nA=2\n", Ok("2")),
            ("A", Err("line 1: there is no `=`")),
            ("\n1A=x", Err("line 2: a key starts with a letter or _, and has letters, digits and _ alone")),
            ("A='x", Err("line 1: the single quote does not end on its line")),
            ("A=\"x\" y", Err("line 1: something follows the closing quote")),
        ] {
            let read = parse(text).map(|values| values["A"].clone()).map_err(|error| error.to_string());
            assert_eq!(read, expect.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(values in proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[^\0]{0,40}", 0..6)) {
            prop_assert_eq!(parse(&print(&values)).unwrap(), values);
        }
    }
}
