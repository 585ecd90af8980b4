//! Cuts what a program says into lines of bounded length and number. Pure.

/// A longer line is cut.
const MOST_LINE: usize = 4 << 10;
/// After so many bytes only the end is kept.
const MOST_TOTAL: usize = 8 << 20;
/// So many last lines are remembered.
const TAIL: usize = 30;

/// Collects bytes and gives lines away.
#[derive(Debug, Default)]
pub struct Lines {
    open: Vec<u8>,
    total: usize,
    tail: std::collections::VecDeque<String>,
}

impl Lines {
    /// Takes bytes; hands on the lines that they complete.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' {
                self.close(&mut line);
            } else if self.open.len() < MOST_LINE {
                self.open.push(byte);
            }
        }
    }

    /// Hands on an unfinished last line.
    pub fn finish(&mut self, mut line: impl FnMut(String)) {
        if !self.open.is_empty() {
            self.close(&mut line);
        }
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    fn close(&mut self, line: &mut impl FnMut(String)) {
        // A progress bar draws over itself: what stands at the end is what a terminal shows.
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end_matches('\r').to_owned();
        let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        let before = self.total;
        self.total += text.len() + 1;
        if self.total <= MOST_TOTAL {
            line(text);
        } else if before <= MOST_TOTAL {
            line(format!("[the log is longer than {} MiB; the rest is not shown]", MOST_TOTAL >> 20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_bounded() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.push(b"one\r\ntw", |line| seen.push(line));
        lines.push(b"o\n10%\r100%\nend", |line| seen.push(line));
        lines.finish(|line| seen.push(line));
        assert_eq!(seen, ["one", "two", "100%", "end"]);
        assert_eq!(lines.tail(), seen);

        let mut lines = Lines::default();
        let mut count = 0;
        for _ in 0..3000 {
            lines.push(&[b'x'; 5000], |_| ());
            lines.push(b"\n", |line| {
                assert!(line.len() <= MOST_LINE);
                count += 1;
            });
        }
        assert!(count < 2100, "{count}");
        assert_eq!(lines.tail().len(), TAIL);
    }
}
