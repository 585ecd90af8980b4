//! How long pushes take: until the new version is served, and beside OpenSSH with git's own receive-pack.

use std::time::{Duration, Instant};

use crate::load::{Answer, Load, failures};
use crate::plain::PlainSsh;
use crate::repo::Repo;
use crate::site::Site;
use crate::ssh::Ssh;
use crate::{Lab, run};

/// One figure: what, measured, reference, ratio, target.
pub type Figure = (String, String, String, String, &'static str);

/// Rounds of a one-line change, and of a first push.
const ROUNDS: usize = 15;
const FIRSTS: usize = 3;

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn page(version: usize) -> String {
    format!("<?php header('Cache-Control: no-store'); echo 'version {version}';")
}

/// All figures.
pub fn measure(lab: &Lab) -> Vec<Figure> {
    let mut figures = served(lab);
    figures.extend(one_line(lab));
    figures.extend(first_push(lab));
    figures
}

/// A repository that pushes to an app over SSH.
fn over_ssh(lab: &Lab, ssh: &Ssh, app: &str) -> (Site, Repo) {
    let (site, mut repo) = (Site::new(lab, app), Repo::new(lab));
    site.td(&["app", "create", app]).ok();
    repo.td(&["app", "link", app]).ok();
    repo.ssh = Some(ssh.git_ssh_command());
    (site, repo)
}

/// A one-line change until the first new response, over SSH, at 50 requests a second.
fn served(lab: &Lab) -> Vec<Figure> {
    let ssh = Ssh::new(lab);
    let (site, repo) = over_ssh(lab, &ssh, "bench-push");
    repo.file("index.php", page(0)).commit();
    repo.push("main").ok();
    let load = Load::start(lab.client(), site.url("/"), 50, Duration::from_secs(300));
    let mut spans = Vec::new();
    for n in 1..=10 {
        repo.file("index.php", page(n)).commit();
        spans.push((n, Instant::now()));
        repo.push("main").ok();
        std::thread::sleep(Duration::from_secs(1));
    }
    let answers = load.finish();
    let is = |answer: &Answer, n: usize| answer.outcome.as_ref().is_ok_and(|body| *body == format!("version {n}"));
    let first = |n: usize, from: Instant| {
        let of = answers.iter().filter(|answer| is(answer, n)).map(|answer| answer.ended);
        of.min().map_or(f64::INFINITY, |at| at.duration_since(from).as_secs_f64())
    };
    let mut seconds: Vec<f64> = spans.into_iter().map(|(n, from)| first(n, from)).collect();
    let lost = failures(&answers).len();
    vec![
        (
            "git push of one line to first new response, median of 10".into(),
            format!("{:.2} s", median(&mut seconds)),
            format!("worst {:.2} s", seconds.last().copied().unwrap_or(f64::NAN)),
            String::new(),
            "≤ 1.8 s",
        ),
        (
            "git push: failed requests".into(),
            lost.to_string(),
            format!("{} requests", answers.len()),
            String::new(),
            "0",
        ),
    ]
}

/// A one-line change to a branch that nothing follows: what a push costs without its deploy.
fn one_line(lab: &Lab) -> Vec<Figure> {
    let (ssh, plain) = (Ssh::new(lab), PlainSsh::start());
    let (_site, mut repo) = over_ssh(lab, &ssh, "bench-line");
    repo.file("index.php", page(0)).commit();
    repo.git(&["remote", "add", "plain", &plain.repository("line.git")]).ok();
    repo.git(&["remote", "add", "secure", &https(lab, &repo, "bench-line")]).ok();
    let commands =
        [("magrathea", Some(ssh.git_ssh_command())), ("plain", Some(plain.git_ssh_command())), ("secure", None)];
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    // What comes first pays for others' start; it is not counted.
    for n in 0..=ROUNDS {
        repo.file("index.php", page(n)).commit();
        for ((remote, command), took) in commands.iter().zip(&mut took) {
            repo.ssh.clone_from(command);
            let from = Instant::now();
            repo.git(&["push", "--quiet", remote, "main:topic"]).ok();
            if n > 0 {
                took.push(from.elapsed().as_secs_f64());
            }
        }
    }
    let [ours, plain, secure] = took.map(|mut took| median(&mut took));
    let figure = |what: &str, measured: f64, target| {
        let (measured, ratio) = (format!("{:.0} ms", measured * 1e3), format!("{:.2}", measured / plain));
        (what.to_owned(), measured, format!("{:.0} ms OpenSSH + receive-pack", plain * 1e3), ratio, target)
    };
    vec![
        figure("push of one line over SSH, without a deploy, median of 15", ours, "≤ 1.3"),
        figure("the same over HTTPS", secure, ""),
    ]
}

fn https(lab: &Lab, repo: &Repo, app: &str) -> String {
    let other = Repo::new(lab);
    let url = other.td(&["app", "link", app, "--https"]).ok().stdout.trim().to_owned();
    // What git must know for it.
    let config = std::fs::read_to_string(other.path().join(".git/config")).unwrap();
    let start = config.find("[http ").unwrap();
    let path = repo.path().join(".git/config");
    let own = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, own + &config[start..]).unwrap();
    url
}

/// 100 MB in 10,000 files, to a repository that is empty.
fn first_push(lab: &Lab) -> Vec<Figure> {
    let (ssh, plain) = (Ssh::new(lab), PlainSsh::start());
    let mut repo = Repo::new(lab);
    let mut seed: u64 = 42;
    for n in 0..10_000 {
        let mut bytes = Vec::with_capacity(10_000);
        while bytes.len() < 10_000 {
            // xorshift: nothing in it can be compressed.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes.extend(seed.to_le_bytes());
        }
        repo.file(&format!("data/{}/{n}", n % 100), bytes);
    }
    repo.commit();
    // As a clone would have it: packed once, so that the client's share is small and the same.
    repo.git(&["repack", "-adq"]).ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..FIRSTS {
        let app = format!("bench-first{n}");
        let site = Site::new(lab, &app);
        site.td(&["app", "create", &app]).ok();
        let mut timed = |command: String, url: &str| {
            repo.ssh = Some(command);
            let from = Instant::now();
            repo.git(&["push", "--quiet", url, "main:topic"]).ok();
            from.elapsed().as_secs_f64()
        };
        theirs.push(timed(plain.git_ssh_command(), &plain.repository(&format!("first{n}.git"))));
        let url = format!("ssh://git@{}:{}/{app}.git", ssh.host, ssh.port);
        ours.push(timed(ssh.git_ssh_command(), &url));
        run(&mut std::process::Command::new("sync"));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    vec![(
        "first push of 100 MB in 10,000 files over SSH, without a deploy, median of 3".into(),
        format!("{ours:.2} s"),
        format!("{theirs:.2} s OpenSSH + receive-pack"),
        format!("{:.2}", ours / theirs),
        "≤ 1.3",
    )]
}
