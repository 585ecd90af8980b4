//! Reads an app's own VCL word by word and refuses what would reach past its own instance: other backends, files,
//! C code, bans over everybody's objects, and the headers by which the router knows whose request it is.

use crate::LayerError;

/// Words that have no place in an app's VCL, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("include", "a file cannot be included; put everything into one"),
    ("backend", "backends belong to the platform; the only one is `app`"),
    ("probe", "health checks belong to the platform"),
    ("vcl", "another VCL cannot be named"),
    ("pipe", "connections are never piped; the router does not send what must be"),
    ("vcl_pipe", "connections are never piped; the router does not send what must be"),
    ("ban", "bans would be tried on every instance's objects"),
];

const MODULES: &[&str] = &["std", "cookie"];

/// The functions of vmod std that read nothing but their arguments.
const STD: &[&str] = &[
    "bytes",
    "collect",
    "duration",
    "fnmatch",
    "integer",
    "ip",
    "log",
    "querysort",
    "random",
    "real",
    "round",
    "strlen",
    "strstr",
    "time",
    "tolower",
    "toupper",
];

/// The text without its version line, ready to stand in the instance's VCL.
pub fn check_custom_vcl(key: &str, text: &str) -> Result<String, LayerError> {
    let refuse = |line: usize, why: String| Err(LayerError::new(key, format!("line {line}: {why}")));
    if text.contains('\0') || text.len() > 256 * 1024 {
        return refuse(1, "the file is larger than 256 KiB or not a text".into());
    }
    let words = split_words(text).map_err(|(line, why)| LayerError::new(key, format!("line {line}: {why}")))?;
    let mut rest = words.as_slice();
    let mut body = text;
    if let [first, version, end, tail @ ..] = rest
        && (first.text, end.text) == ("vcl", ";")
    {
        if !matches!(version.text, "4.0" | "4.1") {
            return refuse(version.line, format!("VCL {} is not known; write `vcl 4.1;`", version.text));
        }
        body = text.get(end.end..).unwrap_or_default();
        rest = tail;
    }
    for (n, word) in rest.iter().enumerate() {
        if word.text.to_ascii_lowercase().contains("x-magrathea") {
            return refuse(word.line, "X-Magrathea-* headers belong to the platform".into());
        }
        if word.string {
            continue;
        }
        if let Some((name, why)) = REFUSED.iter().find(|(name, _)| *name == word.text) {
            return refuse(word.line, format!("`{name}` is not allowed: {why}"));
        }
        let after = |offset: usize| rest.get(n + offset).map_or("", |word| word.text);
        if word.text == "import" && !(MODULES.contains(&after(1)) && after(2) == ";") {
            return refuse(word.line, format!("only these can be imported, by `import NAME;`: {}", MODULES.join(", ")));
        }
        let imported = n.checked_sub(1).and_then(|n| rest.get(n)).is_some_and(|word| word.text == "import");
        let function = word.text.strip_prefix("std").filter(|_| !imported);
        if let Some(function) = function
            && (function.is_empty() || function.starts_with('.') && !STD.contains(&function.trim_start_matches('.')))
        {
            return refuse(word.line, format!("`{}` is not allowed; there are: {}", word.text, STD.join(", ")));
        }
    }
    Ok(body.trim().to_owned())
}

struct Word<'a> {
    text: &'a str,
    line: usize,
    /// Where the text after it begins.
    end: usize,
    string: bool,
}

/// The words, strings and marks of a VCL text, without its comments. The kinds of strings and comments are those of
/// Varnish's `vcc_token.c`.
fn split_words(text: &str) -> Result<Vec<Word<'_>>, (usize, String)> {
    let mut words = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let closed = |open: usize, close: &str| {
            let body = rest.get(open..).and_then(|body| body.find(close));
            body.map(|found| open + found + close.len()).ok_or((line, format!("no {close:?} closes what begins here")))
        };
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let (length, string, keep) = if rest.starts_with("C{") {
            return Err((line, "C code is not allowed".into()));
        } else if rest.starts_with('#') || rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false, false)
        } else if rest.starts_with("/*") {
            (closed(2, "*/")?, false, false)
        } else if rest.starts_with("\"\"\"") {
            (closed(3, "\"\"\"")?, true, true)
        } else if rest.starts_with("{\"") {
            (closed(2, "\"}")?, true, true)
        } else if rest.starts_with('"') {
            let length = closed(1, "\"")?;
            if rest.get(..length).is_some_and(|string| string.contains('\n')) {
                return Err((line, "a string ends on its line; longer ones are written {\"…\"}".into()));
            }
            (length, true, true)
        } else if rest.starts_with(name) {
            (rest.find(|c| !name(c)).unwrap_or(rest.len()), false, true)
        } else {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            (first, false, !rest.starts_with(char::is_whitespace))
        };
        let piece = rest.get(..length).unwrap_or_default();
        if keep {
            words.push(Word { text: piece, line, end: at + length, string });
        }
        line += piece.matches('\n').count();
        at += length;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::check_custom_vcl;

    #[test]
    fn an_apps_own_vcl_cannot_leave_its_instance() {
        for (text, refused) in [
            ("vcl 4.1;\nsub vcl_recv { set req.url = \"/backend\"; }", None),
            ("import std;\nsub vcl_recv { std.log(\"include\"); set req.backend_hint = app; }", None),
            ("# backend x {}\n/* include \"/etc/passwd\"; */ sub vcl_deliver { unset resp.http.Server; }", None),
            ("backend other { .host = \"10.0.0.1\"; }", Some("`backend`")),
            ("vcl 4.1; backend other none;", Some("`backend`")),
            ("include \"/etc/passwd\";", Some("`include`")),
            ("import std from \"/app/evil.so\";", Some("imported")),
            ("import directors;", Some("imported")),
            ("import/**/std/**/as/**/x;", Some("imported")),
            ("sub vcl_recv { C{ system(\"id\"); }C }", Some("C code")),
            ("import std; sub vcl_recv { set req.http.X = std.fileread(\"/etc/passwd\"); }", Some("`std.fileread`")),
            ("import std; sub vcl_recv { set req.http.X = std . fileread(\"/etc/passwd\"); }", Some("`std`")),
            ("import std; sub vcl_recv { set req.http.X = std. fileread(\"/etc/passwd\"); }", Some("`std.`")),
            ("sub vcl_recv { set req.http.x-MAGRATHEA-Backend = \"other_a\"; }", Some("platform")),
            ("sub vcl_recv { set req.http.\"X-Magrathea-Backend\" = \"other_a\"; }", Some("platform")),
            ("sub vcl_recv { return (vcl(l_other)); }", Some("`vcl`")),
            ("vcl 4.1; vcl 4.1;", Some("`vcl`")),
            ("sub vcl_recv { return (pipe); }", Some("`pipe`")),
            ("sub vcl_recv { ban(\"req.url ~ .\"); }", Some("`ban`")),
            ("sub vcl_recv { set req.http.X = {\" \" ; }", Some("closes")),
            ("/* sub vcl_recv", Some("closes")),
        ] {
            match (check_custom_vcl("proxy.vcl", text), refused) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn the_version_line_is_left_out() {
        assert_eq!(check_custom_vcl("k", "# mine\nvcl 4.1;\n\nsub x {}\n").unwrap(), "sub x {}");
    }
}
