//! A database that reaches its quota: nothing more is written to it, by connections that it has already neither, until there is
//! room again. With the texts that plans have.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use magrathea_core::names::Layer;
use magrathea_core::plan::*;
use magrathea_core::units::ByteSize;

use crate::layers::start_mariadb;
use crate::support::{Node, SLUG};

const QUOTA: ByteSize = ByteSize::mib(8);
const REFUSED: &str = "ERROR 1142";

/// What a plan has, with a quota or without.
fn database(quota: Option<ByteSize>) -> Spec {
    let render = |text: &str| text.replace("{{ name }}", SLUG);
    let open = render(include_str!("../../../layers/templates/open.sql.j2"));
    let close = render(include_str!("../../../layers/templates/close.sql.j2"));
    let ensure = format!(
        "CREATE DATABASE IF NOT EXISTS `{SLUG}`; CREATE USER IF NOT EXISTS '{SLUG}'@'%' IDENTIFIED BY '${{secret:WORD}}';
         GRANT ALL PRIVILEGES ON `{SLUG}`.* TO '{SLUG}'@'%';"
    );
    Spec::Database(DatabaseSpec {
        name: SLUG.into(),
        ensure: SecretText(ensure),
        destroy: format!("DROP DATABASE IF EXISTS `{SLUG}`; DROP USER IF EXISTS '{SLUG}'@'%';"),
        quota: quota.map(|bytes| DatabaseQuota { bytes, close, open }),
    })
}

/// The server's client as the instance's own account.
fn client(prefix: &str) -> Command {
    let filter = format!("name={prefix}-mariadb");
    let ps = Command::new("docker").args(["ps", "-q", "--filter", &filter]).output().unwrap();
    let container = String::from_utf8(ps.stdout).unwrap().trim().to_owned();
    let mut command = Command::new("docker");
    command.args([
        "exec",
        "-i",
        &container,
        "mariadb",
        "--batch",
        "--force",
        "--skip-column-names",
        "--skip-reconnect",
    ]);
    command.args([&format!("-u{SLUG}"), "-pxyzzy", SLUG]);
    command
}

/// Everything that it says.
fn sql(prefix: &str, text: &str) -> String {
    let said = client(prefix).args(["-e", text]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < give_up, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_past_its_quota_is_closed_for_writing() {
    let Some(node) = Node::start("magtq", &["mariadb"]).await else { return };
    start_mariadb(&node).await;
    let prefix = node.options.prefix.as_str().to_owned();
    let sql = |text: &str| sql(&prefix, text);
    let refuses = || sql("INSERT INTO t (a) VALUES ('x')").contains(REFUSED);
    node.ensure(Layer::Db, database(Some(QUOTA))).await.unwrap();
    let filled = sql("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a LONGTEXT);
                      INSERT INTO t (a) SELECT REPEAT('x', 60000) FROM seq_1_to_20");
    assert_eq!(filled, "");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!refuses(), "it is not full yet");

    // Of a client that stays connected.
    let mut open: Child =
        client(&prefix).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut into = open.stdin.take().unwrap();
    writeln!(into, "INSERT INTO t (a) SELECT REPEAT('x', 60000) FROM seq_1_to_200;").unwrap();
    until("it is closed", refuses).await;
    let rows: u64 = sql("SELECT COUNT(*) FROM t").trim().parse().unwrap();
    assert!(rows >= 220, "what was written stays and is read: {rows}");
    writeln!(into, "INSERT INTO t (a) VALUES ('late');").unwrap();
    drop(into);
    let said = open.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        ["ERROR 1142", "ERROR 2006", "ERROR 2013", "ERROR 1927", "ERROR 4031"].iter().any(|code| said.contains(code)),
        "{said}"
    );
    assert_eq!(sql("SELECT COUNT(*) FROM t WHERE a = 'late'").trim(), "0");
    for text in
        ["UPDATE t SET a = 'y'", "CREATE TABLE u (a INT)", "ALTER TABLE t ADD b INT", "CREATE INDEX i ON t (a(9))"]
    {
        assert!(sql(text).contains("ERROR 1142"), "{text}: {}", sql(text));
    }

    // Another deploy, and a server that starts again, change nothing.
    node.ensure(Layer::Db, database(Some(QUOTA))).await.unwrap();
    until("it is closed again", refuses).await;

    // Rows that are deleted leave room in the file.
    assert_eq!(sql("DELETE FROM t WHERE id > 10"), "");
    until("it is open", || !refuses()).await;
    assert!(sql("INSERT INTO t (a) SELECT REPEAT('x', 60000) FROM seq_1_to_300").is_empty());
    until("it is closed once more", refuses).await;

    // A larger quota, or none.
    node.ensure(Layer::Db, database(None)).await.unwrap();
    assert!(!refuses());
    let said = std::fs::read_dir(node.options.data.join("spool")).unwrap().flatten();
    let said =
        said.filter_map(|file| std::fs::read_to_string(file.path()).ok()).filter(|text| text.contains("database_full"));
    let mut full: Vec<bool> = said.map(|text| text.contains("\"full\":true")).collect();
    full.sort_unstable();
    assert_eq!(full, [false, true, true], "closed, opened, closed; nothing is told of another deploy");
    node.remove(Layer::Db, database(None)).await.unwrap();
    node.end().await;
}
