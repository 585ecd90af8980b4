use super::*;
use crate::testing::{give_away, unprivileged};

async fn count(options: &Options) -> Option<i64> {
    let db = Db::new(&options.url("postgres")).unwrap();
    let row = db.conn().await.ok()?.query_one("SELECT count(*) FROM kept", &[]).await.ok()?;
    row.try_get(0).ok()
}

fn kill(options: &Options) -> u32 {
    let pid = process::ready_pid(options).unwrap();
    let pid_t = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid_t, rustix::process::Signal::KILL).unwrap();
    pid
}

async fn owned(options: &Options) -> Private {
    match start(options).await.unwrap() {
        Ownership::Owned(server) => server,
        Ownership::Elsewhere => panic!("somebody else owns the server"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survive_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = Options::new(dir.path().join("pg"));
    options.wrapper = unprivileged();
    give_away(&options.folder);
    give_away(&options.folder.join("run"));
    let first = owned(&options).await;
    give_away(&options.folder);

    let db = Db::new(&options.url("postgres")).unwrap();
    db.conn().await.unwrap().batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    assert!(matches!(start(&options).await.unwrap(), Ownership::Elsewhere), "one owner at a time");

    kill(&options);
    assert!(
        wait_until(Duration::from_secs(30), async || count(&options).await == Some(1)).await,
        "it is started again"
    );

    // The gateway is killed: its server stays, and the next gateway replaces it.
    let before = process::ready_pid(&options);
    first.supervisor.abort();
    drop(first);
    let second = owned(&options).await;
    assert_ne!(process::ready_pid(&options), before);
    assert_eq!(count(&options).await, Some(1));

    // The machine loses power: nothing runs, postmaster.pid names a process that is gone.
    second.supervisor.abort();
    kill(&options);
    drop(second);
    let third = owned(&options).await;
    assert_eq!(count(&options).await, Some(1));
    third.stop().await;
    assert!(!options.data().join("postmaster.pid").exists());
}

#[tokio::test]
async fn root_and_long_paths_are_refused() {
    let mut options = Options::new(std::path::PathBuf::from("/tmp").join("x".repeat(100)));
    if rustix::process::geteuid().is_root() {
        let error = start(&options).await.err().unwrap();
        assert!(error.to_string().contains("root"), "{error}");
    }
    options.wrapper = vec!["true".into()];
    let error = start(&options).await.err().unwrap();
    assert!(error.to_string().contains("too long"), "{error}");
}
