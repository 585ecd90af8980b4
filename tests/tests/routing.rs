//! The router's door as visitors knock at it: hosts and redirects, HTTP/2, and access lists over IPv6.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use magrathea_tests::load::{Load, failures};
use magrathea_tests::{Lab, run, site::Site};

/// Makes a certificate for some hosts and gives it to the gateway; its PEM stays in the folder.
fn certify(site: &Site, hosts: &[&str]) {
    let names: Vec<_> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
    let names = format!("subjectAltName={}", names.join(","));
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let files = ["-keyout", "key.pem", "-out", "chain.pem", "-subj", "/CN=test"];
    let mut openssl = Command::new("openssl");
    openssl.args(request).args(files).args(["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"]);
    run(openssl.current_dir(site.path())).ok();
    site.lab.td(site.path(), &["cert", "set", &site.name, "--chain", "chain.pem", "--key", "key.pem"]).ok();
    std::fs::remove_file(site.path().join("key.pem")).unwrap();
    site.file(".gitignore", "chain.pem\n");
}

/// Fetches without following: status, where it leads, body.
async fn fetch(lab: &Lab, url: &str) -> (u16, String, String) {
    let answer = lab.client().get(url).send().await.unwrap();
    let to = answer.headers().get("location").map_or("", |to| to.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), to, answer.text().await.unwrap())
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn aliases_lead_to_the_first_domain_and_wildcards_to_the_app() {
    let lab = Lab::get();
    let (site, exact) = (Site::new(&lab, "hosts"), Site::new(&lab, "hosts-exact"));
    let (http, https) = (lab.http, lab.https);
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo $_SERVER['HTTP_HOST'];");
    let routing =
        "domains: [hosts.example, also.example, '*.shop.example'], redirects: [www.hosts.example, old.example]";
    site.file("magrathea.yml", format!("routing: {{{routing}}}\n"));
    site.deploy().ok();
    exact.file("index.php", "<?php echo 'exact';").file("magrathea.yml", "routing: {domains: [one.shop.example]}\n");
    exact.deploy().ok();
    for (host, status, expected) in [
        ("hosts.example", 200, format!("hosts.example:{http}")),
        ("HOSTS.example", 200, format!("hosts.example:{http}")),
        ("also.example", 200, format!("also.example:{http}")),
        ("www.hosts.example", 301, format!("http://hosts.example:{http}/a/?b=c&d=%20")),
        ("old.example", 301, format!("http://hosts.example:{http}/a/?b=c&d=%20")),
        ("two.shop.example", 200, format!("two.shop.example:{http}")),
        ("one.shop.example", 200, "exact".into()),
        ("shop.example", 404, String::new()),
        ("workshop.example", 404, String::new()),
        ("hosts.localhost", 404, String::new()),
    ] {
        let path = if status == 301 { "/a/?b=c&d=%20" } else { "/" };
        let (got, to, body) = fetch(&lab, &lab.url(host, path)).await;
        assert_eq!(got, status, "{host}: {to} {body}");
        if status != 404 {
            assert_eq!(if status == 301 { to } else { body }, expected, "{host}");
        }
    }

    // The same with TLS: whatever the visitor typed, it ends at the first domain, with path and query.
    certify(&site, &["hosts.example", "also.example", "www.hosts.example", "old.example", "*.shop.example"]);
    site.file("magrathea.yml", format!("routing: {{{routing}, tls: hosts, https_only: true}}\n"));
    site.deploy().ok();
    for (from, to) in [
        (format!("http://hosts.example:{http}/x?y=z"), format!("https://hosts.example:{https}/x?y=z")),
        (format!("http://two.shop.example:{http}/x"), format!("https://two.shop.example:{https}/x")),
        (format!("http://old.example:{http}/x"), format!("https://old.example:{https}/x")),
        (format!("https://old.example:{https}/x?y=z"), format!("https://hosts.example:{https}/x?y=z")),
    ] {
        let (status, location, _) = fetch(&lab, &from).await;
        assert_eq!((status, location), (301, to), "{from}");
    }
    // HTTP/2 where it is asked for, HTTP/1.1 where not, each with the certificate that was given.
    for (host, version, asked) in
        [("hosts.example", "2", "--http2"), ("two.shop.example", "2", "--http2"), ("also.example", "1.1", "--http1.1")]
    {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--cacert", "chain.pem", asked, "-w", " %{http_version} %{http_code}"]);
        curl.args(["--resolve", &format!("{host}:{https}:127.0.0.1"), &format!("https://{host}:{https}/")]);
        let said = run(curl.current_dir(site.path())).ok().stdout;
        assert_eq!(said, format!("{host}:{https} {version} 200"));
    }
    lab.td(site.path(), &["app", "destroy", "--app", "hosts", "--confirm", "hosts"]).ok();
    lab.td(site.path(), &["cert", "unset", "hosts"]).ok();
}

/// What the running router's own matching says about an address: whether it is on one of the instance's lists.
fn listed(lab: &Lab, slug: &str, list: &str, address: &str) -> bool {
    let ask = |command: String| {
        let mut socket = std::os::unix::net::UnixStream::connect(lab.home.join("agent/node/admin/stats.sock")).unwrap();
        socket.write_all(command.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let acls = ask("show acl\n".into());
    let file = format!("/{slug}/{list}-");
    let line = acls.lines().find(|line| line.contains(&file)).unwrap_or_else(|| panic!("{file}: {acls}"));
    let answer = ask(format!("get acl #{} {address}\n", line.split_whitespace().next().unwrap()));
    assert!(answer.contains("match="), "{answer}");
    answer.contains("match=yes")
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn the_router_knows_ipv6_blocks_ranges_and_addresses() {
    let lab = Lab::get();
    let site = Site::new(&lab, "sixlists");
    site.file("index.php", "<?php echo 1;").file(
        "magrathea.yml",
        "access:\n  allow: ['2001:db8:1::/48', '2001:db8:2::5-2001:db8:2::9', '2001:DB8:3::7', '::ffff:198.51.100.0/120']\n  \
         deny: [office]\n",
    );
    site.deploy().ok();
    let slug = site.slug();
    for (list, address, expected) in [
        ("allow", "2001:db8:1::", true),
        ("allow", "2001:db8:1:ffff:ffff:ffff:ffff:ffff", true),
        ("allow", "2001:db8:0:ffff:ffff:ffff:ffff:ffff", false),
        ("allow", "2001:db8:2::4", false),
        ("allow", "2001:db8:2::5", true),
        ("allow", "2001:db8:2::9", true),
        ("allow", "2001:db8:2::a", false),
        ("allow", "2001:db8:3::7", true),
        ("allow", "2001:db8:3::8", false),
        ("allow", "198.51.100.9", true),
        ("allow", "198.51.101.9", false),
        ("allow", "::1", false),
        ("deny", "2001:db8:ffff::", true),
        ("deny", "2001:db9::", false),
        ("deny", "192.0.2.255", true),
    ] {
        assert_eq!(listed(&lab, &slug, list, address), expected, "{list} {address}");
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn access_lists_hold_over_ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return eprintln!("this machine has no IPv6");
    }
    let lab = Lab::get();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, lab.http));
    assert!(TcpStream::connect(address).is_ok(), "the laboratory's router does not listen on {address}");
    let site = Site::new(&lab, "six");
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo $_SERVER['REMOTE_ADDR'];");
    for (access, over_six, over_four) in [
        ("{}", 200, 200),
        ("{allow: ['::1']}", 200, 403),
        ("{allow: ['::/112']}", 200, 403),
        ("{allow: ['::-::5']}", 200, 403),
        ("{allow: ['::2-::5']}", 403, 403),
        ("{allow: ['2001:db8::/32']}", 403, 403),
        ("{allow: [here]}", 403, 200),
        ("{allow: ['::ffff:127.0.0.0/104']}", 403, 200),
        ("{deny: ['::1']}", 403, 200),
        ("{deny: ['::/127']}", 403, 200),
        ("{deny: ['::1-::1']}", 403, 200),
        ("{allow: ['::/112'], deny: ['::1']}", 403, 403),
    ] {
        site.file("magrathea.yml", format!("access: {access}\n"));
        site.deploy().ok();
        // New connections: one that was idle during the deploy has one more request under the rules it came in by.
        let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let six = reqwest::Client::builder().no_proxy().resolve(&site.host(), loopback).build().unwrap();
        let four = lab.client();
        for (client, expected, own) in [(&six, over_six, "::1"), (&four, over_four, "127.0.0.1")] {
            for forged in ["::1", "2001:db8::7", "127.0.0.1"] {
                let mut request = client.get(site.url("/"));
                for name in ["X-Forwarded-For", "X-Real-IP", "Forwarded"] {
                    request = request.header(name, forged);
                }
                let answer = request.send().await.unwrap();
                let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
                assert_eq!(status, expected, "{access} from {own} as {forged}: {body}");
                assert!(status != 200 || body == own, "{access}: {body}");
            }
        }
    }
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn reloads_of_the_router_lose_no_request_behind_a_cache() {
    let lab = Lab::get();
    for kind in ["varnish", "nginx"] {
        let site = Site::new(&lab, &format!("reloaded-{kind}"));
        // Each request goes to the cache, from there to the router again, and to the app.
        site.file("magrathea.yml", format!("proxy: {{kind: {kind}}}\n"))
            .file("index.php", "<?php header('Cache-Control: no-store'); echo 'ok';");
        site.deploy().ok();
        let load = Load::start(lab.client(), site.url("/"), 100, Duration::from_secs(60));
        for _ in 0..25 {
            std::thread::sleep(Duration::from_millis(200));
            assert!(lab.ask_router("reload").starts_with("Success=1"));
        }
        let answers = load.finish();
        println!("{kind}: {} requests, {} lost", answers.len(), failures(&answers).len());
        assert!(answers.len() > 300);
        assert_eq!(failures(&answers), [""; 0]);
    }
}
