//! Programs in containers with somebody at them: the engine hands its connection over, and bytes go both ways as they
//! are. Not bollard's reader: it takes a terminal's bytes for its own framing when they look like it.

use std::collections::BTreeMap;

use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use magrathea_core::wire::{Size, Tty};
use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

use super::Engine;
use crate::fail::{Doing, Outcome, node};

/// A program to start in a running container.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    pub command: &'a [String],
    pub tty: Option<&'a Tty>,
    pub env: &'a BTreeMap<String, String>,
}

type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// A program that was started, and the connection to it.
pub struct Attached {
    /// The engine's name for it.
    pub id: String,
    pub output: Output,
    /// Its standard input; shut down, the program reads an end.
    pub input: WriteHalf<Connection>,
}

/// How a program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub running: bool,
    /// On the node; none before it has started.
    pub pid: Option<i32>,
    pub code: Option<i32>,
}

impl Engine {
    /// Starts a program in a container, as the container's user and in its folder.
    pub async fn attach(&self, container: &str, program: &Program<'_>) -> Outcome<Attached> {
        let doing = || format!("running {} in a container", program.command.first().map_or("", String::as_str));
        let mut env: Vec<_> = program.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        env.extend(program.tty.map(|tty| format!("TERM={}", tty.term)));
        let options = CreateExecOptions {
            cmd: Some(program.command.to_vec()),
            env: Some(env),
            tty: Some(program.tty.is_some()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let created = self.docker.create_exec(container, options).await.doing(doing)?;
        let tty = program.tty.is_some();
        let connection =
            self.hijack(&created.id, tty).await.map_err(|error| node(format!("{}: {error:#}", doing())))?;
        let (read, input) = tokio::io::split(TokioIo::new(connection));
        Ok(Attached { id: created.id, output: Output { read, tty, kind: Kind::Out, left: 0 }, input })
    }

    async fn hijack(&self, exec: &str, tty: bool) -> anyhow::Result<hyper::upgrade::Upgraded> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = serde_json::json!({"Detach": false, "Tty": tty}).to_string();
        let request = Request::post(format!("/exec/{exec}/start"))
            .header(header::HOST, "docker")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(Full::new(Bytes::from(body)))?;
        let answered = async move {
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                let status = answer.status();
                let text = http_body_util::BodyExt::collect(answer.into_body()).await?.to_bytes();
                anyhow::bail!("the engine says ({status}): {}", String::from_utf8_lossy(&text).trim());
            }
            Ok(hyper::upgrade::on(answer).await?)
        };
        let work = async {
            let (upgraded, connection) = tokio::join!(answered, connection.with_upgrades());
            let upgraded = upgraded?;
            connection?;
            Ok(upgraded)
        };
        tokio::time::timeout(std::time::Duration::from_secs(super::REQUEST_TIMEOUT), work).await?
    }

    /// Gives a program's terminal another size.
    pub async fn resize(&self, exec: &str, size: Size) -> Outcome<()> {
        let options = ResizeExecOptions { height: size.rows, width: size.cols };
        self.docker.resize_exec(exec, options).await.doing(|| "resizing a terminal".into())
    }

    /// How a program stands.
    pub async fn standing(&self, exec: &str) -> Outcome<Standing> {
        let inspected = self.docker.inspect_exec(exec).await.doing(|| "looking after a program".into())?;
        Ok(Standing {
            running: inspected.running.unwrap_or_default(),
            pid: inspected.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1),
            code: inspected.exit_code.and_then(|code| i32::try_from(code).ok()),
        })
    }
}

/// What a piece of output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Out,
    Error,
}

/// A program's output: a terminal's as it comes, otherwise cut out of the engine's framing.
pub struct Output<R = ReadHalf<Connection>> {
    read: R,
    tty: bool,
    kind: Kind,
    /// Of the present frame.
    left: usize,
}

impl<R: AsyncRead + Unpin> Output<R> {
    /// Reads the next piece into the buffer; none at the end. May be dropped while it waits between pieces only.
    pub async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<Option<(Kind, usize)>> {
        if self.tty {
            let count = self.read.read(buffer).await?;
            return Ok((count > 0).then_some((Kind::Out, count)));
        }
        while self.left == 0 {
            let mut head = [0; 8];
            if self.read.read(&mut head[..1]).await? == 0 {
                return Ok(None);
            }
            self.read.read_exact(&mut head[1..]).await?;
            let [kind, _, _, _, a, b, c, d] = head;
            self.kind = if kind == 2 { Kind::Error } else { Kind::Out };
            self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        let most = self.left.min(buffer.len());
        let count = self.read.read(buffer.get_mut(..most).unwrap_or_default()).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(Some((self.kind, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(tty: bool, bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut output = Output { read: bytes, tty, kind: Kind::Out, left: 0 };
        let (mut pieces, mut buffer) = (Vec::new(), [0; 4]);
        while let Some((kind, count)) = output.read(&mut buffer).await.unwrap() {
            pieces.push((kind, buffer[..count].to_vec()));
        }
        pieces
    }

    #[tokio::test]
    async fn output_comes_apart() {
        let framed = b"\x01\0\0\0\0\0\0\x05abcde\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x02\x01\0";
        let pieces = [(Kind::Out, b"abcd".to_vec()), (Kind::Out, b"e".to_vec()), (Kind::Error, b"\x01\0".to_vec())];
        assert_eq!(read_all(false, framed).await, pieces);
    }

    #[tokio::test]
    async fn a_terminal_may_show_anything() {
        let hostile = b"\x01\0\0\0\xff\xff\xff\xff!";
        let all: Vec<u8> = read_all(true, hostile).await.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(all, hostile);
    }
}
