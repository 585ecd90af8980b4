//! The one place that writes to the terminal: data to stdout, everything else to stderr.
//!
//! Write errors are dropped: a closed pipe (`td app list | head -1`) is no failure, and there is nobody left to tell.

use std::borrow::Cow;
use std::io::Write;

use magrathea_core::diagnostics::Diagnostics;
use serde::Serialize;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::settings::Terminal;

/// Writes to the terminal.
#[derive(Debug, Clone)]
pub struct Printer {
    terminal: Terminal,
    quiet: bool,
}

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
}

impl Printer {
    pub fn new(terminal: &Terminal, quiet: bool) -> Self {
        Printer { terminal: *terminal, quiet }
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether progress may be drawn and redrawn on stderr.
    pub fn is_live(&self) -> bool {
        self.terminal.stderr_live && !self.quiet
    }

    /// A line of data.
    pub fn data(&self, line: impl AsRef<str>) {
        let _ = writeln!(std::io::stdout().lock(), "{}", line.as_ref());
    }

    /// Lines of data that bear their own ends. Says whether anybody took them: what goes on for ever must not go on for
    /// nobody.
    pub fn raw(&self, lines: &str) -> bool {
        std::io::stdout().lock().write_all(lines.as_bytes()).is_ok()
    }

    /// A line that tells what happened; silent when quiet.
    pub fn note(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.message(line);
        }
    }

    /// A line on stderr that even the quiet see.
    pub fn message(&self, line: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
    }

    pub fn warning(&self, text: &str) {
        self.message(format!("{} {}", self.on_stderr(Look::Yellow, "warning:"), clean(text)));
    }

    /// Asks on stderr; what is typed follows on the same line.
    pub fn question(&self, text: &str) {
        let _ = write!(std::io::stderr().lock(), "{text} ");
        let _ = std::io::stderr().flush();
    }

    /// Data as JSON, indented.
    pub fn json(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string_pretty(value) {
            self.data(text);
        }
    }

    /// Data as one line of JSON.
    pub fn json_line(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.data(text);
        }
    }

    /// What went wrong, why, and how to mend it.
    pub fn failure(&self, failure: &Failure) {
        if let Some(diagnostics) = &failure.diagnostics {
            self.diagnostics(diagnostics);
        }
        let error = self.on_stderr(Look::Red, "error:");
        self.message(format!("{error} {}", clean(&failure.error.to_string())));
        for cause in failure.error.chain().skip(1) {
            self.message(format!("  caused by: {}", clean(&cause.to_string())));
        }
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
        if let Some(request) = failure.request.as_ref().filter(|_| failure.exit != Exit::Usage) {
            self.message(self.on_stderr(Look::Dim, &format!("request: {}", clean(request))));
        }
    }

    /// The same for programs: the last line on stderr, since stdout is for what was asked for.
    pub fn failure_json(&self, failure: &Failure) {
        let causes: Vec<_> = failure.error.chain().skip(1).map(ToString::to_string).collect();
        let error = json!({
            "exit": failure.exit.code(),
            "code": failure.code,
            "message": failure.error.to_string(),
            "causes": causes,
            "hint": failure.hint,
            "request": failure.request,
            "diagnostics": failure.diagnostics,
        });
        self.message(json!({ "error": error }).to_string());
    }

    pub fn hint(&self, hint: &str) {
        self.message(format!("{} {}", self.on_stderr(Look::Green, "hint:"), clean(hint)));
    }

    /// Findings, with their severities coloured.
    pub fn diagnostics(&self, diagnostics: &Diagnostics) {
        for line in clean(&diagnostics.to_string()).lines() {
            let (word, look) = match line.split_once(':') {
                Some((word @ "error", _)) => (word, Look::Red),
                Some((word @ "warning", _)) => (word, Look::Yellow),
                _ => ("", Look::Bold),
            };
            let rest = line.get(word.len()..).unwrap_or_default();
            self.message(format!("{}{rest}", self.on_stderr(look, word)));
        }
    }

    /// A piece of text for stdout.
    pub fn on_stdout<'a>(&self, look: Look, text: &'a str) -> Cow<'a, str> {
        paint(self.terminal.stdout_colour, look, text)
    }

    /// A piece of text for stderr.
    pub fn on_stderr<'a>(&self, look: Look, text: &'a str) -> Cow<'a, str> {
        paint(self.terminal.stderr_colour, look, text)
    }
}

fn paint(enabled: bool, look: Look, text: &str) -> Cow<'_, str> {
    if !enabled || text.is_empty() {
        return Cow::Borrowed(text);
    }
    let code = match look {
        Look::Bold => "1",
        Look::Dim => "2",
        Look::Red => "1;31",
        Look::Green => "32",
        Look::Yellow => "33",
        Look::Blue => "34",
        Look::Magenta => "35",
        Look::Cyan => "36",
    };
    Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
}

/// A text from elsewhere without escape sequences and control characters, so that a build log or a commit message
/// cannot drive the reader's terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            skip_escape(&mut rest);
        } else if harmless(c) {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Skips what follows ESC: a control sequence up to its final byte, or an operating system command up to its end.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {},
        Some(']') => while rest.next_if(|c| !matches!(c, '\x07' | '\x1b')).is_some() {},
        _ => return,
    }
    rest.next();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_driven_from_elsewhere() {
        for (text, shown) in [
            ("plain ✓\tline", "plain ✓\tline"),
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\rb\x08c\u{9b}2J", "abc2J"),
            ("cut \x1b[3", "cut "),
            ("\x1b", ""),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
    }
}
