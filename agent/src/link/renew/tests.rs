use std::sync::{Arc, Mutex};

use rcgen::{CertificateSigningRequestParams, IsCa, Issuer, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::folders::{self, Folders};
use crate::link::Stored;

type Authority = Arc<Issuer<'static, KeyPair>>;

/// A gateway that signs whatever an agent with one of its certificates asks for.
struct Gateway {
    authority: Authority,
    ca: String,
    connect: String,
    /// The certificates that agents have shown, in order.
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
    /// What it answers in place of a certificate.
    refusal: Arc<Mutex<Option<&'static str>>>,
    _task: JoinSet<()>,
}

fn sign(authority: &Authority, csr: &str) -> String {
    let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    params.signed_by(&request.public_key, authority).unwrap().pem()
}

impl Gateway {
    async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let authority = Arc::new(Issuer::new(params, key));

        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let own = params.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = config.with_client_cert_verifier(verifier).with_single_cert(vec![own.der().clone()], key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = listener.local_addr().unwrap().to_string();
        let (shown, refusal) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<_>>::default());
        let serving = serve(listener, config, Arc::clone(&authority), Arc::clone(&shown), Arc::clone(&refusal));
        let mut task = JoinSet::new();
        task.spawn(serving);
        Gateway { authority, ca: ca.pem(), connect, shown, refusal, _task: task }
    }

    /// A node's folder as an older agent has left it.
    fn enrol(&self) -> (tempfile::TempDir, Folders) {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::new(folder.path());
        folders.prepare().unwrap();
        let identity = folders.identity();
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        std::fs::write(identity.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(identity.join("certificate.pem"), sign(&self.authority, &csr)).unwrap();
        std::fs::write(identity.join("ca.pem"), &self.ca).unwrap();
        let (cluster, node) = ("local".parse().unwrap(), "node1".parse().unwrap());
        folders::store(&identity.join("enrolment.json"), &Stored { cluster, node, connect: self.connect.clone() })
            .unwrap();
        (folder, folders)
    }
}

/// One request for each connection, as `connection: close` has it.
async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    authority: Authority,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
    refusal: Arc<Mutex<Option<&'static str>>>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let mut stream = acceptor.accept(stream).await.unwrap();
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        shown.lock().unwrap().push(leaf);
        let mut request = String::new();
        while !request.ends_with("-----END CERTIFICATE REQUEST-----\n") {
            let mut bytes = [0; 4096];
            let n = stream.read(&mut bytes).await.unwrap();
            request.push_str(&std::str::from_utf8(&bytes[..n]).unwrap().replace('\r', ""));
        }
        assert!(request.starts_with("POST /agent/v1/certificate "), "{request}");
        let csr = request.split_once("\n\n").unwrap().1;
        let (status, body) = match *refusal.lock().unwrap() {
            Some("") => ("200 OK", sign(&authority, &other_csr())),
            Some(text) => ("403 Forbidden", text.to_owned()),
            None => ("200 OK", sign(&authority, csr)),
        };
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
    }
}

fn other_csr() -> String {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn load(folders: &Folders) -> (Identity, reqwest::Client) {
    let identity = Identity::load(folders).unwrap().unwrap();
    let client = identity.http_client(&identity.client_config().unwrap()).unwrap();
    (identity, client)
}

fn year(year: i16) -> jiff::Timestamp {
    format!("{year}-01-01T00:00:00Z").parse().unwrap()
}

#[tokio::test]
async fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
    let gateway = Gateway::start().await;
    let (_folder, folders) = gateway.enrol();
    let (identity, client) = load(&folders);
    assert!(!renew_when_due(&identity, &client, year(2066)).await.unwrap());
    assert!(gateway.shown.lock().unwrap().is_empty(), "nothing is asked before its time");

    assert!(renew_when_due(&identity, &client, year(2067)).await.unwrap());
    assert!(renew_when_due(&identity, &client, year(2067)).await.unwrap());
    let (restarted, client) = load(&folders);
    assert!(renew_when_due(&restarted, &client, year(2067)).await.unwrap());
    let shown = gateway.shown.lock().unwrap().clone();
    assert_eq!(shown.len(), 3);
    assert!(shown[0] != shown[1], "the next connection shows the new one");
    assert!(shown[1] != shown[2], "and so does a restarted agent");
    assert!(!folders.identity().join("key.pem").exists(), "the old key is gone");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folders.identity().join("certificate.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_not_a_certificate_for_the_key_changes_nothing() {
    let gateway = Gateway::start().await;
    let (_folder, folders) = gateway.enrol();
    let (identity, client) = load(&folders);
    let listed = || {
        let entries = std::fs::read_dir(folders.identity()).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = listed();
    for (refusal, told) in [("enrol the node again\n", "enrol the node again"), ("", "not for the key")] {
        *gateway.refusal.lock().unwrap() = Some(refusal);
        let error = renew_when_due(&identity, &client, year(2080)).await.unwrap_err();
        assert!(format!("{error:#}").contains(told), "{error:#}");
        assert_eq!(listed(), before);
    }
    *gateway.refusal.lock().unwrap() = None;
    assert!(renew_when_due(&identity, &client, year(2080)).await.unwrap());
    let certificate = std::fs::read(folders.identity().join("certificate.pem")).unwrap();
    let own = CertificateDer::from_pem_slice(&certificate).unwrap();
    assert_ne!(gateway.shown.lock().unwrap().last().unwrap(), own.as_ref());
}
