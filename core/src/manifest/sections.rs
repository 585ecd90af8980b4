//! The sections of `magrathea.yml`, grouped by layer: what an app may say, with its default.
//!
//! These types are the one source for the JSON Schema, the reference page and the resolved configuration. A value of
//! [`Sections`] is complete: every default is filled in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::processes::{Health, Worker};
use super::replicas::Replicas;
use crate::names::ProcessName;
use crate::people::Verb;
use crate::schema::format::*;
use crate::units::{ByteSize, Span};

/// Everything an instance is configured by, after its label was merged over the file's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sections {
    /// How the release image is made.
    pub build: Build,
    /// Layer 3: the replicas that run the code.
    pub app_layer: AppLayer,
    /// Layer 1: what the app may write to.
    pub storage: Storage,
    /// Layer 2: database and cache.
    pub db: Db,
    /// Layer 4: the HTTP cache.
    pub proxy: Proxy,
    /// Layer 5: host names, TLS and redirects.
    pub routing: Routing,
    /// Who may reach the app.
    pub access: Access,
    /// Layer 6: cron, backups and checks.
    pub support: Support,
    /// Commands around the cut-over.
    pub hooks: Hooks,
    /// Named commands that people may run.
    #[schemars(extend("propertyNames" = keys::<ShortName>()))]
    pub tasks: BTreeMap<String, Task>,
    /// Plain environment of the app's processes.
    #[schemars(with = "BTreeMap<String, EnvValue>", extend("propertyNames" = keys::<EnvName>()))]
    pub env: BTreeMap<String, String>,
    /// Names of the secret values that the app needs; the values are set with `td config set`.
    #[schemars(with = "Vec<EnvName>")]
    pub secrets: Vec<String>,
}

/// How the release image is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// `php`, `tomcat`, `static`, or a path in the repository that starts with `./`; detected when absent.
    #[schemars(with = "Option<Buildpack>")]
    pub buildpack: Option<String>,
    /// Commands run in the build container, in order; the first that fails ends the build.
    #[schemars(with = "Vec<Command>")]
    pub commands: Vec<String>,
    /// Plain environment of the build.
    #[schemars(with = "BTreeMap<String, EnvValue>", extend("propertyNames" = keys::<EnvName>()))]
    pub env: BTreeMap<String, String>,
    /// Most time the whole build may take.
    pub timeout: Option<Span>,
    /// Most memory the build may use.
    pub memory: Option<ByteSize>,
    /// Most disk the build and its cache may use.
    pub disk: Option<ByteSize>,
}

/// The runtime that an app's replicas run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// apache + php-fpm
    Php,
    /// Apache Tomcat
    Tomcat,
    /// apache, files only
    Static,
}

impl Stack {
    /// The stack's name as written in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Stack::Php => "php",
            Stack::Tomcat => "tomcat",
            Stack::Static => "static",
        }
    }
}

/// Layer 3: the replicas that run the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AppLayer {
    /// The runtime; follows the buildpack when absent.
    pub stack: Option<Stack>,
    /// The runtime's version, as in `"8.4"`; the stack's newest when absent.
    #[schemars(with = "Option<Version>")]
    pub version: Option<String>,
    /// The folder that is served, inside the repository.
    #[schemars(with = "Folder")]
    pub root: String,
    /// php.ini settings.
    #[schemars(with = "BTreeMap<String, Line>", extend("propertyNames" = keys::<IniName>()))]
    pub ini: BTreeMap<String, String>,
    /// How many replicas run: a number, or bounds between which they follow the load.
    pub replicas: Replicas,
    /// Memory of one replica; php-fpm's workers and Tomcat's heap are computed from it.
    pub memory: ByteSize,
    /// CPUs of one replica, as in `"0.5"`; no limit of its own when absent.
    #[schemars(with = "Option<Cpus>")]
    pub cpus: Option<String>,
    /// Memory that one PHP request is expected to take; decides how many workers fit.
    pub request_memory: ByteSize,
    /// Tomcat: the path under which the application answers.
    #[schemars(with = "UrlPath")]
    pub context: String,
    /// Most processes and threads of one replica.
    #[schemars(range(min = 16, max = 32768))]
    pub processes: u32,
    /// When a replica counts as healthy.
    pub health: Health,
    /// Process types beside the one that visitors reach, by name: queue workers, schedulers.
    #[schemars(extend("propertyNames" = keys::<ProcessName>()))]
    pub workers: BTreeMap<ProcessName, Worker>,
    /// How long files whose names hold a hash, as in `app-3f2a9c1b.js`, are still served after the last release that had
    /// them; `0s` keeps none. Not with Tomcat.
    pub keep_assets: Span,
    /// Rules by path prefix, as in `/uploads: {scripts: false}`.
    #[schemars(extend("propertyNames" = keys::<UrlPath>()))]
    pub locations: BTreeMap<String, Location>,
}

impl Default for AppLayer {
    fn default() -> Self {
        AppLayer {
            stack: None,
            version: None,
            root: ".".into(),
            ini: BTreeMap::new(),
            replicas: Replicas::Fixed(1),
            memory: ByteSize::mib(512),
            cpus: None,
            request_memory: ByteSize::mib(48),
            context: "/".into(),
            processes: 512,
            health: Health::default(),
            workers: BTreeMap::new(),
            keep_assets: Span(std::time::Duration::from_secs(7 * 24 * 60 * 60)),
            locations: BTreeMap::new(),
        }
    }
}

/// Rules for a path prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Location {
    /// Whether scripts run here; upload folders say `false`.
    pub scripts: bool,
    /// Whether anything here is served at all.
    pub allow: bool,
    /// How long browsers may keep what is served from here.
    pub expires: Option<Span>,
    /// Response headers to set.
    #[schemars(with = "BTreeMap<String, Line>", extend("propertyNames" = keys::<HeaderName>()))]
    pub headers: BTreeMap<String, String>,
}

impl Default for Location {
    fn default() -> Self {
        Location { scripts: true, allow: true, expires: None, headers: BTreeMap::new() }
    }
}

/// Layer 1: what the app may write to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Most disk that the shared writable paths may use together.
    pub quota: Option<ByteSize>,
    /// Writable paths, relative to the repository; every other path is read-only.
    #[schemars(extend("propertyNames" = keys::<RelativePath>()))]
    pub writable: BTreeMap<String, Writable>,
}

/// A writable path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Writable {
    /// How long what is written lives.
    pub kind: WritableKind,
    /// Whether scripts below this path run when it is served; off for shared paths unless said.
    #[serde(default)]
    pub scripts: Option<bool>,
}

/// How long a writable path lives and who shares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WritableKind {
    /// Shared by all replicas, survives every deploy.
    Shared,
    /// Per node, may vanish.
    Local,
    /// Per replica, in memory, gone with it.
    Tmp,
}

/// Layer 2: database and cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Db {
    /// A MariaDB database and user of the instance's own.
    pub mysql: Option<Mysql>,
    /// A memcached of the instance's own, with this much memory.
    pub memcache: Option<ByteSize>,
}

/// A MariaDB database and user of the instance's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mysql {
    /// Most disk that the database may use.
    pub quota: Option<ByteSize>,
    /// Most connections at once.
    #[schemars(range(min = 1, max = 1000))]
    pub connections: u32,
}

impl Default for Mysql {
    fn default() -> Self {
        Mysql { quota: None, connections: 50 }
    }
}

/// Which cache stands before the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    Varnish,
    Nginx,
    None,
}

/// Layer 4: the HTTP cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Which cache; `none` for no cache.
    pub kind: ProxyKind,
    /// How long an answer without its own cache headers is kept; `0s` keeps none.
    pub ttl: Span,
    /// How long a stale answer may still be served while a fresh one is fetched.
    pub grace: Span,
    /// A file of the repository with VCL of the app's own.
    #[schemars(with = "Option<RelativePath>")]
    pub vcl: Option<String>,
    /// Cookies (names, `*` at the end allowed) that make a request go past the cache; all others are hidden from it.
    #[schemars(with = "Vec<Cookie>")]
    pub bypass_cookies: Vec<String>,
    /// Path prefixes that always go past the cache.
    #[schemars(with = "Vec<UrlPath>")]
    pub bypass_paths: Vec<String>,
    /// Most bytes a request body may have.
    pub max_body: ByteSize,
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy {
            kind: ProxyKind::Varnish,
            ttl: Span(std::time::Duration::ZERO),
            grace: Span(std::time::Duration::from_secs(10)),
            vcl: None,
            bypass_cookies: vec!["*".into()],
            bypass_paths: Vec::new(),
            max_body: ByteSize::gib(1),
        }
    }
}

/// Layer 5: host names, TLS and redirects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// Host names, as in `blog.example` or `*.blog.example`; a name below the cluster's own domain when empty.
    #[schemars(with = "Vec<WildcardHost>")]
    pub domains: Vec<String>,
    /// Host names that are redirected to the first of `domains`.
    #[schemars(with = "Vec<Host>")]
    pub redirects: Vec<String>,
    /// `off`, `auto`, or the name of a certificate set with `td cert set`.
    pub tls: Tls,
    /// Whether plain HTTP is redirected to HTTPS.
    pub https_only: bool,
    /// How long a request in flight may go on when its release is replaced.
    pub drain: Option<Span>,
    /// How long a request may stay silent.
    pub timeout: Option<Span>,
}

/// Where the certificate comes from: `off`, `auto`, or a certificate's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "TlsMode")]
pub enum Tls {
    #[default]
    Off,
    Auto,
    Certificate(String),
}

impl From<String> for Tls {
    fn from(text: String) -> Self {
        match text.as_str() {
            "off" => Tls::Off,
            "auto" => Tls::Auto,
            _ => Tls::Certificate(text),
        }
    }
}

impl From<Tls> for String {
    fn from(tls: Tls) -> String {
        match tls {
            Tls::Off => "off".into(),
            Tls::Auto => "auto".into(),
            Tls::Certificate(name) => name,
        }
    }
}

/// Who may reach the app, decided at the edge by the connection's address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Addresses that may (an address, a CIDR block, a range `a-b`, or a list's name); all when empty.
    #[schemars(with = "Vec<Address>")]
    pub allow: Vec<String>,
    /// Addresses that may not, asked first.
    #[schemars(with = "Vec<Address>")]
    pub deny: Vec<String>,
    /// Name of the secret that holds `user:password` lines.
    #[schemars(with = "Option<EnvName>")]
    pub basic_auth: Option<String>,
    /// Whether visitors see the maintenance page; addresses in `maintenance_allow` pass.
    pub maintenance: bool,
    /// Addresses that pass the maintenance page.
    #[schemars(with = "Vec<Address>")]
    pub maintenance_allow: Vec<String>,
    /// A file of the repository that is shown as the maintenance page.
    #[schemars(with = "Option<RelativePath>")]
    pub maintenance_page: Option<String>,
}

/// Layer 6: cron, backups and checks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Support {
    /// Commands run on a schedule, once per instance.
    pub cron: Vec<Cron>,
    /// Backups of the database and the shared paths; none when absent.
    pub backup: Option<Backup>,
    /// How much of the log is kept; the cluster's bounds when absent.
    pub logs: KeptLogs,
}

/// Narrower bounds for the log than the cluster's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeptLogs {
    /// Most disk space, compressed, on each node.
    pub size: Option<ByteSize>,
    /// Lines older than this go.
    pub keep: Option<Span>,
}

/// A command run on a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// Names the job in logs and alerts.
    #[schemars(with = "ShortName")]
    pub name: String,
    /// Five fields, as crontab(5) has them.
    #[schemars(with = "Schedule")]
    pub schedule: String,
    /// The command.
    #[schemars(with = "Command")]
    pub run: String,
    /// Most time one run may take.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// How many backups are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// How many daily backups.
    pub daily: u32,
    /// How many weekly backups.
    pub weekly: u32,
    /// How many monthly backups.
    pub monthly: u32,
}

/// Commands around the cut-over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Run once per instance, with the new code and configuration, before the cut-over; a failure stops the deploy.
    #[schemars(with = "Vec<Command>")]
    pub release: Vec<String>,
    /// Run once per instance after the cut-over; a failure is reported.
    #[schemars(with = "Vec<Command>")]
    pub after: Vec<String>,
    /// Most time one hook may take.
    pub timeout: Option<Span>,
}

/// A named command that people may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The command.
    #[schemars(with = "Command")]
    pub run: String,
    /// The least role that may run it; operator when absent, as for any other command.
    #[serde(default, deserialize_with = "known_role")]
    pub role: Option<TaskRole>,
}

/// Who may run a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskRole {
    Viewer,
    Developer,
    Operator,
    Administrator,
}

impl Task {
    /// What one must be allowed to do at the label.
    pub fn verb(&self) -> Verb {
        match self.role.unwrap_or(TaskRole::Operator) {
            TaskRole::Viewer => Verb::Look,
            TaskRole::Developer => Verb::Deploy,
            TaskRole::Operator => Verb::Operate,
            TaskRole::Administrator => Verb::Administer,
        }
    }
}

/// Releases that were made when any text was taken still have theirs: what is no role is nobody's but the administrators'.
fn known_role<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<TaskRole>, D::Error> {
    let said = Option::<serde_json::Value>::deserialize(from)?;
    Ok(said.filter(|said| !said.is_null()).map(|said| serde_json::from_value(said).unwrap_or(TaskRole::Administrator)))
}
