//! php-fpm's pool and the ini settings that the web and the command line share.

use std::collections::BTreeMap;

use magrathea_core::plan::FileSpec;
use magrathea_core::units::ByteSize;
use minijinja::context;

use super::file;
use super::served::{document_root, timeout_seconds, upload_folders};
use crate::db::{MEMCACHED_HOST, MEMCACHED_PORT};
use crate::render::render;
use crate::storage::SCRATCH;
use crate::{InstanceInput, LayerError};

/// The one version that the image has.
pub const VERSION: &str = "8.4";
pub const SOCKET: &str = "/run/php-fpm.sock";
/// Run before every script of the web when there are folders for uploads outside of what is served.
const GUARD: &str = "/etc/magrathea/guard.php";
/// Memory for Apache, php-fpm's master and the scratch files of a few requests.
const OVERHEAD: ByteSize = ByteSize::mib(48);

pub fn render_php(input: &InstanceInput<'_>) -> Result<Vec<FileSpec>, LayerError> {
    let app = &input.sections.app_layer;
    if app.version.as_deref().is_some_and(|version| version != VERSION) {
        return Err(LayerError::new("app_layer.version", "there is no such PHP here").hint("the php stack has 8.4"));
    }
    let guard = render_guard(input)?;
    let values = context! {
        socket => SOCKET,
        guard => guard.is_some().then_some(GUARD),
        workers => workers(app.memory, app.request_memory),
        timeout => timeout_seconds(input),
    };
    let pool = render("fpm.conf", include_str!("../../templates/fpm.conf.j2"), values)?;
    let files = [file("/etc/magrathea/fpm.conf", pool), settings_file(input)?];
    Ok(files.into_iter().chain(guard.map(|guard| file(GUARD, guard))).collect())
}

/// The settings that the web and the command line share.
pub fn settings_file(input: &InstanceInput<'_>) -> Result<FileSpec, LayerError> {
    Ok(file("/etc/magrathea/php/app.ini", render_ini(input)?))
}

/// Apache decides by the path that a visitor asks for. A folder for uploads outside of what is served is reached
/// through a link (`public/storage` in Laravel), so there PHP looks at where the script really is.
fn render_guard(input: &InstanceInput<'_>) -> Result<Option<String>, LayerError> {
    let served = format!("{}/", document_root(input)?);
    let mut folders = upload_folders(input)?;
    folders.retain(|folder| !folder.starts_with(&served));
    if folders.is_empty() {
        return Ok(None);
    }
    let key = "auto_prepend_file";
    let prepend = input.sections.app_layer.ini.get(key);
    if prepend.is_some_and(|path| path.contains(['\'', '\\']) || path.chars().any(char::is_control)) {
        return Err(LayerError::new(&format!("app_layer.ini.{key}"), "is not a path"));
    }
    let values = context! { folders, prepend };
    render("guard.php", include_str!("../../templates/guard.php.j2"), values).map(Some)
}

/// The largest upload that is taken without being asked for in `ini`.
const UPLOAD: ByteSize = ByteSize::mib(512);

/// How many requests run at once: as many as fit into the replica's memory.
pub fn workers(memory: ByteSize, request: ByteSize) -> u64 {
    let fixed = OVERHEAD.bytes() + opcache(memory).bytes();
    (memory.bytes().saturating_sub(fixed) / request.bytes().max(ByteSize::mib(4).bytes())).clamp(2, 128)
}

fn opcache(memory: ByteSize) -> ByteSize {
    ByteSize::mib((memory.as_mib() / 8).clamp(16, 192))
}

fn render_ini(input: &InstanceInput<'_>) -> Result<String, LayerError> {
    let app = &input.sections.app_layer;
    let upload = format!("{}M", input.sections.proxy.max_body.min(UPLOAD).as_mib().max(1));
    let mut settings: BTreeMap<&str, String> = [
        ("date.timezone", "UTC"),
        ("display_errors", "Off"),
        ("error_log", "/proc/self/fd/2"),
        ("expose_php", "Off"),
        ("html_errors", "Off"),
        ("log_errors", "On"),
        // The code under a release never changes: no file is looked at twice.
        ("opcache.enable_file_override", "1"),
        ("opcache.file_update_protection", "0"),
        ("opcache.interned_strings_buffer", "8"),
        ("opcache.max_accelerated_files", "16229"),
        ("opcache.validate_timestamps", "0"),
        ("realpath_cache_size", "4096K"),
        ("realpath_cache_ttl", "600"),
        ("session.save_path", "/tmp"),
        ("sys_temp_dir", SCRATCH),
        ("upload_tmp_dir", SCRATCH),
        ("user_ini.cache_ttl", "3600"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    settings.insert("opcache.memory_consumption", opcache(app.memory).as_mib().to_string());
    settings.insert("upload_max_filesize", upload.clone());
    settings.insert("post_max_size", upload);
    if input.sections.db.memcache.is_some() {
        // Shared by all replicas and kept over a deploy, unlike files in /tmp.
        settings.insert("session.save_handler", "memcached".into());
        settings.insert("session.save_path", format!("{MEMCACHED_HOST}:{MEMCACHED_PORT}"));
    }
    settings.extend(input.sections.app_layer.ini.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let mut out = String::new();
    for (key, value) in settings {
        out.push_str(&format!("{} = {}\n", ini_key(key)?, ini_value(key, &value)?));
    }
    Ok(out)
}

fn ini_key(key: &str) -> Result<&str, LayerError> {
    let path = format!("app_layer.ini.{key}");
    let fits = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
    if !fits {
        return Err(LayerError::new(&path, "is not the name of a php.ini setting"));
    }
    // Native code comes from the image alone.
    if matches!(key, "extension" | "zend_extension" | "extension_dir" | "ffi.preload") {
        return Err(LayerError::new(&path, "cannot be set here")
            .hint("the image's extensions are all loaded; the operator adds others with MAGRATHEA_PHP_PACKAGES"));
    }
    Ok(key)
}

/// A bare word where PHP must evaluate it (numbers, sizes, On, `E_ALL & ~E_NOTICE`), otherwise a quoted string.
fn ini_value(key: &str, value: &str) -> Result<String, LayerError> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let expression =
        |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | ' ' | '&' | '|' | '~' | '^');
    if !value.is_empty() && value.chars().all(word) || value.starts_with("E_") && value.chars().all(expression) {
        return Ok(value.to_owned());
    }
    // Inside quotes only these have a meaning of their own.
    if value.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$')) {
        return Err(LayerError::new(
            &format!("app_layer.ini.{key}"),
            "the value holds a character that is not allowed",
        )
        .hint("one line without double quotes, backslashes and dollar signs"));
    }
    Ok(format!("\"{value}\""))
}
