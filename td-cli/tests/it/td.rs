//! Running `td`, and its output in a form that stays the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::gateway::{Gateway, TOKEN};

/// A person's machine: a working folder and credentials for a gateway.
pub struct Desk {
    pub gateway: Gateway,
    home: tempfile::TempDir,
    pub folder: PathBuf,
}

/// How td ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    pub fn new() -> Self {
        let gateway = Gateway::start();
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        std::fs::create_dir(&config).unwrap();
        let address = format!("https://{}", gateway.address);
        let credentials = json!({"gateway": address, "token": TOKEN, "ca": gateway.ca});
        std::fs::write(config.join("credentials.json"), credentials.to_string()).unwrap();
        let folder = home.path().canonicalize().unwrap().join("blog");
        std::fs::create_dir(&folder).unwrap();
        Desk { gateway, home, folder }
    }

    /// Writes a file below the working folder.
    pub fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Runs git in the working folder, always at the same second.
    pub fn git(&self, arguments: &[&str]) -> &Self {
        let out = self
            .clean(Command::new("git"))
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@blog.example", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
            .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
            .output()
            .unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        self
    }

    /// Puts everything into a first commit.
    pub fn commit(&self) -> &Self {
        self.git(&["init", "-q"]).git(&["add", "."]).git(&["commit", "-q", "-m", "First light"])
    }

    /// td, not yet started, without anything of the tester's own surroundings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.clean(Command::new(env!("CARGO_BIN_EXE_td")));
        command.args(arguments).env("TD_CONFIG_DIR", self.home.path().join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn clean(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", env!("PATH")).env("HOME", self.home.path()).current_dir(&self.folder);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CEILING_DIRECTORIES", self.home.path());
        command
    }

    pub fn td(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// What a test of td's words looks at.
    pub fn shown(&self, arguments: &[&str]) -> String {
        self.show(arguments, &self.td(arguments))
    }

    pub fn show(&self, arguments: &[&str], ended: &Ended) -> String {
        let text = format!(
            "$ td {}\nexit {}\n--- stdout\n{}--- stderr\n{}",
            arguments.join(" "),
            ended.code,
            ended.stdout,
            ended.stderr
        );
        assert!(!text.contains(TOKEN), "the token is told:\n{text}");
        assert!(!text.contains('\x1b'), "escape sequences in a pipe:\n{text}");
        let text = text.replace(&format!("https://{}", self.gateway.address), "https://GATEWAY");
        let text = text.replace(&self.home.path().canonicalize().unwrap().display().to_string(), "HOME");
        let text = text.replace(&self.home.path().display().to_string(), "HOME");
        text.lines().map(mask).collect::<Vec<_>>().join("\n")
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Ended {
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Takes out what differs from run to run: how long things took and how well they compressed.
fn mask(line: &str) -> String {
    let numbers = |text: &str| {
        let words = text.split(' ').map(|word| if word.parse::<f64>().is_ok() { "#" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    if line.starts_with("-----> send") {
        return numbers(line);
    }
    match line.rsplit_once(" in ") {
        Some((before, after)) if line.starts_with("=====> v") => format!("{before} in {}", numbers(after)),
        _ => line.to_owned(),
    }
}
