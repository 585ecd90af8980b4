//! Where to go on in every source at once: what a reader keeps and brings back.

use std::collections::BTreeMap;

use magrathea_core::logs::Cursor;

/// Most sources that a text may name.
const MOST: usize = 256;

/// Cursors by the source's name; as a text `node1=12:345,node2=3:0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Cursor>);

impl Places {
    pub fn get(&self, source: &str) -> Option<Cursor> {
        self.0.get(source).copied()
    }

    pub fn set(&mut self, source: &str, cursor: Cursor) {
        self.0.insert(source.to_owned(), cursor);
    }
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (source, cursor)) in self.0.iter().enumerate() {
            write!(f, "{}{source}={cursor}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Places {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a place in a log");
        let mut places = Places::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (source, cursor) = part.split_once('=').ok_or_else(bad)?;
            if places.0.len() == MOST {
                return Err(bad());
            }
            places.set(source, cursor.parse().map_err(|_| bad())?);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_they_are_written() {
        for text in ["", "node1=1:2", "build=5:6,node1=1:2"] {
            assert_eq!(text.parse::<Places>().unwrap().to_string(), text);
        }
        for bad in ["x", "a=b", "a=1:2,=", "a=1:2;b=1:2"] {
            assert!(bad.parse::<Places>().is_err(), "{bad:?}");
        }
    }
}
