//! What somebody asks for over SSH: the user name says which instance, the request what to do with it. Pure.

use magrathea_core::names::{AppName, ClusterName, LabelName};

use crate::remote::FilesProgram;

/// The longest command that is looked at, in bytes.
const MAX_COMMAND: usize = 32 << 10;

/// What a channel is to run, as the client put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

/// What that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Nothing is to be done but to say hello.
    Greeting,
    /// One of git's own commands, for [`crate::git`] to read.
    Git(String),
    Shell {
        at: Target,
        command: Option<String>,
    },
    Files {
        at: Target,
        program: FilesProgram,
    },
}

/// An instance, by name. Whether there is one is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub app: AppName,
    /// May be left out for an app with a single instance.
    pub label: Option<LabelName>,
    /// May be left out for a label on a single cluster.
    pub cluster: Option<ClusterName>,
}

/// Why a request makes no sense; a sentence for the person, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Misunderstood {
    pub message: String,
    pub hint: &'static str,
}

const WHO: &str = "log in as APP.LABEL or APP.LABEL.CLUSTER for a shell, or as git to push and clone";

/// Reads a request; `user` is the name that the client logged in as.
pub fn parse_request(user: &str, start: Start) -> Result<Request, Misunderstood> {
    let command = match start {
        Start::Shell => None,
        Start::Exec(command) => Some(parse_command(command)?),
        Start::Subsystem(name) if name == "sftp" => {
            return Ok(Request::Files { at: user.parse()?, program: FilesProgram::Sftp });
        }
        Start::Subsystem(name) => {
            let message = format!("there is no subsystem {:?}", name.chars().take(40).collect::<String>());
            return Err(Misunderstood { message, hint: "sftp is one" });
        }
    };
    match command {
        Some(command) if is_git(&command) => Ok(Request::Git(command)),
        None if user == "git" => Ok(Request::Greeting),
        Some(command) if is_files(&command) => {
            Ok(Request::Files { at: user.parse()?, program: FilesProgram::Line(command) })
        }
        command => Ok(Request::Shell { at: user.parse()?, command }),
    }
}

fn parse_command(bytes: Vec<u8>) -> Result<String, Misunderstood> {
    let refuse =
        |message: &str| Misunderstood { message: message.to_owned(), hint: "put it into a file, and run that" };
    if bytes.len() > MAX_COMMAND {
        return Err(refuse("the command is longer than 32 KiB"));
    }
    let command = String::from_utf8(bytes).map_err(|_| refuse("the command is not UTF-8"))?;
    if command.contains('\0') {
        return Err(refuse("the command holds a zero byte"));
    }
    Ok(command)
}

/// Whatever looks like git's business is read by git's own strict parser.
fn is_git(command: &str) -> bool {
    let mut words = command.split_ascii_whitespace();
    match words.next() {
        Some("git") => {
            words.next().is_some_and(|word| ["receive-pack", "upload-pack", "upload-archive"].contains(&word))
        }
        Some(word) => word.starts_with("git-"),
        None => false,
    }
}

/// What `scp -O` and `rsync` ask their other side to run.
fn is_files(command: &str) -> bool {
    let mut words = command.split_ascii_whitespace();
    match words.next() {
        Some("scp") => words.take_while(|word| word.starts_with('-')).any(|word| word == "-t" || word == "-f"),
        Some("rsync") => words.next() == Some("--server"),
        _ => false,
    }
}

impl std::str::FromStr for Target {
    type Err = Misunderstood;

    fn from_str(user: &str) -> Result<Self, Misunderstood> {
        let mut parts = user.splitn(3, '.');
        let (app, label, cluster) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let refuse = |error: magrathea_core::names::NameError| Misunderstood { message: error.to_string(), hint: WHO };
        Ok(Target {
            app: app.parse().map_err(refuse)?,
            label: label.map(str::parse).transpose().map_err(refuse)?,
            cluster: cluster.map(str::parse).transpose().map_err(refuse)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_request_say_what_to_do() {
        let at = |text: &str| text.parse::<Target>().unwrap();
        let exec = |command: &str| Start::Exec(command.into());
        let shell = |target, command: Option<&str>| Request::Shell { at: at(target), command: command.map(Into::into) };
        let files =
            |target, command: &str| Request::Files { at: at(target), program: FilesProgram::Line(command.to_owned()) };
        for (user, start, expect) in [
            ("git", Start::Shell, Request::Greeting),
            ("git", exec("git-receive-pack '/blog.git'"), Request::Git("git-receive-pack '/blog.git'".into())),
            ("blog", exec("git upload-pack '/blog.git'"), Request::Git("git upload-pack '/blog.git'".into())),
            ("blog.staging", Start::Shell, shell("blog.staging", None)),
            ("blog.staging.milan", Start::Shell, shell("blog.staging.milan", None)),
            ("blog", exec("ls -l"), shell("blog", Some("ls -l"))),
            ("blog", exec("git log"), shell("blog", Some("git log"))),
            (
                "git",
                exec("git-lfs-authenticate blog.git upload"),
                Request::Git("git-lfs-authenticate blog.git upload".into()),
            ),
            ("blog", exec(""), shell("blog", Some(""))),
            ("blog", exec("scp -r -t uploads"), files("blog", "scp -r -t uploads")),
            ("blog", exec("scp a b"), shell("blog", Some("scp a b"))),
            ("blog", exec("rsync --server -a . x"), files("blog", "rsync --server -a . x")),
            (
                "blog.staging",
                Start::Subsystem("sftp".into()),
                Request::Files { at: at("blog.staging"), program: FilesProgram::Sftp },
            ),
        ] {
            assert_eq!(parse_request(user, start.clone()), Ok(expect), "{user} {start:?}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        let long = vec![b'x'; MAX_COMMAND + 1];
        let mut out = String::new();
        for (user, start) in [
            ("Blog", Start::Shell),
            ("", Start::Shell),
            ("blog.", Start::Shell),
            ("blog.a.b.c", Start::Shell),
            ("blog.a.", Start::Shell),
            ("../blog", Start::Exec(b"ls".to_vec())),
            ("root", Start::Shell),
            ("blog", Start::Exec(vec![0xff])),
            ("blog", Start::Exec(b"a\0b".to_vec())),
            ("blog", Start::Exec(long)),
            ("blog", Start::Subsystem("netconf".into())),
        ] {
            let error = parse_request(user, start).unwrap_err();
            out += &format!("{user}: {error}; {}\n", error.hint);
        }
        insta::assert_snapshot!(out);
    }
}
