//! Shells, one-off commands, database clients, tunnels and files, with everything that may happen to them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use magrathea_tests::terminal::Terminal;
use magrathea_tests::{Ended, Lab, site::Site, until};
use sha2::{Digest, Sha256};

fn deployed(name: &str) -> Site {
    let site = Site::new(&Lab::get(), name);
    site.file(
        "magrathea.yml",
        "db: {mysql: {}, memcache: 16MiB}\nstorage: {writable: {uploads: {kind: shared}, 'data/private': {kind: local}}}\n\
         env: {WORD: xyzzy}\n",
    )
    .file("index.php", "<?php echo 'at home';");
    site.deploy().ok();
    site
}

/// td on this app, not yet started.
fn td(site: &Site, args: &[&str]) -> Command {
    let mut all = vec!["--app", &site.name];
    all.extend(args);
    site.lab.td_command(site.path(), &all)
}

fn shell(site: &Site, command: &str) -> Ended {
    magrathea_tests::run(&mut td(site, &["app", "shell", "--", command]))
}

/// Runs a command with these bytes on its input.
fn piped(mut command: Command, input: Vec<u8>) -> (i32, Vec<u8>, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.status.code().unwrap_or(-1), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The processes of this machine whose command line has this text.
fn processes(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.starts_with(text)
    })
    .collect()
}

/// Starts `sleep SECONDS` in a shell, and waits until it runs.
fn sleeping(site: &Site, door: &str, seconds: &str) -> Child {
    let command = format!("sleep {seconds} & wait");
    let child = td(site, &["app", door, "--", &command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = format!("sleep {seconds}");
    until(Duration::from_secs(20), "the command runs", || !processes(&line).is_empty());
    child
}

fn gone(seconds: &str) {
    let line = format!("sleep {seconds}");
    until(Duration::from_secs(10), "nothing of it is left", || processes(&line).is_empty());
}

/// The services of an app's one-off containers.
fn one_offs(site: &Site) -> Vec<String> {
    let own = format!("{}-{}-", site.lab.prefix(), site.slug());
    let names = site.lab.docker(&["service", "ls", "--format", "{{.Name}}"]);
    let is_one_off = |name: &&str| name.starts_with(&own) && (name.contains("-run-") || name.contains("-db-"));
    names.lines().filter(is_one_off).map(str::to_owned).collect()
}

fn random(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    random
}

#[test]
#[ignore = "needs the laboratory"]
fn commands_tell_their_status_and_output() {
    let site = deployed("trillian");
    for (command, code) in [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("nonsense", 127)] {
        assert_eq!(shell(&site, command).code, code, "{command}");
    }
    let said = shell(&site, "echo out; echo err >&2").ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    // As the app, with its environment, its folder, and nothing to gain.
    let said =
        shell(&site, "echo $WORD $DB_NAME; pwd; id -u; grep NoNewPrivs /proc/self/status; touch new 2>&1").stdout;
    let slug = site.slug();
    assert!(said.starts_with(&format!("xyzzy {slug}\n/app\n")), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(!said.contains("\n0\n"), "not root: {said}");
    // Words stay words.
    let ended = magrathea_tests::run(&mut td(&site, &["app", "shell", "--", "printf", "%s|", "a b", "$WORD", "*"]));
    assert_eq!(ended.stdout, "a b|$WORD|*|");
    // Standard input ends where it ends.
    let (code, out, _) = piped(td(&site, &["app", "shell", "--", "wc -c"]), vec![b'x'; 100_000]);
    assert_eq!((code, String::from_utf8_lossy(&out).trim().to_owned()), (0, "100000".to_owned()));
    // A script on the input of a shell.
    let (code, out, _) = piped(td(&site, &["app", "shell"]), b"echo $((6*7))\nexit 5\n".to_vec());
    assert_eq!((code, out), (5, b"42\n".to_vec()));
    // What a command leaves behind neither holds td up nor stays.
    let began = Instant::now();
    assert_eq!(shell(&site, "sleep 77701 & echo done").stdout, "done\n");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    gone("77701");
    // On the timeline, with what ran and how it ended.
    let timeline = site.td(&["timeline", "--json"]).ok().stdout;
    for part in ["shell.opened", "shell.closed", "exit 3", "kill -TERM $$"] {
        assert!(timeline.contains(part), "{part}: {timeline}");
    }
    // No such app, label or replica.
    let ended = site.lab.td(site.path(), &["app", "shell", "--app", "nobodys", "--", "true"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("there is no app nobodys"), "{}", ended.stderr);
    assert_eq!(magrathea_tests::run(&mut td(&site, &["app", "shell", "--label", "moon", "--", "true"])).code, 1);
    assert_eq!(magrathea_tests::run(&mut td(&site, &["app", "shell", "--replica", "0000000", "--", "true"])).code, 1);
}

#[test]
#[ignore = "needs the laboratory"]
fn bytes_pass_unchanged() {
    let site = deployed("marvin");
    let bytes = random(48 << 20);
    for door in ["shell", "run"] {
        let began = Instant::now();
        let (code, out, err) = piped(td(&site, &["app", door, "--", "tee /dev/stderr | cat"]), bytes.clone());
        println!("{door}: 48 MiB there and twice back in {:?}", began.elapsed());
        assert_eq!(code, 0, "{door}: {err}");
        assert_eq!(Sha256::digest(&out), Sha256::digest(&bytes), "{door}: {} bytes", out.len());
    }
    // A reader that stops reading holds up nothing but itself.
    let mut child = td(&site, &["app", "shell", "--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\ny\n");
    until(Duration::from_secs(10), "td ends with its reader", || child.try_wait().unwrap().is_some());
    until(Duration::from_secs(10), "the program ends with td", || processes("yes").is_empty());
}

#[test]
#[ignore = "needs the laboratory"]
fn a_terminal_is_one() {
    let site = deployed("zaphod");
    let mut terminal = Terminal::start(&mut td(&site, &["app", "shell"]));
    let before = terminal.settings();
    let prompt = "zaphod default";
    terminal.shows(prompt, 1);
    assert!(terminal.screen().contains("\x1b[32m"), "{:?}", terminal.screen());
    terminal.type_in("stty size; tty; echo $TERM\r");
    terminal.shows("24 80", 1);
    terminal.shows("/dev/pts/", 1);
    terminal.shows("xterm\r\n", 1);
    terminal.resize(132, 50);
    // Keys may be faster than the news of the size.
    std::thread::sleep(Duration::from_millis(500));
    terminal.type_in("stty size\r");
    terminal.shows("50 132", 1);
    terminal.type_in("sleep 77702\r");
    until(Duration::from_secs(10), "it runs", || !processes("sleep 77702").is_empty());
    terminal.type_in("\x03");
    gone("77702");
    terminal.type_in("echo status $?\r");
    terminal.shows("status 130", 1);
    terminal.type_in("exit 7\r");
    assert_eq!(terminal.status(), 7);
    assert_eq!(terminal.settings().local_modes, before.local_modes, "the terminal is as it was");

    let mut terminal = Terminal::start(&mut td(&site, &["app", "run"]));
    terminal.shows(prompt, 1);
    terminal.type_in("\x04");
    assert_eq!(terminal.status(), 0);
    // One leaves what hangs; what runs there ends.
    let mut terminal = Terminal::start(&mut td(&site, &["app", "shell", "--", "trap '' HUP INT; sleep 77703"]));
    until(Duration::from_secs(10), "it runs", || !processes("sleep 77703").is_empty());
    terminal.type_in("\r~.");
    assert_eq!(terminal.status(), 129);
    gone("77703");
}

#[test]
#[ignore = "needs the laboratory"]
fn whoever_goes_takes_the_program_along() {
    let site = deployed("slartibartfast");
    for door in ["shell", "run"] {
        let mut child = sleeping(&site, door, "77704");
        child.kill().unwrap();
        child.wait().unwrap();
        gone("77704");
    }
    // Asked to stop, a command may.
    let mut child = sleeping(&site, "shell", "77705");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    gone("77705");
    // A replica that dies takes its shells along.
    let mut child = sleeping(&site, "shell", "77706");
    let filter = format!("name={}-{}-web", site.lab.prefix(), site.slug());
    let container = site.lab.docker(&["ps", "-q", "--filter", &filter]);
    site.lab.docker(&["kill", container.trim()]);
    assert_ne!(child.wait().unwrap().code(), Some(0));
    gone("77706");
    until(Duration::from_secs(30), "the replica is back", || site.serves());
    until(Duration::from_secs(10), "no one-off is left", || one_offs(&site).is_empty());
}

#[test]
#[ignore = "needs the laboratory"]
fn a_killed_agent_or_gateway_leaves_nothing_running() {
    let site = deployed("vogon");
    for process in ["magrathea-agent", "magrathea-gateway"] {
        let mut shell = sleeping(&site, "shell", "77707");
        let mut run = sleeping(&site, "run", "77708");
        site.lab.kill(process);
        for child in [&mut shell, &mut run] {
            until(Duration::from_secs(20), "td ends", || child.try_wait().unwrap().is_some());
            assert_eq!(child.wait().unwrap().code(), Some(1), "{process}");
        }
        site.lab.local("up").ok();
        gone("77707");
        gone("77708");
        until(Duration::from_secs(20), "no one-off is left", || one_offs(&site).is_empty());
    }
    until(Duration::from_secs(30), "the doors open again", || self::shell(&site, "true").code == 0);
    assert!(site.serves());
}

#[test]
#[ignore = "needs the laboratory"]
fn a_one_off_is_like_a_replica_and_goes() {
    let site = deployed("arthur");
    let run = |command| magrathea_tests::run(&mut td(&site, &["app", "run", "--", command]));
    assert_eq!(run("exit 4").code, 4);
    let here = shell(&site, "hostname").stdout;
    let there = run("hostname").ok().stdout;
    assert_ne!(here, there);
    assert_eq!(run("echo fjord > uploads/coast; php -r 'echo getenv(\"WORD\");'").ok().stdout, "xyzzy");
    assert_eq!(shell(&site, "cat uploads/coast").stdout, "fjord\n");
    let reaches = r#"php -r '$m = new Memcached; $m->addServer("memcached", 11211); echo count($m->getVersion());'"#;
    assert_eq!(run(reaches).ok().stdout, "1");
    assert_eq!(one_offs(&site), Vec::<String>::new());
}

#[test]
#[ignore = "needs the laboratory"]
fn a_detached_run_outlives_everybody() {
    let site = deployed("deepthought");
    let start = |command, limit| {
        let args = ["app", "run", "--detach", "--time-limit", limit, "--json", "--", command];
        let run = magrathea_tests::run(&mut td(&site, &args)).ok().json();
        run["id"].as_str().unwrap().to_owned()
    };
    let follow = |id: &str| magrathea_tests::run(&mut td(&site, &["run", "log", "--follow", id]));
    let id = start("echo one; sleep 12; echo two; exit 3", "5m");
    until(Duration::from_secs(20), "it says something", || follow_once(&site, &id) == "one\n");
    for process in ["magrathea-agent", "magrathea-gateway"] {
        site.lab.kill(process);
        site.lab.local("up").ok();
    }
    let ended = follow(&id);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, "one\ntwo\n"), "{}", ended.stderr);
    // Its time is limited, and it can be stopped.
    let id = start("sleep 77710", "2s");
    let ended = follow(&id);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("longer than 2 s"), "{}", ended.stderr);
    gone("77710");
    let id = start("sleep 77711", "5m");
    until(Duration::from_secs(20), "it runs", || !processes("sleep 77711").is_empty());
    magrathea_tests::run(&mut td(&site, &["run", "stop", &id])).ok();
    gone("77711");
    let listed = magrathea_tests::run(&mut td(&site, &["run", "list"])).ok().stdout;
    for part in ["ended (3)", "failed", "stopped"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
}

fn follow_once(site: &Site, id: &str) -> String {
    magrathea_tests::run(&mut td(site, &["run", "log", id])).stdout
}

#[test]
#[ignore = "needs the laboratory"]
fn the_database_is_the_instances_own() {
    let site = deployed("ford");
    let slug = site.slug();
    let said = site.td(&["app", "db", "-e", "SELECT CURRENT_USER(), DATABASE()"]).ok().stdout;
    assert!(said.contains(&format!("{slug}@%\t{slug}")), "{said}");
    let sql = b"CREATE TABLE towel (n INT); INSERT INTO towel VALUES (42);\nSELECT n FROM towel;".to_vec();
    let (code, out, err) = piped(td(&site, &["app", "db"]), sql);
    assert_eq!((code, String::from_utf8_lossy(&out).into_owned()), (0, "n\n42\n".to_owned()), "{err}");
    assert_ne!(site.td(&["app", "db", "-e", "SELECT * FROM mysql.user"]).code, 0);
    let password = shell(&site, "printenv DB_PASSWORD").stdout;
    let mut child = td(&site, &["app", "db", "-e", "SELECT SLEEP(77)"]).stdout(Stdio::null()).spawn().unwrap();
    until(Duration::from_secs(20), "the client runs", || !processes("mariadb --no-defaults").is_empty());
    let lines =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    let shown: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect();
    assert!(!shown.iter().any(|line| line.contains(password.trim())), "the password is nobody's to see");
    child.kill().unwrap();
    child.wait().unwrap();
    until(Duration::from_secs(10), "the client ends", || processes("mariadb --no-defaults").is_empty());
    // From the client's own shell one sees no more than the app does.
    let said = piped(td(&site, &["app", "db"]), b"\\! id -u; ls /app | wc -l\n".to_vec());
    assert!(!String::from_utf8_lossy(&said.1).starts_with("0\n"), "{said:?}");
}

/// Starts a tunnel; gives the port that it listens on.
fn tunnel(site: &Site, to: &str) -> (Child, u16) {
    let mut child = td(site, &["app", "tunnel", to]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
    (child, port)
}

#[test]
#[ignore = "needs the laboratory"]
fn tunnels_lead_to_the_instances_own_services() {
    let site = deployed("eddie");
    let (mut child, port) = tunnel(&site, "memcached");
    let mut threads = Vec::new();
    for n in 0..8 {
        threads.push(std::thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let value = vec![b'a' + n; 500_000];
            stream.write_all(format!("set key{n} 0 0 {}\r\n", value.len()).as_bytes()).unwrap();
            stream.write_all(&value).unwrap();
            stream.write_all(format!("\r\nget key{n}\r\nquit\r\n").as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"STORED\r\nVALUE"));
            assert_eq!(answer.iter().filter(|b| **b == b'a' + n).count() / 100_000, 5);
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, port) = tunnel(&site, "db");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut greeting = [0; 64];
    stream.read_exact(&mut greeting).unwrap();
    assert!(String::from_utf8_lossy(&greeting).contains("MariaDB"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 200, "the tunnel ends with td");
}

/// Runs the real sftp client over td's own door.
fn sftp(site: &Site, batch: &str) -> Ended {
    let door = site.path().join("door");
    let td = site.lab.home.join("bin/td");
    let config = site.lab.home.join("td");
    let script =
        format!("#!/bin/sh\nTD_CONFIG_DIR={} exec {} app sftp --app {}\n", config.display(), td.display(), site.name);
    std::fs::write(&door, script).unwrap();
    std::fs::set_permissions(&door, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = site.path().join("batch");
    std::fs::write(&file, batch).unwrap();
    let mut command = Command::new("sftp");
    command.arg("-b").arg(file).arg("-D").arg(door).current_dir(site.path());
    magrathea_tests::run(&mut command)
}

#[test]
#[ignore = "needs the laboratory"]
fn files_are_the_writable_paths_alone() {
    let site = deployed("magicthise");
    let bytes = random(20 << 20);
    std::fs::write(site.path().join("big"), &bytes).unwrap();
    sftp(&site, "pwd\nput big uploads/big\nmkdir uploads/deep\nrename uploads/big uploads/deep/big\n").ok();
    let sum = shell(&site, "sha256sum uploads/deep/big").stdout;
    assert!(sum.starts_with(&hex::encode(Sha256::digest(&bytes))), "{sum}");
    sftp(&site, "get uploads/deep/big back\nrm uploads/deep/big\n").ok();
    assert_eq!(std::fs::read(site.path().join("back")).unwrap(), bytes);
    // The app reads what came, as its own.
    sftp(&site, "put magrathea.yml data/private/note\n").ok();
    assert!(shell(&site, "echo more >> data/private/note && cat data/private/note").ok().stdout.contains("more"));
    // The code is not there, and nothing else of the node's or of others'.
    let listed = sftp(&site, "ls -a /app\nls /app/uploads\n").ok().stdout;
    assert!(listed.contains("uploads") && !listed.contains("index.php"), "{listed}");
    let home = site.lab.home.display().to_string();
    shell(&site, &format!("cd uploads && ln -s /app/index.php code && ln -s {home} home && ln -s ../../.. up && ln -s / root && ln -s /proc/1/root init")).ok();
    for hostile in [
        "get uploads/code stolen",
        "get uploads/home/td/credentials.json stolen",
        "get uploads/up/var/run/docker.sock stolen",
        &format!("get uploads/root{home}/td/credentials.json stolen"),
        &format!("get uploads/init{home}/td/credentials.json stolen"),
        &format!("get ../../../..{home}/td/credentials.json stolen"),
        "put magrathea.yml /app/index.php",
        "put magrathea.yml uploads/../index.php",
        "put magrathea.yml uploads/code",
        "put magrathea.yml uploads/root/etc/cron.d/x",
        "put magrathea.yml uploads/init/etc/cron.d/x",
        "rm /etc/passwd",
    ] {
        let ended = sftp(&site, hostile);
        assert_ne!(ended.code, 0, "{hostile}: {ended:?}");
        assert!(!site.path().join("stolen").exists(), "{hostile}");
    }
    assert_eq!(shell(&site, "cat index.php").stdout, "<?php echo 'at home';");
    until(Duration::from_secs(10), "its containers are gone", || {
        let label = format!("label=magrathea.owner={}", site.lab.prefix());
        site.lab.docker(&["ps", "-aq", "--filter", &label, "--filter", "label=magrathea.once=files"]).trim().is_empty()
    });
}
