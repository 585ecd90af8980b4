//! A text from outside, made fit for a terminal: whatever could move its cursor, change its colours, or turn the order
//! of its letters is shown as what it is.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with control characters, and characters that change the direction of writing, spelt out as in `\x1b`. Tabs
/// stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_harmless(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 0x100 => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal shows the character and does nothing else with it.
pub fn is_harmless(c: char) -> bool {
    match c {
        '\t' => true,
        // Explicit directional formatting, isolates and marks; line and paragraph separators.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        // Invisible, and of use to hide a text in another.
        '\u{feff}' | '\u{e0000}'..='\u{e007f}' => false,
        c => !c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out() {
        for (text, expect) in [
            ("plain, grün 漢字\t|", "plain, grün 漢字\t|"),
            ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
            ("\u{9b}2J", "\\x9b2J"),
            ("a\rb\nc\x07\x7f\0", "a\\rb\\nc\\x07\\x7f\\x00"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
        ] {
            assert_eq!(shown(text), expect);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_acts_comes_through(text in any::<String>()) {
            prop_assert!(shown(&text).chars().all(is_harmless));
        }
    }
}
