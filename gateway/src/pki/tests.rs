use super::*;

fn node() -> NodeRef {
    NodeRef { cluster: "milan".parse().unwrap(), node: "node1".parse().unwrap() }
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
    let signed = pki.sign_node(&csr(), &node()).unwrap().unwrap();
    let der = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).unwrap();
    let identity = read_identity(&der).unwrap();
    assert_eq!(identity, Identity { node: node(), serial: signed.serial });
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
        assert!(pki.sign_node(bad, &node()).unwrap().is_err(), "{bad}");
    }
}
