//! What a git client asks for over SSH: one of two services, on one app's repository. Pure; strict, because the text comes
//! from outside and names something on disk.

use magrathea_core::names::{AppName, NameError};

/// The two services that git knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `git push`.
    ReceivePack,
    /// `git clone`, `git fetch`.
    UploadPack,
}

impl Service {
    /// As in `git-receive-pack`.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::ReceivePack => "git-receive-pack",
            Service::UploadPack => "git-upload-pack",
        }
    }

    /// The service of this name.
    pub fn named(name: &str) -> Option<Service> {
        [Service::ReceivePack, Service::UploadPack].into_iter().find(|service| service.as_str() == name)
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    pub service: Service,
    pub app: AppName,
    /// The client's `GIT_PROTOCOL`, as in `version=2`.
    pub protocol: Option<String>,
}

/// Why a command is not a [`GitRequest`]. Displays as what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It has nothing to do with git; another door may know it.
    #[error("this is no command of git's")]
    NotGit,
    #[error("{LFS}")]
    Lfs,
    #[error("archives are not served; clone the repository and run `git archive` in the clone")]
    Archive,
    #[error("a repository is named like its app, as in `blog.git`; {0:?} is not")]
    Path(String),
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What users of Git LFS are told.
pub const LFS: &str = "Git LFS objects are not kept here: commit the files themselves, or upload them to a writable path; \
                       `GIT_LFS_SKIP_PUSH=1 git push` sends the pointers alone";

impl GitRequest {
    /// Reads the command of an SSH client, as in `git-receive-pack '/blog.git'`.
    pub fn parse(command: &str) -> Result<GitRequest, RequestError> {
        let command = command.trim();
        let command = match command.strip_prefix("git ") {
            Some(rest) => format!("git-{}", rest.trim_start()),
            None => command.to_owned(),
        };
        let (name, argument) = command.split_once(' ').unwrap_or((&command, ""));
        match name {
            "git-lfs-authenticate" | "git-lfs-transfer" => return Err(RequestError::Lfs),
            "git-upload-archive" => return Err(RequestError::Archive),
            _ => {}
        }
        let service = Service::named(name).ok_or(RequestError::NotGit)?;
        let argument = argument.trim();
        let path = match argument.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            Some(quoted) => quoted,
            None => argument,
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        Ok(GitRequest { service, app: parse_repository(path)?, protocol: None })
    }

    /// The same with what the client says of protocols, unless it is malformed.
    pub fn with_protocol(self, protocol: Option<&str>) -> GitRequest {
        let is_good = |text: &&str| {
            let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'=' | b':');
            !text.is_empty() && text.len() <= 64 && text.bytes().all(word)
        };
        GitRequest { protocol: protocol.filter(is_good).map(str::to_owned), ..self }
    }
}

/// The app that a repository's name is of: `blog.git` or `blog`.
pub fn parse_repository(name: &str) -> Result<AppName, RequestError> {
    let app = name.strip_suffix('/').unwrap_or(name);
    let app = app.strip_suffix(".git").unwrap_or(app);
    // What no app can be called is not repeated as a name, but as the path that was asked for.
    if app.is_empty() || app.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        return Err(RequestError::Path(name.chars().filter(|c| !c.is_control()).take(80).collect()));
    }
    Ok(app.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_strictly() {
        let good = |service, app: &str| Ok((service, app.to_owned()));
        for (command, expect) in [
            ("git-receive-pack '/blog.git'", good(Service::ReceivePack, "blog")),
            ("git-upload-pack 'blog.git'", good(Service::UploadPack, "blog")),
            ("git upload-pack blog", good(Service::UploadPack, "blog")),
            ("git-receive-pack '/blog.git/'", good(Service::ReceivePack, "blog")),
            ("git-receive-pack", Err("a repository is named like its app, as in `blog.git`; \"\" is not")),
            ("git-receive-pack ''", Err("a repository is named like its app, as in `blog.git`; \"\" is not")),
            (
                "git-receive-pack '/../etc/passwd'",
                Err("a repository is named like its app, as in `blog.git`; \"../etc/passwd\" is not"),
            ),
            (
                "git-receive-pack '//blog.git'",
                Err("a repository is named like its app, as in `blog.git`; \"/blog.git\" is not"),
            ),
            (
                "git-receive-pack 'a/../blog.git'",
                Err("a repository is named like its app, as in `blog.git`; \"a/../blog.git\" is not"),
            ),
            (
                "git-receive-pack '~root/blog.git'",
                Err("a repository is named like its app, as in `blog.git`; \"~root/blog.git\" is not"),
            ),
            (
                "git-receive-pack 'blog.git' 'shop.git'",
                Err("a repository is named like its app, as in `blog.git`; \"blog.git' 'shop.git\" is not"),
            ),
            (
                "git-receive-pack 'blog.git'; id",
                Err("a repository is named like its app, as in `blog.git`; \"'blog.git'; id\" is not"),
            ),
            ("git-receive-pack --help", Err("app name \"--help\" must start with a lower-case letter")),
            ("git-receive-pack 'Blog.git'", Err("app name \"Blog\" must start with a lower-case letter")),
            ("git-receive-pack 'gateway'", Err("app name \"gateway\" is reserved; choose another")),
            ("git-lfs-authenticate blog.git upload", Err(LFS)),
            (
                "git-upload-archive 'blog.git'",
                Err("archives are not served; clone the repository and run `git archive` in the clone"),
            ),
            ("git-shell", Err("this is no command of git's")),
            ("git", Err("this is no command of git's")),
            ("", Err("this is no command of git's")),
            ("scp -t /", Err("this is no command of git's")),
        ] {
            let parsed = GitRequest::parse(command).map(|r| (r.service, r.app.to_string())).map_err(|e| e.to_string());
            assert_eq!(parsed, expect.map_err(str::to_owned), "{command:?}");
        }
    }

    #[test]
    fn a_protocol_is_a_word() {
        let request = GitRequest::parse("git-upload-pack blog").unwrap();
        for (text, kept) in [
            (Some("version=2"), Some("version=2")),
            (Some("version=1:x=2"), Some("version=1:x=2")),
            (Some("a b"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(request.clone().with_protocol(text).protocol.as_deref(), kept, "{text:?}");
        }
    }
}
