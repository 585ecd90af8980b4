//! The other end of a drain: takes batches, or says why not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use magrathea_core::logs::LogRecord;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::syslog::{Origin, push_frame};
use super::{Allowed, Target};
use crate::db::drains;

const CONNECT: Duration = Duration::from_secs(10);
/// How long a sink may take for a batch.
const DELIVER: Duration = Duration::from_secs(30);

trait Connection: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Connection for T {}

/// A sink, and the connection to it.
pub struct Sink {
    target: Target,
    origin: Origin,
    allowed: Allowed,
    http: Option<reqwest::Client>,
    tls: Option<TlsConnector>,
    connection: Option<Box<dyn Connection>>,
}

impl Sink {
    pub fn new(sink: &drains::Sink, origin: Origin, allowed: &Allowed) -> anyhow::Result<Self> {
        let target = Target::parse(&sink.url)?;
        let mut made = Sink { target, origin, allowed: allowed.clone(), http: None, tls: None, connection: None };
        match &made.target {
            Target::Http { url } => {
                // An address that needs no name resolved does not come past the resolver.
                if let Some(address) = literal(url.host_str().unwrap_or_default())
                    && !allowed.admits(address)
                {
                    bail!(refused(address));
                }
                let mut client = reqwest::Client::builder()
                    .user_agent(concat!("magrathea/", env!("CARGO_PKG_VERSION")))
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .dns_resolver(Arc::new(Checked(allowed.clone())))
                    .connect_timeout(CONNECT)
                    .timeout(DELIVER);
                if let Some(ca) = &sink.ca {
                    client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?);
                }
                made.http = Some(client.build()?);
            }
            Target::Syslog { tls: true, .. } => made.tls = Some(connector(sink.ca.as_deref())?),
            Target::Syslog { .. } => {}
        }
        Ok(made)
    }

    /// Hands over whole lines, each a record. When it returns without an error, the sink has them: over HTTP it said so,
    /// over syslog the connection took them and was not closed.
    pub async fn deliver(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if let (Target::Http { url }, Some(http)) = (&self.target, &self.http) {
            let request = http.post(url.clone()).header(reqwest::header::CONTENT_TYPE, "application/x-ndjson");
            let answer = request.body(lines.to_vec()).send().await.map_err(|error| anyhow::anyhow!(root(&error)))?;
            if !answer.status().is_success() {
                bail!("it answered {}", answer.status());
            }
            return Ok(());
        }
        let mut frames = Vec::with_capacity(lines.len());
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Ok(record) = serde_json::from_slice::<LogRecord>(line) {
                push_frame(&self.origin, &record, &mut frames);
            }
        }
        let sent = tokio::time::timeout(DELIVER, self.send(&frames)).await;
        let sent = sent.unwrap_or_else(|_| bail!("it took nothing for {} s", DELIVER.as_secs()));
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    async fn send(&mut self, frames: &[u8]) -> anyhow::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { bail!("it is not connected") };
        // A sink that has closed says so at once; without the look a whole batch would go into the void.
        if let Ok(read) = tokio::time::timeout(Duration::from_millis(1), connection.read(&mut [0; 64])).await
            && read? == 0
        {
            bail!("it closed the connection");
        }
        connection.write_all(frames).await?;
        Ok(connection.flush().await?)
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Connection>> {
        let Target::Syslog { host, port, .. } = &self.target else { bail!("it is no syslog") };
        let connect = async {
            let mut last = anyhow::anyhow!("{host} has no address");
            for address in resolve(host, *port, &self.allowed).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error.into(),
                }
            }
            Err(last)
        };
        let stream = tokio::time::timeout(CONNECT, connect).await.context("it does not answer")??;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone())?;
        let stream = tokio::time::timeout(CONNECT, tls.connect(name, stream)).await;
        Ok(Box::new(stream.context("its TLS handshake takes too long")??))
    }
}

fn connector(ca: Option<&str>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                roots.add(certificate?)?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The addresses of a host that may be spoken to.
async fn resolve(host: &str, port: u16, allowed: &Allowed) -> anyhow::Result<Vec<SocketAddr>> {
    let all: Vec<SocketAddr> = match literal(host) {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => tokio::net::lookup_host((host, port)).await?.collect(),
    };
    let admitted: Vec<SocketAddr> = all.iter().copied().filter(|address| allowed.admits(address.ip())).collect();
    match all.first() {
        Some(first) if admitted.is_empty() => bail!(refused(first.ip())),
        _ => Ok(admitted),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn refused(address: IpAddr) -> String {
    format!("drains may not lead to {address}; an operator allows it with the gateway's --drain-to")
}

/// Resolves names to admitted addresses alone.
struct Checked(Allowed);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let addresses = resolve(name.as_str(), 0, &allowed).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use magrathea_core::logs::LogLayer;
    use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn sink(url: &str, ca: Option<String>) -> anyhow::Result<Sink> {
        let origin = Origin { app: "blog".into(), label: "default".into() };
        let allowed = Allowed(vec!["127.0.0.0/8".parse().unwrap()]);
        Sink::new(&drains::Sink { url: url.to_owned(), ca }, origin, &allowed)
    }

    fn lines(text: &str) -> Vec<u8> {
        let record = LogRecord::notice(jiff::Timestamp::UNIX_EPOCH, LogLayer::App, text);
        let mut line = serde_json::to_vec(&record).unwrap();
        line.push(b'\n');
        line
    }

    /// A listener's TLS, and its CA.
    fn tls() -> (TlsAcceptor, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        (TlsAcceptor::from(Arc::new(config)), issuer.pem())
    }

    #[tokio::test]
    async fn syslog_over_tls_trusts_the_given_ca_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("syslog+tls://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (acceptor, ca) = tls();
        let serving = tokio_util::task::TaskTracker::new().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut text = vec![0; 1024];
                let count = stream.read(&mut text).await.unwrap();
                return String::from_utf8_lossy(&text[..count]).into_owned();
            }
        });
        let stranger = tls().1;
        let error = sink(&url, Some(stranger)).unwrap().deliver(&lines("secret")).await.unwrap_err();
        assert!(format!("{error:#}").contains("certificate"), "{error:#}");
        sink(&url, Some(ca)).unwrap().deliver(&lines("hello")).await.unwrap();
        let text = serving.await.unwrap();
        assert!(text.contains("blog.default blog - app - hello"), "{text}");
    }

    #[tokio::test]
    async fn a_sink_that_closed_is_noticed_before_a_batch_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sink = sink(&format!("syslog://127.0.0.1:{}", listener.local_addr().unwrap().port()), None).unwrap();
        let (sent, accepted) = tokio::join!(sink.connect(), listener.accept());
        sink.connection = Some(sent.unwrap());
        drop(accepted);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(sink.deliver(&lines("lost?")).await.is_err());
        let again = lines("again");
        let (delivered, _) = tokio::join!(sink.deliver(&again), listener.accept());
        delivered.unwrap();
    }

    #[tokio::test]
    async fn private_addresses_are_refused_by_name_and_by_number() {
        for url in ["http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest"] {
            assert!(sink(url, None).is_err(), "{url}");
        }
        let mut named = sink("syslog://localhost:1", None).unwrap();
        named.allowed = Allowed::default();
        let error = named.deliver(&lines("x")).await.unwrap_err();
        assert!(format!("{error:#}").contains("may not lead to"), "{error:#}");
    }
}
