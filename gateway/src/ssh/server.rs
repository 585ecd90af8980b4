//! The SSH protocol. The only file that names russh, and without any decision: callbacks become questions to the
//! [`Connection`] and messages in a channel's [`Inlet`]; what is written to an [`Output`] goes to the client.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey};
use russh::server::VerifiedPublicKey;
use russh::server::{
    self, Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, PublicKeyOffer, RunningSession, Session,
};
use russh::{Channel, ChannelId, ChannelWriteHalf, Disconnect, MethodKind, MethodSet, Preferred, Pty, Sig, SshId};
use russh::{cipher, compression, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::inbox::{Incoming, Inlet, inbox};
use super::output::Output;
use super::target::Start;

/// Signatures that a login may be made with. Keys of people are checked when they are added; SHA-1 is not among them.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// Keys that a client may offer on one connection: agents hold many.
const MAX_KEYS: usize = 20;

/// How long a refused key is answered with silence at least.
const REFUSAL: Duration = Duration::from_millis(100);

/// A client that says nothing is asked whether it is there; gone after so many questions without an answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVES: usize = 3;

/// Ends a connection on which not even a keepalive passes in either direction.
const SILENCE: Duration = Duration::from_secs(120);

/// What a client may send on a channel before it was taken, and in one packet.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32 << 10;

/// Everything that is the same for all connections.
pub struct Protocol(Arc<Config>);

/// A connection that speaks SSH.
pub struct Running(RunningSession<Callbacks>);

/// Ends a connection politely.
pub struct Farewell(Handle);

/// A new host key, in OpenSSH's own format.
pub fn new_host_key() -> anyhow::Result<String> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).context("no randomness")?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    Ok(PrivateKey::from(pair).to_openssh(LineEnding::LF)?.to_string())
}

/// The public half of a host key, as in `ssh-ed25519 AAAA…`.
pub fn public_half(host_key: &str) -> anyhow::Result<String> {
    Ok(PrivateKey::from_openssh(host_key)?.public_key().to_openssh()?)
}

impl Protocol {
    /// `host_key` is what [`new_host_key`] gave.
    pub fn new(host_key: &str) -> anyhow::Result<Self> {
        Ok(Protocol(Arc::new(Config {
            server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Magrathea")),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time: REFUSAL,
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![PrivateKey::from_openssh(host_key).context("the SSH host key cannot be read")?],
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            preferred: Preferred {
                kex: Cow::Borrowed(KEY_EXCHANGES),
                key: Cow::Borrowed(KEYS),
                cipher: Cow::Borrowed(CIPHERS),
                mac: Cow::Borrowed(MACS),
                compression: Cow::Borrowed(&[compression::NONE]),
                ..Preferred::DEFAULT
            },
            max_auth_attempts: MAX_KEYS,
            inactivity_timeout: Some(SILENCE),
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: KEEPALIVES,
            // The stream is not a socket to russh; whoever accepts it sets this.
            nodelay: false,
            ..Config::default()
        })))
    }

    /// Speaks with a client as soon as it has said that it speaks SSH. The task that goes on ends with the stream.
    pub async fn start<S>(&self, stream: S, connection: Arc<Connection>) -> anyhow::Result<Running>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let callbacks = Callbacks { connection, inlets: HashMap::new() };
        Ok(Running(server::run_stream(Arc::clone(&self.0), stream, callbacks).await?))
    }
}

impl Running {
    pub fn farewell(&self) -> Farewell {
        Farewell(self.0.handle())
    }

    /// Waits for the connection's end.
    pub async fn ended(self) -> anyhow::Result<()> {
        self.0.await
    }
}

impl Farewell {
    pub async fn say(&self, why: &str) {
        let _ = self.0.disconnect(Disconnect::ByApplication, why.to_owned(), String::new()).await;
    }
}

/// The russh end of a channel's output.
pub struct Writing(ChannelWriteHalf<Msg>);

impl Writing {
    pub fn stdout(&self) -> impl AsyncWrite + Send + 'static {
        self.0.make_writer()
    }

    pub fn stderr(&self) -> impl AsyncWrite + Send + 'static {
        self.0.make_writer_ext(Some(1))
    }

    /// Says that no more comes.
    pub async fn eof(&self) {
        let _ = self.0.eof().await;
    }

    /// Says how the program ended.
    pub async fn exit_status(&self, status: u32) {
        let _ = self.0.exit_status(status).await;
    }

    pub async fn close(&self) {
        let _ = self.0.close().await;
    }
}

/// The answer that a client gets to its wish for a tunnel.
pub struct Opening(ChannelOpenHandle);

impl Opening {
    pub async fn accept(self) {
        self.0.accept().await;
    }

    /// Dropping it refuses as well, without saying why.
    pub async fn refuse(self) {
        self.0.reject(russh::ChannelOpenFailure::ConnectFailed).await;
    }
}

struct Callbacks {
    connection: Arc<Connection>,
    inlets: HashMap<ChannelId, Inlet>,
}

impl Callbacks {
    async fn put(&mut self, channel: ChannelId, incoming: Incoming) -> anyhow::Result<bool> {
        let Some(inlet) = self.inlets.get_mut(&channel) else { return Ok(false) };
        Ok(inlet.put(incoming).await?)
    }

    /// Puts something in, and answers whether it was taken.
    async fn ask(&mut self, channel: ChannelId, incoming: Incoming, session: &mut Session) -> anyhow::Result<()> {
        if self.put(channel, incoming).await? {
            session.channel_success(channel)?;
        } else {
            session.channel_failure(channel)?;
        }
        Ok(())
    }
}

fn text_of(key: &PublicKey) -> anyhow::Result<String> {
    Ok(PublicKey::from(key.key_data().clone()).to_openssh()?)
}

fn answer(accepted: bool) -> Auth {
    if accepted { Auth::Accept } else { Auth::reject() }
}

impl Handler for Callbacks {
    type Error = anyhow::Error;

    async fn authentication_banner(&mut self) -> anyhow::Result<Option<String>> {
        self.connection.agreed();
        Ok(None)
    }

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> anyhow::Result<Auth> {
        if !KEYS.contains(offer.algorithm) {
            return Ok(answer(self.connection.refuse().await));
        }
        Ok(answer(self.connection.is_known(&text_of(offer.public_key)?).await))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> anyhow::Result<Auth> {
        Ok(answer(self.connection.log_in(user, &text_of(key.public_key)?).await))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        let (inlet, inbox, waits) = inbox(&self.connection.end);
        let id = channel.id();
        let output = Output::new(Writing(channel.split().1), waits);
        if self.connection.open_session(inbox, output) {
            self.inlets.insert(id, inlet);
            reply.accept().await;
        } else {
            reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        let (inlet, inbox, waits) = inbox(&self.connection.end);
        let id = channel.id();
        let output = Output::new(Writing(channel.split().1), waits);
        if self.connection.open_tunnel(host, port, Opening(reply), inbox, output) {
            self.inlets.insert(id, inlet);
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> anyhow::Result<()> {
        self.inlets.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> anyhow::Result<()> {
        self.put(channel, Incoming::Eof).await.map(drop)
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> anyhow::Result<()> {
        self.put(channel, Incoming::Data(Bytes::copy_from_slice(data))).await.map(drop)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Terminal { term: term.to_owned(), cols, rows }, session).await
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Variable { name: name.to_owned(), value: value.to_owned() }, session).await
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Start(Start::Shell), session).await
    }

    async fn exec_request(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Start(Start::Exec(data.to_vec())), session).await
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Start(Start::Subsystem(name.to_owned())), session).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(session.channel_failure(channel)?)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> anyhow::Result<()> {
        self.ask(channel, Incoming::Resize { cols, rows }, session).await
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _: &mut Session) -> anyhow::Result<()> {
        let name = match signal {
            Sig::Custom(name) => name,
            known => format!("{known:?}"),
        };
        self.put(channel, Incoming::Signal(name)).await.map(drop)
    }
}
