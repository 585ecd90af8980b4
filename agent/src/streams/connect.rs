//! A connection to one of an instance's own services at a stream's end, as for a database tool on somebody's desk.

use std::net::SocketAddr;
use std::time::Duration;

use magrathea_core::wire::stream::{CHUNK, lost};
use magrathea_core::wire::{ConnectSpec, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::StreamIo;
use crate::engine::Engine;
use crate::fail::{Outcome, node, with_hint};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connects and passes bytes until both directions have ended.
pub async fn run(engine: &Engine, spec: &ConnectSpec, io: StreamIo) -> Outcome<i32> {
    let address = match spec {
        ConnectSpec::Database { port } => {
            let host = engine.instance_gateway().await?.ok_or_else(|| node("the node has no docker_gwbridge"))?;
            SocketAddr::new(host, *port)
        }
        ConnectSpec::Service { service, port } => SocketAddr::new(find(engine, service).await?, *port),
    };
    let failed = |why: String| node(format!("the service does not answer: {why}"));
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| failed("it took too long".into()))?.map_err(|e| failed(e.to_string()))?;
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.into_split();
    let StreamIo { to, mut from, ended } = io;
    let out = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let bytes = buffer.get(..count).unwrap_or_default();
            to.send(Frame::Data(bytes::Bytes::copy_from_slice(bytes))).await.map_err(|_| lost("the gateway"))?;
        }
        to.send(Frame::Eof).await.map_err(|_| lost("the gateway"))
    };
    let back = async {
        while let Some(frame) = from.recv().await {
            match frame {
                Frame::Data(bytes) if write.write_all(&bytes).await.is_err() => break,
                Frame::Eof => break,
                _ => {}
            }
        }
        let _ = write.shutdown().await;
        Ok(())
    };
    tokio::select! {
        () = ended.cancelled() => Err(lost("the gateway")),
        both = async { tokio::try_join!(out, back) } => both.map(|_| 0),
    }
}

/// The address of a service that has one task.
pub async fn find(engine: &Engine, service: &str) -> Outcome<std::net::IpAddr> {
    let running = engine.running(service).await?;
    let address = running.into_iter().find_map(|task| task.address);
    address.ok_or_else(|| with_hint(node(format!("{service} does not run here")), "see td status"))
}
