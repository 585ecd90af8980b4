//! A repository of 1 GiB that nothing can make smaller: pushed and cloned over both transports, while the gateway's own memory
//! stays what it was.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use magrathea_tests::Lab;
use magrathea_tests::repo::Repo;
use magrathea_tests::site::Site;
use magrathea_tests::ssh::Ssh;

const FILES: usize = 128;
const FILE: usize = 8 << 20;

/// MiB by which the gateway's peak may exceed what it had.
const ALLOWED: u64 = 64;

/// A branch of large files, written as a pack at once; its commit.
fn fill(repo: &Repo) -> String {
    // The client's own work is none of the test's: nothing is compressed, and no file compared with another.
    for (key, value) in [("core.compression", "0"), ("core.bigFileThreshold", "1m")] {
        repo.git(&["config", key, value]).ok();
    }
    let mut import = repo.command(&repo.path(), &["fast-import", "--quiet"]);
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    let mut stream = import.stdin.take().unwrap();
    let mut random = File::open("/dev/urandom").unwrap();
    let mut content = vec![0; FILE];
    for n in 1..=FILES {
        random.read_exact(&mut content).unwrap();
        write!(stream, "blob\nmark :{n}\ndata {FILE}\n").unwrap();
        stream.write_all(&content).unwrap();
    }
    write!(stream, "\ncommit refs/heads/archive\ncommitter Ada <ada@example.com> 0 +0000\ndata 5\nlarge\n").unwrap();
    for n in 1..=FILES {
        writeln!(stream, "M 644 :{n} {n}").unwrap();
    }
    drop(stream);
    assert!(import.wait().unwrap().success());
    repo.git(&["rev-parse", "archive"]).ok().stdout.trim().to_owned()
}

/// The gateway's memory.
struct Memory(PathBuf);

impl Memory {
    fn of(lab: &Lab) -> Memory {
        let pid = std::fs::read_to_string(lab.home.join("run/magrathea-gateway.pid")).unwrap();
        Memory(PathBuf::from("/proc").join(pid.trim()))
    }

    fn read(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(self.0.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }

    /// What some work does; its peak must not be much above what there was before.
    #[track_caller]
    fn bounded(&self, what: &str, work: impl FnOnce()) {
        // The kernel's peak begins anew: proc(5), clear_refs.
        std::fs::write(self.0.join("clear_refs"), "5").unwrap();
        let (before, began) = (self.read("VmRSS:"), std::time::Instant::now());
        work();
        let peak = self.read("VmHWM:");
        eprintln!("{what}: {:.1} s, {before} MiB, at most {peak} MiB", began.elapsed().as_secs_f64());
        assert!(peak <= before + ALLOWED, "{what}: {before} MiB grew to {peak} MiB");
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn a_gibibyte_is_pushed_and_cloned_in_little_memory() {
    let lab = Lab::get();
    let (memory, ssh) = (Memory::of(&lab), Ssh::new(&lab));
    let mut repo = Repo::new(&lab);
    let commit = fill(&repo);
    for transport in ["ssh", "https"] {
        let app = format!("large-{transport}");
        let site = Site::new(&lab, &app);
        site.td(&["app", "create", &app]).ok();
        let over_ssh = (transport == "ssh").then(|| ssh.git_ssh_command());
        let link = |repo: &Repo| match transport {
            "ssh" => repo.td(&["app", "link", &app]).ok(),
            _ => repo.td(&["app", "link", &app, "--https"]).ok(),
        };
        repo.ssh.clone_from(&over_ssh);
        link(&repo);
        memory.bounded(&format!("push over {transport}"), || {
            let said = repo.push("archive").ok().stderr;
            assert!(said.contains("archive is stored and not deployed"), "{said}");
        });
        let mut clone = Repo::new(&lab);
        clone.ssh = over_ssh;
        link(&clone);
        memory.bounded(&format!("clone over {transport}"), || {
            clone.git(&["fetch", "--quiet", "magrathea"]).ok();
        });
        assert_eq!(clone.git(&["rev-parse", "magrathea/archive"]).ok().stdout.trim(), commit);
    }
}
