//! What the stacks' runtime images hold. The images are made in layers/images.

use magrathea_core::manifest::Stack;

use crate::{BuildpackError, fail};

/// Extensions of the php image, as composer names them (`ext-…`): Debian 13's php8.4 common, cli, apcu, bcmath, curl,
/// gd, intl, mbstring, memcached, mysql, opcache, soap, sqlite3, xml and zip. In alphabetical order.
pub const PHP_EXTENSIONS: &[&str] = &[
    "apcu",
    "bcmath",
    "calendar",
    "core",
    "ctype",
    "curl",
    "date",
    "dom",
    "exif",
    "ffi",
    "fileinfo",
    "filter",
    "ftp",
    "gd",
    "gettext",
    "hash",
    "iconv",
    "igbinary",
    "intl",
    "json",
    "libxml",
    "mbstring",
    "memcached",
    "msgpack",
    "mysqli",
    "mysqlnd",
    "openssl",
    "pcntl",
    "pcre",
    "pdo",
    "pdo_mysql",
    "pdo_sqlite",
    "phar",
    "posix",
    "random",
    "readline",
    "reflection",
    "session",
    "shmop",
    "simplexml",
    "soap",
    "sockets",
    "sodium",
    "spl",
    "sqlite3",
    "standard",
    "sysvmsg",
    "sysvsem",
    "sysvshm",
    "tokenizer",
    "xml",
    "xmlreader",
    "xmlwriter",
    "xsl",
    "zend-opcache",
    "zip",
    "zlib",
];

/// The versions of a stack, newest first.
pub fn versions(stack: Stack) -> &'static [&'static str] {
    match stack {
        Stack::Php => &["8.4"],
        Stack::Tomcat => &["10.1"],
        Stack::Static => &["2.4"],
    }
}

/// The version that runs: the wanted one when there is such, else the newest.
pub(crate) fn settle_version(stack: Stack, wanted: Option<&str>) -> Result<&'static str, BuildpackError> {
    let known = versions(stack);
    let found = known.iter().find(|version| wanted.is_none_or(|wanted| wanted == **version));
    match found {
        Some(version) => Ok(version),
        None => fail(
            format!("there is no {} {}", stack.as_str(), wanted.unwrap_or_default()),
            format!(
                "the stack `{}` has {}; leave out `app_layer.version` for the newest",
                stack.as_str(),
                known.join(", ")
            ),
        ),
    }
}
