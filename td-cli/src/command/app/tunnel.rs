//! `td app tunnel`: a port of this machine that leads to the instance's own database or memcached.

use std::net::Ipv4Addr;

use bytes::Bytes;
use magrathea_core::names::InstanceId;
use magrathea_core::wire::Frame;
use magrathea_core::wire::stream::CHUNK;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::client::{Client, Query};
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::stream;

/// What the tunnel leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum To {
    Db,
    Memcached,
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What it leads to
    #[arg(value_enum, default_value = "db")]
    to: To,
    /// The port of this machine; one that is free when absent
    #[arg(short, long, default_value = "0", hide_default_value = true)]
    port: u16,
}

impl To {
    fn as_str(self) -> &'static str {
        match self {
            To::Db => "db",
            To::Memcached => "memcached",
        }
    }
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let to = arguments.to;
    // Whether there is one, and whether it may be reached, is told before anything waits for a connection.
    open(&client, &place, to).await?.0.close().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))
        .await
        .map_err(|error| Failure::usage(format!("port {} cannot be used: {error}", arguments.port)))?;
    let address = listener.local_addr()?;
    let what = match to {
        To::Db => {
            let name = InstanceId(place.instance).slug();
            format!("the database of {place}: user {name}, database {name}; its password is the app's DB_PASSWORD")
        }
        To::Memcached => format!("the memcached of {place}"),
    };
    context.printer.data(address.to_string());
    context.printer.note(format!("leads to {what}. Ctrl-C ends it"));
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, place) = (client.clone(), place.clone());
                let stream = accepted?.0;
                connections.spawn(async move { carry(&client, &place, to, stream).await });
            }
            Some(Ok(Err(failure))) = connections.join_next() => {
                let failure: Failure = failure;
                context.printer.warning(&format!("{:#}", failure.error));
            }
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = terminate.recv() => return Ok(Exit::Done),
        }
    }
}

async fn open(client: &Client, place: &Place, to: To) -> Result<(stream::Sender, stream::Receiver), Failure> {
    let mut query: Query = vec![("to".into(), to.as_str().into())];
    query.extend(place.query());
    client.websocket(&place.segments("tunnel"), &query).await
}

/// Passes bytes both ways until both directions have ended.
async fn carry(client: &Client, place: &Place, to: To, local: TcpStream) -> Result<(), Failure> {
    let _ = local.set_nodelay(true);
    let (mut sender, mut receiver) = open(client, place, to).await?;
    let (mut read, mut write) = local.into_split();
    let there = async {
        let mut buffer = vec![0; CHUNK];
        let mut pings = stream::pings();
        let mut open = true;
        loop {
            tokio::select! {
                count = read.read(&mut buffer), if open => match count {
                    Ok(count @ 1..) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        sender.send(&Frame::Data(Bytes::copy_from_slice(bytes))).await?;
                    }
                    _ => {
                        open = false;
                        sender.send(&Frame::Eof).await?;
                    }
                },
                _ = pings.tick() => sender.ping().await?,
            }
        }
    };
    let back = async {
        loop {
            match receiver.next().await? {
                Frame::Data(bytes) => write.write_all(&bytes).await?,
                Frame::Eof => write.shutdown().await?,
                Frame::Exit { .. } => return Ok(()),
                Frame::Failed(error) => return Err(Failure::say(Exit::Failed, error.message)),
                _ => {}
            }
        }
    };
    let there: std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> = Box::pin(there);
    tokio::select! {
        end = there => Ok(end?),
        end = back => end,
    }
}
