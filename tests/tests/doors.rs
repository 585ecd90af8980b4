//! Who is let in where: the API, the router's lists, and what listens on the machine.

use magrathea_tests::{Lab, run, site::Site};

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn the_api_asks_for_a_token_and_shows_its_own_certificate() {
    let lab = Lab::get();
    let credentials: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();
    let gateway = credentials["gateway"].as_str().unwrap();
    let ca = reqwest::Certificate::from_pem(credentials["ca"].as_str().unwrap().as_bytes()).unwrap();
    let pinned = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    for path in ["/v1/apps", "/v1/status", "/v1/clusters", "/v1/timeline"] {
        let answer = pinned.get(format!("{gateway}{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{path}");
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["code"], "unauthenticated", "{path}");
    }
    let token = credentials["token"].as_str().unwrap();
    let answer = pinned.get(format!("{gateway}/v1/apps")).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let anybody = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(anybody.get(format!("{gateway}/v1/apps")).send().await.is_err(), "the certificate is not a public one");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(lab.home.join("td/credentials.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
#[ignore = "needs the laboratory: make test"]
fn only_the_router_listens_beyond_loopback_and_the_instances_bridge() {
    let lab = Lab::get();
    let mut own: Vec<String> = ["magrathea-gateway", "magrathea-agent"]
        .iter()
        .map(|name| std::fs::read_to_string(lab.home.join(format!("run/{name}.pid"))).unwrap().trim().to_owned())
        .collect();
    let postgres = run(std::process::Command::new("pgrep").args(["-P", &own[0]])).stdout;
    own.extend(postgres.lines().map(str::to_owned));
    let containers = lab.docker(&["ps", "-q", "--filter", &format!("label=magrathea.owner={}", lab.prefix())]);
    for container in containers.lines() {
        own.extend(lab.docker(&["top", container, "-o", "pid"]).lines().skip(1).map(|pid| pid.trim().to_owned()));
    }
    let open = run(std::process::Command::new("ss").args(["-Hltnp"])).ok().stdout;
    let of_ours: Vec<_> =
        open.lines().filter(|line| own.iter().any(|pid| line.contains(&format!("pid={pid},")))).collect();
    assert!(of_ours.len() >= 5, "router, database, gateway twice: {open}");
    for line in of_ours {
        let address = line.split_whitespace().nth(3).unwrap();
        let inside = address.starts_with("127.0.0.1:") || address.starts_with("[::1]:") || address.starts_with("172.");
        let router = address.ends_with(&format!(":{}", lab.http)) || address.ends_with(&format!(":{}", lab.https));
        assert!(inside || router, "{line}");
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn access_lists_hold_whatever_the_headers_say() {
    let lab = Lab::get();
    let site = Site::new(&lab, "guarded");
    site.file("index.php", "<?php echo 'inside';");
    for (access, expected) in [
        ("{allow: [office]}", 403),
        ("{allow: [here]}", 200),
        ("{allow: [127.0.0.1]}", 200),
        ("{allow: ['2001:db8::/32']}", 403),
        ("{allow: ['126.0.0.1-127.0.0.5']}", 200),
        ("{deny: [127.0.0.0/8]}", 403),
        ("{allow: [here], deny: [127.0.0.1]}", 403),
    ] {
        site.file("magrathea.yml", format!("access: {access}\n"));
        site.deploy().ok();
        for attempt in 0..2 {
            let mut request = lab.client().get(site.url("/"));
            if attempt == 1 {
                for name in ["X-Forwarded-For", "X-Real-IP", "Client-IP", "True-Client-IP", "X-Magrathea-Backend"] {
                    request = request.header(name, "192.0.2.7");
                }
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert_eq!(status, expected, "{access}, attempt {attempt}: {}", answer.text().await.unwrap());
        }
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn basic_auth_stands_before_the_cache() {
    let lab = Lab::get();
    let site = Site::new(&lab, "basic");
    site.file("index.php", "<?php header('Cache-Control: public, max-age=60'); echo 'inside';")
        .file("magrathea.yml", "secrets: [VISITORS]\naccess: {basic_auth: VISITORS}\n");
    lab.td(site.path(), &["app", "create", "basic"]).ok();
    let mut set = lab.td_command(site.path(), &["config", "set", "VISITORS=arthur:towel", "--app", "basic"]);
    run(&mut set).ok();
    site.deploy().ok();
    let client = lab.client();
    for (user, password, expected) in [
        ("arthur", Some("towel"), 200),
        ("arthur", Some("wrong"), 401),
        ("ford", Some("towel"), 401),
        ("arthur", None, 401),
    ] {
        let answer = client.get(site.url("/")).basic_auth(user, password).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{user}:{password:?}");
    }
    let answer = client.get(site.url("/")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401, "a cached page is not shown to strangers");
    assert!(answer.headers().contains_key("www-authenticate"));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn maintenance_shows_its_page_and_lets_some_pass() {
    let lab = Lab::get();
    let site = Site::new(&lab, "resting");
    site.file("index.php", "<?php echo 'inside';").file("back-soon.html", "<h1>Back soon</h1>");
    site.file("magrathea.yml", "access: {maintenance: true, maintenance_page: back-soon.html}\n");
    site.deploy().ok();
    let answer = lab.client().get(site.url("/")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(answer.text().await.unwrap(), "<h1>Back soon</h1>");
    site.file("magrathea.yml", "access: {maintenance: true, maintenance_allow: [here]}\n");
    site.deploy().ok();
    assert_eq!(site.get("/").await, (200, "inside".into()));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn tls_with_a_given_certificate_and_the_redirect_to_it() {
    let lab = Lab::get();
    let site = Site::new(&lab, "sealed");
    let openssl = |args: &[&str]| run(std::process::Command::new("openssl").args(args).current_dir(site.path())).ok();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "chain.pem",
        "-days",
        "30",
        "-subj",
        "/CN=sealed.localhost",
        "-addext",
        "subjectAltName=DNS:sealed.localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    lab.td(site.path(), &["cert", "set", "sealed", "--chain", "chain.pem", "--key", "key.pem"]).ok();
    let certificate = std::fs::read(site.path().join("chain.pem")).unwrap();
    for name in ["key.pem", "chain.pem"] {
        std::fs::remove_file(site.path().join(name)).unwrap();
    }
    site.file("index.php", "<?php echo $_SERVER['HTTPS'] ?? 'off', ' ', $_SERVER['REMOTE_ADDR'];")
        .file("magrathea.yml", "routing: {tls: sealed, https_only: true}\n");
    site.deploy().ok();
    let answer = lab.client().get(site.url("/a?b=c")).send().await.unwrap();
    assert!(matches!(answer.status().as_u16(), 301 | 308), "{}", answer.status());
    let target = answer.headers()["location"].to_str().unwrap();
    assert_eq!(target, format!("https://sealed.localhost:{}/a?b=c", lab.https));
    let strict = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&certificate).unwrap()])
        .resolve("sealed.localhost", ([127, 0, 0, 1], 0).into())
        .no_proxy()
        .build()
        .unwrap();
    let answer = strict.get(format!("https://sealed.localhost:{}/", lab.https)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "on 127.0.0.1");
    lab.td(site.path(), &["app", "destroy", "--app", "sealed", "--confirm", "sealed"]).ok();
    lab.td(site.path(), &["cert", "unset", "sealed"]).ok();
}
