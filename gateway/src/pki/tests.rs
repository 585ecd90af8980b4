use rcgen::CertificateParams;

use super::*;

fn node() -> NodeRef {
    NodeRef { cluster: "milan".parse().unwrap(), node: "node1".parse().unwrap() }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// So many days ago.
fn ago(days: i64) -> jiff::Timestamp {
    now() - jiff::SignedDuration::from_hours(24 * days)
}

fn leaf_of(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn the_authority_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(dir.path()).unwrap();
    let second = Pki::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    first.api_config(&["127.0.0.1".into(), "localhost".into()]).unwrap();
    first.agents_config(&["127.0.0.1".into()]).unwrap();
}

#[test]
fn a_node_certificate_says_which_node_and_nothing_that_the_request_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let signed = pki.sign_node(&csr(), &node(), now()).unwrap().unwrap();
    let der = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    let identity = read_identity(&der).unwrap();
    assert_eq!(identity, Identity { node: node(), enrolment: signed.serial });
    assert!(!String::from_utf8_lossy(&der).contains("evil.example"));
}

#[test]
fn a_request_that_is_tampered_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let pem = csr();
    let (at, original) = pem.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).nth(150).unwrap();
    let mut tampered = pem.clone();
    tampered.replace_range(at..=at, if original == 'A' { "B" } else { "A" });
    for bad in [tampered.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----"] {
        assert!(pki.sign_node(bad, &node(), now()).unwrap().is_err(), "{bad}");
    }
}

#[test]
fn hosts_get_a_new_certificate_in_the_last_third_of_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let hosts = ["shop.example".to_owned()];
    for (age, due) in [(0, false), (480, false), (490, true), (800, true)] {
        assert_eq!(pki.is_due(&pki.issue_hosts(&hosts, ago(age)).unwrap(), now()), due, "{age} days");
    }
    let of_old = pki.issue_hosts(&hosts, now()).unwrap().replace(&pki.hosts.pem, &pki.own.pem);
    assert!(pki.is_due("", now()) && pki.is_due(&of_old, now()), "nothing, and one of the gateway's own authority");
}

/// An installation from before hosts had their own authority starts, keeps what clients pinned, and gets one.
#[test]
fn clients_do_not_trust_what_is_signed_for_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::load_or_create(dir.path()).unwrap();
    for file in ["hosts-ca.pem", "hosts-ca.key"] {
        std::fs::remove_file(dir.path().join(file)).unwrap();
    }
    let pki = Pki::load_or_create(dir.path()).unwrap();
    assert_eq!(first.ca_pem(), pki.ca_pem());

    let mut roots = RootCertStore::empty();
    roots.add(leaf_of(pki.ca_pem())).unwrap();
    let trusted = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let trusted = trusted.build().unwrap();
    let name = rustls::pki_types::ServerName::try_from("gateway.example").unwrap();
    let names = ["gateway.example".to_owned()];
    let pem = pki.issue_hosts(&names, now()).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    let check = |chain: &[CertificateDer<'_>]| {
        let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            now().as_second().unsigned_abs(),
        ));
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &*trusted,
            &chain[0],
            &chain[1..],
            &name,
            &[],
            now,
        )
    };
    assert!(check(&chain).is_err(), "an app with the gateway's name is not the gateway");
    let own = Server::new(&pki.own.issuer, &names, now()).unwrap().at(now());
    check(&own.cert).unwrap();
}

#[test]
fn the_gateways_own_certificate_is_renewed_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let server = Server::new(&pki.own.issuer, &["localhost".to_owned()], ago(500)).unwrap();
    let old = server.at(ago(100));
    assert_eq!(old.cert, server.at(ago(99)).cert, "more than a third of its life is left");
    let new = server.at(now());
    assert_ne!(old.cert, new.cert);
    assert_eq!(new.cert, server.at(now()).cert);
}

#[test]
fn a_renewed_node_certificate_is_of_the_same_enrolment() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_create(dir.path()).unwrap();
    let enrolled = pki.sign_node(&csr(), &node(), ago(1500)).unwrap().unwrap();
    let identity = read_identity(&leaf_of(&enrolled.certificate)).unwrap();
    let mut renewed = pki.renew_node(&csr(), &identity, now()).unwrap().unwrap();
    for _ in 0..2 {
        assert_ne!(renewed.serial, enrolled.serial);
        assert_eq!(read_identity(&leaf_of(&renewed.certificate)).unwrap(), identity);
        renewed = pki.renew_node(&csr(), &identity, now()).unwrap().unwrap();
    }
}
