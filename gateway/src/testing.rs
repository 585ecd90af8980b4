//! What tests share: a real PostgreSQL with a database per test, and a running gateway on it.
//!
//! All test processes of a user share one server, below the temporary folder. Each holds a shared lock while it runs;
//! a watchdog stops the server and removes it once nobody has held the lock for a moment.

pub mod token;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use magrathea_core::clusters::{Clusters, parse_clusters};
use rustix::fs::FlockOperation;
use tokio::sync::watch;
use uuid::Uuid;

use crate::actor::Actor;
use crate::commands::open_state;
use crate::config::Listen;
use crate::db::tokens::{NewToken, TokenKind, insert_token};
use crate::db::{self, Db, people};
use crate::listen::Listener;
use crate::postgres::{Options, testing as server};
use crate::state::State;

/// The clusters of tests: `local` with the node `node1`.
pub const CLUSTERS: &str = "clusters:\n  local:\n    domain: localhost\n    nodes:\n      node1: {address: 127.0.0.1, \
                            layers: [storage, db, app, proxy, routing, support]}\n";

/// Runs a command of PostgreSQL's as somebody who is not root.
pub fn unprivileged() -> Vec<OsString> {
    if rustix::process::geteuid().is_root() {
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"].map(OsString::from).into()
    } else {
        Vec::new()
    }
}

/// Gives a folder to the user that [`unprivileged`] changes to.
pub fn give_away(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder, Some(65534), Some(65534)).unwrap();
    }
}

/// A new database with the present schema.
pub async fn db() -> Db {
    let (options, template) = shared_server().await;
    let name = format!("test_{}", Uuid::now_v7().simple());
    let maintenance = Db::new(&options.url("postgres")).unwrap();
    let conn = maintenance.conn().await.unwrap();
    conn.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
    Db::new(&options.url(&name)).unwrap()
}

fn lock(folder: &Path, name: &str, operation: FlockOperation) -> File {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(name)).unwrap();
    rustix::fs::flock(&file, operation).unwrap();
    file
}

async fn shared_server() -> (Options, String) {
    static IN_USE: OnceLock<File> = OnceLock::new();
    let uid = rustix::process::geteuid().as_raw();
    let locks = std::env::temp_dir().join(format!("magrathea-tests-{uid}"));
    std::fs::create_dir_all(&locks).unwrap();
    IN_USE.get_or_init(|| lock(&locks, "in-use", FlockOperation::LockShared));

    let folder = locks.join("postgres");
    let mut options = Options::new(folder.clone());
    options.settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"]
        .map(str::to_owned)
        .into();
    // Its messages go to a file: a server that outlives a test must not hold the test's standard error.
    let user: Vec<String> = unprivileged().into_iter().map(|word| word.into_string().unwrap()).collect();
    let log = locks.join("log");
    let shell = format!("exec {} \"$0\" \"$@\" 2>>{}", user.join(" "), log.display());
    options.wrapper = ["sh".to_owned(), "-c".to_owned(), shell].map(OsString::from).into();

    let _starting = lock(&locks, "starting", FlockOperation::LockExclusive);
    if !server::is_ready(&options) {
        give_away(&folder);
        give_away(&folder.join("run"));
        server::start(&options).await;
        start_watchdog(&locks, &folder);
    }
    let template = format!("template_{}", db::fingerprint());
    let maintenance = Db::new(&options.url("postgres")).unwrap();
    let conn = maintenance.conn().await.unwrap();
    let known = "SELECT FROM pg_database WHERE datname = $1";
    if conn.query_opt(known, &[&template]).await.unwrap().is_none() {
        let unfinished = format!("{template}_unfinished");
        conn.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await.unwrap();
        conn.batch_execute(&format!("CREATE DATABASE {unfinished}")).await.unwrap();
        let new = Db::new(&options.url(&unfinished)).unwrap();
        db::migrate(&new).await.unwrap();
        new.close();
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", &[&unfinished])
            .await
            .unwrap();
        conn.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {template}")).await.unwrap();
    }
    (options, template)
}

fn start_watchdog(locks: &Path, folder: &Path) {
    let script = r#"while sleep 3; do
        flock -n -x "$0/in-use" sh -c '
            pid=$(head -n1 "$0/data/postmaster.pid") && kill -INT "$pid"
            while [ -e "$0/data/postmaster.pid" ]; do sleep 0.1; done
            rm -rf "$0"' "$1" && exit
    done"#;
    Command::new("setsid")
        .args(["-f", "sh", "-c", script])
        .args([locks, folder])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .status()
        .unwrap();
}

/// A gateway's state on a new database, in a folder of its own.
pub struct TestState {
    pub state: Arc<State>,
    /// The first administrator.
    pub admin: Actor,
    /// The administrator's token.
    pub token: String,
    pub clusters: watch::Sender<Arc<Clusters>>,
    pub folder: tempfile::TempDir,
}

/// A state with [`CLUSTERS`] and an administrator.
pub async fn state() -> TestState {
    let db = db().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pki")).unwrap();
    let (sender, clusters) = watch::channel(Arc::new(parse_clusters("clusters.yml", CLUSTERS).unwrap()));
    let state = open_state(folder.path(), db, clusters, &nowhere()).unwrap();
    let conn = state.db.conn().await.unwrap();
    let admin = people::ensure_admin(&conn).await.unwrap();
    let token = crate::api::token::for_person().unwrap();
    let row = NewToken {
        person: admin.person,
        hash: &token.hash,
        name: "test",
        kind: TokenKind::Token,
        limits: None,
        key: None,
        days: None,
    };
    insert_token(&conn, &row).await.unwrap();
    drop(conn);
    TestState { state: Arc::new(state), admin, token: token.text, clusters: sender, folder }
}

/// Addresses at which nothing listens.
fn nowhere() -> Listen {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    Listen { api: nowhere, agents: nowhere, ssh: nowhere, host: None }
}

impl TestState {
    /// A new process on the same folder and database.
    pub fn reopen(&mut self) {
        let (db, clusters) = (self.state.db.clone(), self.clusters.subscribe());
        self.state = Arc::new(open_state(self.folder.path(), db, clusters, &nowhere()).unwrap());
    }
}

/// A gateway that serves; its engine is not started.
pub struct Gateway {
    pub inner: TestState,
    /// As in `https://127.0.0.1:40000`.
    pub url: String,
    /// The agent listener's port.
    pub agents: u16,
    /// Trusts the gateway's authority; bears no token.
    pub http: reqwest::Client,
}

/// Serves the API and the agent listener on ports that the system chooses.
pub async fn gateway() -> Gateway {
    let inner = state().await;
    let state = &inner.state;
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let any = "127.0.0.1:0".parse().unwrap();
    let api = Listener::bind(any, state.pki.api_config(&names).unwrap()).await.unwrap();
    let agents = Listener::bind(any, state.pki.agents_config(&names).unwrap()).await.unwrap().for_streams();
    let url = format!("https://{}", api.address().unwrap());
    let port = agents.address().unwrap().port();
    let (tasks, shutdown) = (&state.tasks, &state.shutdown);
    tasks.spawn(api.serve(crate::api::router(Arc::clone(state)), tasks.clone(), shutdown.clone()));
    tasks.spawn(agents.serve(crate::hub::router(Arc::clone(state)), tasks.clone(), shutdown.clone()));
    let ca = reqwest::Certificate::from_pem(state.pki.ca_pem().as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    Gateway { inner, url, agents: port, http }
}

impl Gateway {
    /// A request with the administrator's token.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(&self.inner.token)
    }

    pub fn state(&self) -> &Arc<State> {
        &self.inner.state
    }

    pub fn data(&self) -> PathBuf {
        self.inner.folder.path().to_owned()
    }
}
