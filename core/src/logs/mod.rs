//! Log lines: what one looks like, which of them somebody wants, and how a foreign text is shown without harm.

mod record;
mod select;
mod show;

pub use record::{Access, Cache, LogLayer, LogRecord, LogStream, Mark};
pub use select::{Cursor, GrepError, LogFilter, LogQuery, Matcher, Values};
pub use show::{is_harmless, shown};
