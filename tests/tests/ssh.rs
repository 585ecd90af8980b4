//! The SSH door with OpenSSH's own clients: who gets in, what they reach, and what hostile clients do not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use magrathea_tests::ssh::{Ssh, make_key};
use magrathea_tests::{Lab, run, site::Site, until};

/// An app with a writable path and a database.
fn deployed(lab: &Lab, name: &str) -> Site {
    let site = Site::new(lab, name);
    site.file("index.php", "<?php echo 'hello';").file(
        "magrathea.yml",
        "storage: {writable: {uploads: {kind: shared}}}\ndb: {mysql: {quota: 64MiB}, memcache: 16MiB}\n\
         labels: {staging: {}}\n",
    );
    site.deploy().ok();
    site
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_shell_and_commands_run_as_the_app() {
    let lab = Lab::get();
    let (site, ssh) = (deployed(&lab, "ssh-shell"), Ssh::new(&lab));
    for user in ["ssh-shell.staging", "ssh-shell"] {
        let said = ssh.run(user, &["id -un; pwd; echo error >&2; exit 7"]);
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (7, "app\n/app\n", "error\n"), "{user}");
    }
    // Bytes pass unchanged, more of them than any buffer holds, both ways at once.
    let much: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let said = ssh.feed("ssh-shell", &["sha256sum"], &much);
    assert_eq!(said.stdout.split_whitespace().next().unwrap(), sha256(&much));
    let said = ssh.feed("ssh-shell", &["cat"], "x".repeat(3_000_000).as_bytes()).ok();
    assert_eq!(said.stdout.len(), 3_000_000);
    // A terminal: its size, its kind, the prompt with app and label, and its end.
    let said = ssh.feed("ssh-shell", &["-tt", "--"], b"stty size; echo $TERM; exit 3\n");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stdout.contains("ssh-shell staging"), "{said:?}");
    // The variables of a locale, and no others.
    let mut with = ssh.ssh("ssh-shell", &["-o", "SendEnv=LC_ALL SECRET", "--", "echo $LC_ALL-$SECRET"]);
    assert_eq!(run(with.env("LC_ALL", "C.UTF-8").env("SECRET", "x")).ok().stdout, "C.UTF-8-\n");
    let timeline = site.td(&["timeline", "--json"]).ok().stdout;
    for line in ["shell.opened", "shell.closed", "exit 7"] {
        assert!(timeline.contains(line), "{line}: {timeline}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    said.split_whitespace().next().unwrap().to_owned()
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_slow_reader_does_not_stop_its_own_program_for_ever() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-slow"), Ssh::new(&lab));
    let mut child = ssh.ssh("ssh-slow", &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let feeding = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 12_000_000]).is_ok());
    std::thread::sleep(Duration::from_secs(2));
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).unwrap();
    assert!(feeding.join().unwrap() && all.len() == 12_000_000, "{}", all.len());
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_client_that_goes_takes_its_program_along() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-gone"), Ssh::new(&lab));
    let mut child = ssh.ssh("ssh-gone", &["sleep 98765"]).stdin(Stdio::piped()).spawn().unwrap();
    let runs = || run(Command::new("pgrep").args(["-f", "^sleep 98765"])).code == 0;
    until(Duration::from_secs(10), "the program runs", runs);
    child.kill().unwrap();
    child.wait().unwrap();
    until(Duration::from_secs(5), "the program has ended", || !runs());
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn files_are_the_writable_paths_alone() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-files"), Ssh::new(&lab));
    std::fs::write(ssh.path().join("photo"), vec![7_u8; 1_000_000]).unwrap();
    ssh.sftp("ssh-files", "put photo uploads/photo\nrename uploads/photo uploads/moved\nget uploads/moved back\n").ok();
    assert_eq!(std::fs::read(ssh.path().join("back")).unwrap(), vec![7_u8; 1_000_000]);
    for legacy in [&[][..], &["-O"]] {
        run(ssh.client("scp").args(legacy).args(["photo", &format!("ssh-files@{}:uploads/copied", ssh.host)])).ok();
        run(ssh.client("scp").args(legacy).args([&format!("ssh-files@{}:uploads/copied", ssh.host), "again"])).ok();
        assert_eq!(std::fs::read(ssh.path().join("again")).unwrap().len(), 1_000_000, "{legacy:?}");
    }
    for (batch, why) in [
        ("get /etc/shadow\n", "the node's files"),
        ("get ../../../../etc/shadow\n", "a path out"),
        ("put photo index.php\n", "the code"),
        ("ls /run/secrets\nget /run/secrets/magrathea-env\n", "the secrets"),
        ("symlink /etc/passwd uploads/link\nget uploads/link passwd\n!grep -q daemon passwd && exit 1\n", "a link out"),
    ] {
        let said = ssh.sftp("ssh-files", batch);
        let leaked = std::fs::read_to_string(ssh.path().join("passwd")).unwrap_or_default();
        assert!(said.code != 0 || !leaked.contains("magrathea"), "{why}: {said:?}");
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn rsync_keeps_folders_alike() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-rsync"), Ssh::new(&lab));
    let local = ssh.path().join("img");
    for (name, bytes) in [("a b", 300_000), ("sub/c", 1), ("gone", 5)] {
        let path = local.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![7_u8; bytes]).unwrap();
    }
    let door = format!("ssh {}", ssh.options().join(" "));
    let there = |path: &str| format!("ssh-rsync.staging@{}:{path}", ssh.host);
    let rsync = |args: &[&str]| {
        let mut rsync = Command::new("rsync");
        run(rsync.args(["-a", "-e", &door]).args(args).current_dir(ssh.path()).env_remove("SSH_AUTH_SOCK"))
    };
    rsync(&["img/", &there("uploads/img/")]).ok();
    std::fs::remove_file(local.join("gone")).unwrap();
    let said = rsync(&["--delete", "--itemize-changes", "img/", &there("uploads/img/")]).ok().stdout;
    assert_eq!(said.lines().filter(|line| !line.starts_with(".d")).collect::<Vec<_>>(), ["*deleting   gone"]);
    rsync(&[&there("uploads/img/"), "back"]).ok();
    run(Command::new("diff").args(["-r", "img", "back"]).current_dir(ssh.path())).ok();
    // The code and the node are not there to be written to.
    for path in ["code/", "/etc/x/", "uploads/../../x/"] {
        let said = rsync(&["img/", &there(path)]);
        assert_ne!(said.code, 0, "{path}: {said:?}");
    }
    let said = rsync(&["img/", &format!("ssh-nothing@{}:uploads/", ssh.host)]);
    assert!(said.code != 0 && said.stderr.contains("error: there is no app ssh-nothing"), "{said:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_tunnel_leads_to_the_instances_own_database() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-tunnel"), Ssh::new(&lab));
    let mut child =
        ssh.ssh("ssh-tunnel", &["-W", "db:3306", "--"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 64];
    let read = child.stdout.take().unwrap().read(&mut greeting).unwrap();
    assert!(String::from_utf8_lossy(&greeting[..read]).contains("MariaDB"), "{greeting:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = ssh.feed("ssh-tunnel", &["-W", "memcached:11211", "--"], b"version\r\nquit\r\n");
    assert!(said.stdout.starts_with("VERSION"), "{said:?}");
    for to in ["127.0.0.1:22", "db:22", "localhost:3306"] {
        let said = ssh.run("ssh-tunnel", &["-W", to, "--"]);
        assert!(said.code == 255 && said.stdout.is_empty(), "{to}: {said:?}");
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_key_that_is_removed_ends_its_shells() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-revoked"), Ssh::new(&lab));
    let mut shell = ssh.ssh("ssh-revoked", &["-tt", "--"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut prompt) = (shell.stdout.take().unwrap(), [0; 1]);
    while prompt != [b'$'] {
        stdout.read_exact(&mut prompt).unwrap();
    }
    let gone = Instant::now();
    let ended = ssh.revoke().ok();
    until(Duration::from_secs(2), "the shell has ended", || shell.try_wait().unwrap().is_some());
    assert!(gone.elapsed() < Duration::from_secs(2), "{:?}", gone.elapsed());
    assert!(ended.stderr.contains("ended: shell of ssh-revoked (staging)"), "what was ended is told: {ended:?}");
    let said = ssh.run("ssh-revoked", &["id"]);
    assert!(said.code == 255 && said.stderr.contains("Permission denied (publickey)"), "{said:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn weak_keys_become_nobodys() {
    let lab = Lab::get();
    let folder = tempfile::tempdir().unwrap();
    make_key(&folder.path().join("weak"), &["-t", "rsa", "-b", "2048"]);
    let refused = lab.td(folder.path(), &["key", "add", "weak.pub"]);
    assert!(refused.code != 0 && refused.stderr.contains("3072"), "{refused:?}");
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn another_tenants_app_answers_like_one_that_does_not_exist() {
    let lab = Lab::get();
    let (_site, ssh) = (deployed(&lab, "ssh-mine"), Ssh::stranger(&lab));
    let folder = ssh.path();
    lab.td(folder, &["person", "remove", "ssh-rival"]);
    lab.td(folder, &["org", "remove", "ssh-rivals"]);
    lab.td(folder, &["org", "create", "ssh-rivals"]).ok();
    let invited =
        lab.td(folder, &["person", "invite", "ssh-rival", "--org", "ssh-rivals", "--role", "administrator", "--json"]);
    let invitation = invited.ok().json()["invitation"].as_str().unwrap().to_owned();
    let mut join = lab.td_command(folder, &["join", &invitation, "--key", "key"]);
    run(join.env("TD_CONFIG_DIR", folder.join("td")).env("TD_CA", lab.home.join("td/ca.pem"))).ok();
    let said = |user: &str, args: &[&str]| {
        let said = ssh.run(user, args);
        (said.code, said.stdout, said.stderr.replace(user.split('.').next().unwrap(), "APP"))
    };
    for label in ["", ".staging"] {
        let (mine, missing) = (format!("ssh-mine{label}"), format!("ssh-none{label}"));
        assert_eq!(said(&mine, &["id"]), said(&missing, &["id"]));
        assert_eq!(said(&mine, &["-s", "--", "sftp"]), said(&missing, &["-s", "--", "sftp"]));
        assert_eq!(said(&mine, &["-W", "db:3306", "--"]), said(&missing, &["-W", "db:3306", "--"]));
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn hostile_clients_stand_in_nobodys_way() {
    let lab = Lab::get();
    let ssh = Ssh::new(&lab);
    let to = format!("{}:{}", ssh.host, ssh.port);
    let mut held = Vec::new();
    for n in 0..4000_usize {
        let mut stream = TcpStream::connect(&to).unwrap();
        if n % 2 == 0 {
            let _ = stream.write_all(b"SSH-2.0-idle\r\n");
        }
        held.push(stream);
        if n % 1000 == 999 {
            let began = Instant::now();
            ssh.run("git", &[]).ok();
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
    }
    drop(held);
    for nonsense in
        [vec![b'x'; 1_000_000], [&b"SSH-2.0-x\r\n"[..], &[0xff; 4096]].concat(), b"GET / HTTP/1.1\r\n\r\n".to_vec()]
    {
        let mut stream = TcpStream::connect(&to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let _ = stream.write_all(&nonsense);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let late =
            ended.is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
        assert!(!late, "the connection stays open");
    }
    ssh.run("git", &[]).ok();
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn an_audit_marks_nothing_red() {
    let lab = Lab::get();
    let ssh = Ssh::stranger(&lab);
    let tools = lab.home.join("ssh-audit");
    if !tools.join("bin/ssh-audit").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&tools)).ok();
        run(Command::new(tools.join("bin/pip")).args(["install", "--quiet", "ssh-audit==3.9.0"])).ok();
    }
    let audit = run(Command::new(tools.join("bin/ssh-audit")).args(["--no-colors", "-p", &ssh.port, &ssh.host]));
    let red: Vec<_> = audit.stdout.lines().filter(|line| line.contains("[fail]")).collect();
    assert!(red.is_empty() && audit.stdout.contains("(key) ssh-ed25519"), "{}", audit.stdout);
}
