//! Records as syslog messages: RFC 5424, framed by octet counting (RFC 6587, RFC 5425).

use std::fmt::Write;

use magrathea_core::logs::{LogRecord, LogStream, shown};

/// The facility `local0`.
const FACILITY: u8 = 16;

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Origin {
    pub app: String,
    pub label: String,
}

/// Appends a record as a frame.
pub fn push_frame(origin: &Origin, record: &LogRecord, out: &mut Vec<u8>) {
    let severity = match record.stream {
        Some(LogStream::Stderr) => 4,
        Some(LogStream::Notice) => 5,
        _ => 6,
    };
    let time = record.time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    let mut message = String::new();
    let process = record.replica.as_deref().map_or("-".into(), |replica| word(replica, 128));
    let host = word(&format!("{}.{}", origin.app, origin.label), 255);
    let _ = write!(
        message,
        "<{}>1 {time} {host} {} {process} {} - ",
        FACILITY * 8 + severity,
        word(&origin.app, 48),
        record.layer
    );
    message.push_str(&shown(&record.line()));
    out.extend_from_slice(format!("{} ", message.len()).as_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// Printable ASCII without spaces, as the header's fields must be.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if word.is_empty() { "-".into() } else { word }
}

#[cfg(test)]
mod tests {
    use magrathea_core::logs::LogLayer;

    use super::*;

    #[test]
    fn messages_are_as_the_rfc_has_them() {
        let origin = Origin { app: "blog".into(), label: "production".into() };
        let mut record = LogRecord::notice(jiff::Timestamp::UNIX_EPOCH, LogLayer::App, "grün\n<1> \x1b[31m");
        record.replica = Some("web 1".into());
        let mut out = Vec::new();
        push_frame(&origin, &record, &mut out);
        let text = "<133>1 1970-01-01T00:00:00.000000Z blog.production blog web_1 app - grün\\n<1> \\x1b[31m";
        assert_eq!(String::from_utf8(out).unwrap(), format!("{} {text}", text.len()));
    }
}
