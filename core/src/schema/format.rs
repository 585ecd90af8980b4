//! The formats of texts in configuration files: one table that the schema, the checks and the messages share.
//!
//! A marker type names its format in `#[schemars(with = "…")]`. Other validators ignore a `format` they do not know,
//! so most formats also have a pattern that editors understand.

use std::borrow::Cow;
use std::net::IpAddr;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::access::AccessEntry;
use crate::manifest::{WindowTime, check_schedule, find_zone};
use crate::names::{AppName, ClusterName, LabelName, NodeName, OrganisationName, ProcessName};
use crate::previews::LabelPattern;
use crate::units::{ByteSize, Percent, Span};

/// A text that is not of its format: what is wrong, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Completes a sentence that starts with the key, as in `wants a path inside the repository`.
    pub message: String,
    pub hint: Option<String>,
}

/// What a text of some kind looks like.
struct Format {
    name: &'static str,
    /// A regular expression; empty when only `check` knows.
    pattern: &'static str,
    /// Completes "wants …".
    wanted: &'static str,
    /// What the pattern cannot say, or can only say badly.
    check: fn(&str) -> Result<(), Misfit>,
}

impl Format {
    fn schema(&self) -> Schema {
        let mut schema = json_schema!({"type": "string", "format": self.name});
        if !self.pattern.is_empty() {
            schema.insert("pattern".into(), self.pattern.into());
            schema.insert("patternErrorMessage".into(), format!("wants {}", self.wanted).into());
        }
        schema
    }
}

/// The schema of a map's keys.
pub(crate) fn keys<T: JsonSchema>() -> Schema {
    T::json_schema(&mut SchemaGenerator::default())
}

/// Whether `text` is of the format called `name`; formats that are not ours accept everything.
pub(crate) fn check(name: &str, text: &str) -> Result<(), Misfit> {
    match name {
        "ip" => {
            return typed::<IpAddr>(text).map_err(|_| misfit(format!("wants an IPv4 or IPv6 address, not {text:?}")));
        }
        "size" => return typed::<ByteSize>(text).map_err(sentence),
        "duration" => return typed::<Span>(text).map_err(sentence),
        "percent" => return typed::<Percent>(text).map_err(sentence),
        "app-name" => return typed::<AppName>(text).map_err(sentence),
        "label-name" => return typed::<LabelName>(text).map_err(sentence),
        "cluster-name" => return typed::<ClusterName>(text).map_err(sentence),
        "organisation-name" => return typed::<OrganisationName>(text).map_err(sentence),
        "node-name" => return typed::<NodeName>(text).map_err(sentence),
        "process-name" => return typed::<ProcessName>(text).map_err(sentence),
        _ => {}
    }
    let Some(format) = FORMATS.iter().find(|format| format.name == name) else { return Ok(()) };
    (format.check)(text)?;
    match Regex::new(format.pattern) {
        Ok(pattern) if !pattern.is_match(text) => Err(misfit(format!("wants {}, not {text:?}", format.wanted))),
        _ => Ok(()),
    }
}

fn typed<T: std::str::FromStr>(text: &str) -> Result<(), T::Err> {
    text.parse::<T>().map(drop)
}

/// Errors of typed values are whole sentences about the value.
fn sentence(error: impl std::fmt::Display) -> Misfit {
    misfit(format!("is not valid: {error}"))
}

fn misfit(message: impl Into<String>) -> Misfit {
    Misfit { message: message.into(), hint: None }
}

fn ok(_: &str) -> Result<(), Misfit> {
    Ok(())
}

fn label_key(text: &str) -> Result<(), Misfit> {
    match text.contains(['/', '*']) {
        true => typed::<LabelPattern>(text).map_err(sentence),
        false => typed::<LabelName>(text).map_err(sentence),
    }
}

/// A branch, or all below a folder.
fn branch(text: &str) -> Result<(), Misfit> {
    match text.strip_suffix("/*").unwrap_or(text) {
        "" => Err(misfit("wants the name of a git branch before `/*`")),
        name if name.contains('*') => Err(Misfit {
            message: "may hold one `*`, at its end after a `/`".into(),
            hint: Some("as in `feature/*`".into()),
        }),
        _ => Ok(()),
    }
}

fn inside(text: &str) -> Result<(), Misfit> {
    let fail = |message: &str, hint: String| Err(Misfit { message: message.into(), hint: Some(hint) });
    let clean: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if clean.contains(&"..") {
        return fail("must stay inside the repository", "paths are relative to the repository and hold no `..`".into());
    }
    if text.starts_with('/') {
        return fail("must be relative to the repository", format!("write {:?}", clean.join("/")));
    }
    if !clean.is_empty() && clean.join("/") != text {
        return fail("must be written in its shortest form", format!("write {:?}", clean.join("/")));
    }
    if clean.is_empty() {
        return Err(misfit("must name something inside the repository"));
    }
    Ok(())
}

fn folder(text: &str) -> Result<(), Misfit> {
    if text == "." { Ok(()) } else { inside(text) }
}

fn absolute(text: &str) -> Result<(), Misfit> {
    if text.starts_with('/') && text.split('/').any(|part| part == "..") {
        return Err(misfit("must not hold `..`"));
    }
    Ok(())
}

fn url(text: &str) -> Result<(), Misfit> {
    if text.split(['/', '?']).any(|part| part == "..") {
        return Err(misfit("must not hold `..`"));
    }
    if !text.starts_with('/') {
        return Err(Misfit {
            message: "must start with `/`".into(),
            hint: Some(format!("write {:?}", format!("/{text}"))),
        });
    }
    Ok(())
}

fn buildpack(text: &str) -> Result<(), Misfit> {
    const KNOWN: [&str; 3] = ["php", "static", "tomcat"];
    if KNOWN.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("./") {
        Some(path) => inside(path),
        None => Err(Misfit {
            message: format!("wants `php`, `static`, `tomcat`, or a folder that starts with `./`, not {text:?}"),
            hint: super::nearest::nearest(text, KNOWN).map(|near| format!("did you mean `{near}`?")),
        }),
    }
}

fn cpus(text: &str) -> Result<(), Misfit> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.parse::<f64>() {
        Ok(count) if plain && (0.1..=64.0).contains(&count) => Ok(()),
        _ => Err(misfit(format!("wants a number of CPUs from 0.1 to 64, as in \"0.5\", not {text:?}"))),
    }
}

fn status(text: &str) -> Result<(), Misfit> {
    match text.split_once('-') {
        Some((low, high)) if low > high => {
            Err(Misfit { message: "ends before it starts".into(), hint: Some(format!("write {high}-{low}")) })
        }
        _ => Ok(()),
    }
}

fn host(text: &str) -> Result<(), Misfit> {
    if text.len() > 253 || text.split('.').any(|part| part.len() > 63) {
        return Err(misfit("is too long: a host name has up to 253 characters, up to 63 between dots"));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Misfit {
            message: format!("wants a host name in lower case, not {text:?}"),
            hint: Some(format!("write {:?}", text.to_ascii_lowercase())),
        });
    }
    if let Some((_, rest)) = text.split_once("://") {
        return Err(Misfit {
            message: "wants a host name, not a URL".into(),
            hint: Some(format!("write {:?}", rest.split(['/', ':']).next().unwrap_or(rest))),
        });
    }
    Ok(())
}

fn tls(text: &str) -> Result<(), Misfit> {
    match text {
        "true" | "yes" | "on" => Err(Misfit {
            message: format!("wants `off`, `auto`, or the name of a certificate, not {text:?}"),
            hint: Some("write `tls: auto`".into()),
        }),
        "false" | "no" | "none" => Err(Misfit {
            message: format!("wants `off`, `auto`, or the name of a certificate, not {text:?}"),
            hint: Some("write `tls: off`".into()),
        }),
        _ => Ok(()),
    }
}

fn access(text: &str) -> Result<(), Misfit> {
    text.parse::<AccessEntry>().map(drop).map_err(|e| Misfit { message: format!("is not valid: {e}"), hint: e.hint() })
}

fn schedule(text: &str) -> Result<(), Misfit> {
    check_schedule(text).map_err(|reason| Misfit {
        message: reason,
        hint: Some("minute hour day month weekday, as in `*/5 * * * *`".into()),
    })
}

fn window_time(text: &str) -> Result<(), Misfit> {
    typed::<WindowTime>(text).map_err(sentence)
}

fn time_zone(text: &str) -> Result<(), Misfit> {
    match find_zone(text) {
        Some(_) => Ok(()),
        None => Err(Misfit {
            message: format!("wants the name of a time zone, not {text:?}"),
            hint: Some("as in Europe/Berlin or UTC".into()),
        }),
    }
}

fn currency(text: &str) -> Result<(), Misfit> {
    match iso_currency::Currency::from_code(text) {
        Some(_) => Ok(()),
        None => Err(Misfit {
            message: format!("wants the code of a currency, not {text:?}"),
            hint: Some("as in EUR or USD (ISO 4217)".into()),
        }),
    }
}

fn day(text: &str) -> Result<(), Misfit> {
    match text.parse::<jiff::civil::Date>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Misfit { message: format!("wants a day, not {text:?}"), hint: Some("as in 2026-11-01".into()) }),
    }
}

macro_rules! formats {
    ($($type:ident, $name:literal, $pattern:expr, $wanted:literal, $check:expr;)*) => {
        $(
            pub(crate) struct $type;

            impl JsonSchema for $type {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> Cow<'static, str> {
                    $name.into()
                }
                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    Format { name: $name, pattern: $pattern, wanted: $wanted, check: $check }.schema()
                }
            }
        )*
        static FORMATS: &[Format] =
            &[$(Format { name: $name, pattern: $pattern, wanted: $wanted, check: $check }),*];
    };
}

const HOST: &str = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const WILDCARD: &str = r"^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const NAME: &str = r"^[a-z]([a-z0-9]|-[a-z0-9])*$";
const ENV: &str = r"^[A-Z_][A-Z0-9_]*$";
const LINE: &str = r"^[^\x00-\x1f\x7f]*$";
const PATH: &str = r"^[^/\\\x00-\x1f][^\\\x00-\x1f]*$";
const URL: &str = r#"^/[^\s"'\\{}\x00-\x1f\x7f]*$"#;
const ANY: &str = "";

formats! {
    Command, "command", r"^[^\x00]*[^\s\x00][^\x00]*$", "a command", ok;
    Line, "line", LINE, "one line of text without control characters", ok;
    EnvValue, "env-value", r"^[^\x00]*$", "a text without NUL characters", ok;
    EnvName, "env-name", ENV, "a name of upper-case letters, digits and `_`, as in `SMTP_PASSWORD`", ok;
    IniName, "ini-name", r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", "the name of a php.ini setting", ok;
    HeaderName, "header-name", r"^[A-Za-z0-9-]+$", "the name of an HTTP header", ok;
    ShortName, "short-name", NAME, "a name of lower-case letters, digits and single hyphens", ok;
    RelativePath, "relative-path", PATH, "a path inside the repository, as in `web/uploads`", inside;
    Folder, "folder", PATH, "a folder inside the repository, as in `web`, or `.`", folder;
    AbsolutePath, "absolute-path", r"^/[^\x00-\x1f]*$", "an absolute path, as in `/srv/storage`", absolute;
    UrlPath, "url-path", URL, "a path that starts with `/`, as in `/up`, without blanks, quotes or braces", url;
    Buildpack, "buildpack", ANY, "`php`, `tomcat`, `static`, or a folder of the repository, as in `./buildpack`", buildpack;
    Version, "version", r"^[0-9]+(\.[0-9]+)*$", "a version, as in \"8.4\"", ok;
    Cpus, "cpus", r"^[0-9]+(\.[0-9]+)?$", "a number of CPUs from 0.1 to 64", cpus;
    Status, "status", r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$", "a status or a range of statuses, as in 200 or 200-399", status;
    Host, "host", HOST, "a host name in lower case, as in `blog.example`", host;
    WildcardHost, "wildcard-host", WILDCARD, "a host name in lower case, as in `blog.example` or `*.blog.example`", host;
    TlsMode, "tls", r"^[a-z0-9][a-z0-9.-]*$", "`off`, `auto`, or the name of a certificate", tls;
    Cookie, "cookie", r"^([A-Za-z0-9_.-]+\*?|\*)$", "a cookie's name, with an optional `*` at the end", ok;
    Address, "access-entry", ANY, "an address, a CIDR block, a range `a-b`, or a list's name", access;
    Schedule, "schedule", ANY, "five fields as in crontab(5)", schedule;
    WindowMoment, "window-time", r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T)?[0-9]{2}:[0-9]{2}$", "a time as in \"18:00\", or a day with one as in 2026-11-27T18:00", window_time;
    CurrencyCode, "currency", r"^[A-Z]{3}$", "the code of a currency, as in `EUR`", currency;
    Day, "day", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "a day, as in 2026-11-01", day;
    Price, "price", r"^[0-9]{1,6}(\.[0-9]{1,6})?$", "a price below a million with up to six decimals, as in 0.08", ok;
    Volume, "volume", r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "a number below a billion with up to six decimals, as in 50", ok;
    TimeZoneName, "time-zone", r"^[A-Za-z][A-Za-z0-9_+/-]*$", "the name of a time zone, as in `Europe/Berlin`", time_zone;
    Branch, "branch", r"^[^\s~^:?*\[\\\x00-\x1f]+\*?$", "the name of a git branch, or for a pattern as in `feature/*`", branch;
    LabelKey, "label-key", r"^[a-z]([a-z0-9]|-[a-z0-9])*(/\*)?$", "a label's name, or a pattern as in `preview/*`", label_key;
}
