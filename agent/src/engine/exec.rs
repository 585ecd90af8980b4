//! Programs run inside running containers, and the containers' logs.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptions;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::Engine;
use crate::fail::{Doing, Outcome};

/// What a program said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub code: i64,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Everything it said, errors first.
    pub fn all(&self) -> String {
        [self.err.trim(), self.out.trim()].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>().join("\n")
    }
}

/// More than this of a program's output is not kept.
const MOST_OUTPUT: usize = 4 << 20;
/// How long the end of a log may take to come.
const TAIL_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Runs a program in a container with a text on its input.
    pub async fn exec(&self, container: &str, command: &[&str], input: Option<&str>) -> Outcome<Said> {
        let doing = || format!("running {} in a container", command.first().unwrap_or(&""));
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdin: Some(input.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let created = self.docker.create_exec(container, options).await.doing(doing)?;
        let started = self.docker.start_exec(&created.id, None::<StartExecOptions>).await.doing(doing)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        if let StartExecResults::Attached { mut output, input: mut stdin } = started {
            let feed = async {
                if let Some(input) = input {
                    stdin.write_all(input.as_bytes()).await?;
                    stdin.shutdown().await?;
                }
                Ok::<_, std::io::Error>(stdin)
            };
            let read = async {
                while let Some(chunk) = output.next().await {
                    let (into, message) = match chunk.doing(doing)? {
                        LogOutput::StdErr { message } => (&mut err, message),
                        LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut out, message),
                        LogOutput::StdIn { .. } => continue,
                    };
                    if into.len() < MOST_OUTPUT {
                        into.extend_from_slice(&message);
                    }
                }
                Ok(())
            };
            let (fed, read): (_, Outcome<()>) = tokio::join!(feed, read);
            read?;
            // A program that ended without reading its input tells why by its status.
            drop(fed);
        }
        let inspected = self.docker.inspect_exec(&created.id).await.doing(doing)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { code: inspected.exit_code.unwrap_or(-1), out: text(out), err: text(err) })
    }

    /// The last lines that a container said.
    pub async fn log_tail(&self, container: &str, lines: u32) -> Vec<String> {
        tail_of(self.docker.logs(container, Some(tail(lines)))).await
    }

    /// The last lines of all of a service's replicas, on whatever node, by the plan's name.
    pub async fn service_tail(&self, service: &str, lines: u32) -> Vec<String> {
        let name = self.prefix.name(service);
        tail_of(self.docker.service_logs(&name, Some(tail(lines)))).await
    }
}

fn tail(lines: u32) -> LogsOptions {
    LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() }
}

/// What came in time: a node that is gone says nothing.
async fn tail_of(stream: impl Stream<Item = Result<LogOutput, bollard::errors::Error>>) -> Vec<String> {
    let mut stream = std::pin::pin!(stream);
    let mut said = Vec::new();
    let read = async {
        while let Some(Ok(chunk)) = stream.next().await {
            said.extend_from_slice(&chunk.into_bytes());
        }
    };
    let _ = tokio::time::timeout(TAIL_LIMIT, read).await;
    String::from_utf8_lossy(&said).lines().map(|line| line.chars().take(500).collect()).collect()
}
