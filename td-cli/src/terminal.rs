//! The person's terminal: its size, and its raw mode, which ends with the value that holds it.

use std::io::{IsTerminal, stdin, stdout};

use magrathea_core::wire::{Size, Tty};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::settings;

/// The terminal that td runs on, when both its input and its output are one.
pub fn tty() -> Option<Tty> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return None;
    }
    Some(Tty { term: settings::terminal_kind(), size: size()? })
}

/// The terminal's size now.
pub fn size() -> Option<Size> {
    let size = tcgetwinsize(stdout()).ok()?;
    Some(Size { cols: size.ws_col, rows: size.ws_row })
}

/// A terminal whose every key goes to the other side; dropped, it is as it was.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Finds `~.` at the start of a line, with which one leaves a session that hangs, as in OpenSSH.
#[derive(Debug, Default)]
pub struct Escape {
    seen: Seen,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Seen {
    #[default]
    LineStart,
    Tilde,
    Other,
}

impl Escape {
    /// Whether these keys complete it.
    pub fn is_in(&mut self, keys: &[u8]) -> bool {
        keys.iter().any(|key| {
            let found = self.seen == Seen::Tilde && *key == b'.';
            self.seen = match (self.seen, key) {
                (_, b'\r' | b'\n') => Seen::LineStart,
                (Seen::LineStart, b'~') => Seen::Tilde,
                _ => Seen::Other,
            };
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leaves_at_the_start_of_a_line_alone() {
        for (keys, leaves) in [
            (&["~."][..], true),
            (&["ls\r", "~", "."], true),
            (&["ls ~."], false),
            (&["~/.bashrc"], false),
            (&["~~."], false),
        ] {
            let mut escape = Escape::default();
            assert_eq!(keys.iter().any(|keys| escape.is_in(keys.as_bytes())), leaves, "{keys:?}");
        }
    }
}
