//! One question to one replica.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use magrathea_core::wire::{AwaitHealthy, HttpProbe, Probe};

use super::command;
use crate::engine::Running;
use crate::fail::Outcome;
use crate::node::NodeAgent;

/// More than this of an answer is not looked at.
const MOST_BODY: usize = 64 << 10;
const MOST_SAID: usize = 200;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Well,
    /// It does not answer yet.
    None(String),
    Wrong(String),
}

/// Asks replicas of one service.
pub struct Prober {
    agent: Arc<NodeAgent>,
    client: reqwest::Client,
    wanted: AwaitHealthy,
}

impl Prober {
    pub fn new(agent: &Arc<NodeAgent>, wanted: &AwaitHealthy) -> Outcome<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(wanted.attempt_timeout.0)
            .tls_certs_only([])
            .build()
            .map_err(|error| crate::fail::internal(format!("making the prober: {error}")))?;
        Ok(Prober { agent: Arc::clone(agent), client, wanted: wanted.clone() })
    }

    /// Asks once; `ran` is how long the replica has been seen running.
    pub async fn ask(&self, replica: &Running, ran: Duration) -> Answer {
        let limit = self.wanted.attempt_timeout.0;
        let no_address = || Answer::None("it has no address yet".into());
        match &self.wanted.probe {
            Probe::Running { span } if ran >= span.0 => Answer::Well,
            Probe::Running { span } => Answer::None(format!("it did not run for {} s", span.0.as_secs())),
            Probe::Command { command, title } => {
                command::ask(&self.agent, &replica.container, command, title, limit).await
            }
            Probe::Tcp { port } => match replica.address {
                Some(ip) => connect(SocketAddr::new(ip, *port), limit).await,
                None => no_address(),
            },
            Probe::Http(wanted) => match replica.address {
                Some(ip) => self.get(ip, wanted).await,
                None => no_address(),
            },
        }
    }

    async fn get(&self, ip: IpAddr, wanted: &HttpProbe) -> Answer {
        let HttpProbe { port, host, path, expect_low, expect_high, contains } = wanted;
        let url = format!("http://{}{path}", SocketAddr::new(ip, *port));
        let request = self.client.get(url).header(reqwest::header::HOST, host).header("user-agent", "magrathea-health");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::None(format!("GET {path}: {}", innermost(&error))),
            Err(error) if error.is_timeout() => {
                return Answer::Wrong(format!(
                    "GET {path}: no answer within {} s",
                    self.wanted.attempt_timeout.0.as_secs()
                ));
            }
            Err(error) => return Answer::Wrong(format!("GET {path}: {}", innermost(&error))),
        };
        let status = response.status().as_u16();
        let fits = (*expect_low..=*expect_high).contains(&status);
        if fits && contains.is_none() {
            return Answer::Well;
        }
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(Ok(chunk)) = stream.next().await {
            body.extend_from_slice(&chunk);
            if body.len() >= MOST_BODY {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body);
        if fits && contains.as_deref().is_some_and(|text| body.contains(text)) {
            return Answer::Well;
        }
        let lack = if fits { ", without the wanted text" } else { "" };
        Answer::Wrong(format!("GET {path} answered {status}{lack}: {}", start_of(&body)))
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> Answer {
    let port = address.port();
    match tokio::time::timeout(limit, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Well,
        Ok(Err(error)) => Answer::None(format!("port {port} takes no connection: {error}")),
        Err(_) => Answer::None(format!("port {port} takes no connection within {} s", limit.as_secs())),
    }
}

/// The beginning of what was said, in one line.
pub(super) fn start_of(text: &str) -> String {
    let line: String = text.trim().chars().take(MOST_SAID).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
