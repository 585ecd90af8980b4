//! What is wrong with a text that somebody wrote: file, line, column, snippet, and how to mend it.

use serde::{Deserialize, Serialize};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as the user named it.
    pub file: String,
    /// From 1; 0 when the finding is about the whole file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Where in the document, as in `labels.production.app_layer.replicas`.
    pub path: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// The line itself.
    pub snippet: Option<String>,
}

/// How grave a finding is; only errors stop anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// All findings about a text, in the order in which they stand in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }
}

impl std::error::Error for Diagnostics {}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, d) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            let word = match d.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(f, "{word}: {}", d.message)?;
            if d.line > 0 {
                writeln!(f, "  --> {}:{}:{}", d.file, d.line, d.column)?;
            } else {
                writeln!(f, "  --> {}", d.file)?;
            }
            if let Some(snippet) = &d.snippet {
                let number = d.line.to_string();
                let pad = " ".repeat(number.len());
                writeln!(f, " {pad} |")?;
                writeln!(f, " {number} | {snippet}")?;
                writeln!(f, " {pad} | {}^", " ".repeat(d.column.saturating_sub(1)))?;
            }
            if let Some(hint) = &d.hint {
                writeln!(f, "  hint: {hint}")?;
            }
        }
        Ok(())
    }
}
