//! What a push is compared with: OpenSSH's own server with git's own receive-pack behind it, on the same machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::ssh::make_key;
use crate::{run, until};

/// A server on this machine's loopback alone, ended when it is dropped.
pub struct PlainSsh {
    folder: tempfile::TempDir,
    port: u16,
    server: Child,
}

impl PlainSsh {
    pub fn start() -> PlainSsh {
        let folder = tempfile::Builder::new().prefix("plain-ssh").tempdir_in("/var/lib").unwrap();
        let path = |name: &str| folder.path().join(name);
        make_key(&path("host"), &["-t", "ed25519"]);
        make_key(&path("key"), &["-t", "ed25519"]);
        std::fs::copy(path("key.pub"), path("authorized")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n",
            path("host").display(),
            path("authorized").display()
        );
        std::fs::write(path("config"), config).unwrap();
        let known = std::fs::read_to_string(path("host.pub")).unwrap();
        std::fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {known}")).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let mut server = Command::new("/usr/sbin/sshd");
        server.arg("-D").arg("-f").arg(path("config")).stdin(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("the bench needs Debian's openssh-server");
        until(Duration::from_secs(10), "OpenSSH's server answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        PlainSsh { folder, port, server }
    }

    /// What git is to run for SSH.
    pub fn git_ssh_command(&self) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "ssh -F none -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o LogLevel=ERROR \
             -o UserKnownHostsFile={} -o IdentityFile={}",
            path("known_hosts"),
            path("key")
        )
    }

    /// A new bare repository: its URL.
    pub fn repository(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&path)).ok();
        format!("ssh://root@127.0.0.1:{}{}", self.port, Path::new(&path).display())
    }
}

impl Drop for PlainSsh {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
