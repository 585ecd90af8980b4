//! Applications that nobody here wrote, from Debian's packages, fetched when the test runs.

use std::process::Command;
use std::time::Duration;

use magrathea_tests::{Lab, run, site::Site, until};

fn fetch(lab: &Lab, site: &Site, arguments: &[&str]) {
    let script = lab.repository.join("tests/fixtures/debian-app.sh");
    run(Command::new(script).arg(site.path()).args(arguments)).ok();
}

/// A JPEG of one pixel would do for storage, but WordPress measures pictures: this is a real, small PNG.
fn picture() -> Vec<u8> {
    let lab = Lab::get();
    std::fs::read(lab.repository.join("tests/fixtures/towel.png")).unwrap()
}

const WP_CONFIG: &str = r#"<?php
define('DB_NAME', getenv('DB_NAME'));
define('DB_USER', getenv('DB_USER'));
define('DB_PASSWORD', getenv('DB_PASSWORD'));
define('DB_HOST', getenv('DB_HOST') . ':' . getenv('DB_PORT'));
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
foreach (['AUTH_KEY', 'SECURE_AUTH_KEY', 'LOGGED_IN_KEY', 'NONCE_KEY', 'AUTH_SALT', 'SECURE_AUTH_SALT', 'LOGGED_IN_SALT', 'NONCE_SALT'] as $name) {
    define($name, hash('sha256', $name . getenv('DB_PASSWORD')));
}
define('DISALLOW_FILE_MODS', true);
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
$table_prefix = 'wp_';
define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
"#;

const WP_MANIFEST: &str = "app: wordpress
app_layer:
  stack: php
  health: {path: /readme.html, expect: 200}
  ini: {upload_max_filesize: 32M, post_max_size: 32M}
storage:
  quota: 1GiB
  writable: {wp-content/uploads: {kind: shared}}
db: {mysql: {quota: 512MiB}}
proxy: {kind: varnish, ttl: 2m, bypass_cookies: ['wordpress_*', 'wp-*', 'comment_author_*'], bypass_paths: [/wp-admin, /wp-login.php]}
";

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn wordpress_is_installed_through_its_own_form_and_keeps_what_is_written() {
    let lab = Lab::get();
    let site = Site::new(&lab, "wordpress");
    let packages = [
        "/usr/share/wordpress",
        "wordpress",
        "libjs-cropper",
        "libjs-underscore",
        "libjs-jquery",
        "php-getid3",
        "node-lodash",
        "libjs-lodash",
        "wordpress-theme-twentytwentyfive",
        "wordpress-theme-twentytwentyfour",
    ];
    fetch(&lab, &site, &packages);
    site.file("wp-config.php", WP_CONFIG).file("magrathea.yml", WP_MANIFEST);
    site.deploy().ok();

    let client = lab.client();
    let form = [
        ("weblog_title", "Heart of Gold"),
        ("user_name", "zaphod"),
        ("admin_password", "two-heads-are-better"),
        ("admin_password2", "two-heads-are-better"),
        ("pw_weak", "on"),
        ("admin_email", "zaphod@example.org"),
        ("language", ""),
    ];
    let installed =
        client.post(site.url("/wp-admin/install.php?step=2")).form(&form).send().await.unwrap().text().await.unwrap();
    assert!(installed.contains("Success"), "{installed}");

    let login = [("log", "zaphod"), ("pwd", "two-heads-are-better"), ("testcookie", "1")];
    let answer = client
        .post(site.url("/wp-login.php"))
        .header("Cookie", "wordpress_test_cookie=WP%20Cookie%20check")
        .form(&login)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 302, "{}", answer.text().await.unwrap());
    let nonce =
        client.get(site.url("/wp-admin/admin-ajax.php?action=rest-nonce")).send().await.unwrap().text().await.unwrap();
    let post = [("title", "Magrathea"), ("content", "A planet where planets are made."), ("status", "publish")];
    let written = client
        .post(site.url("/?rest_route=/wp/v2/posts"))
        .header("X-WP-Nonce", &nonce)
        .form(&post)
        .send()
        .await
        .unwrap();
    assert_eq!(written.status().as_u16(), 201, "{}", written.text().await.unwrap());
    let uploaded = client
        .post(site.url("/?rest_route=/wp/v2/media"))
        .header("X-WP-Nonce", &nonce)
        .header("Content-Type", "image/png")
        .header("Content-Disposition", "attachment; filename=\"towel.png\"")
        .body(picture())
        .send()
        .await
        .unwrap();
    assert_eq!(uploaded.status().as_u16(), 201, "{}", uploaded.text().await.unwrap());
    let media: serde_json::Value = uploaded.json().await.unwrap();
    let source = media["source_url"].as_str().unwrap().to_owned();
    let image = format!("/{}", source.splitn(4, '/').nth(3).unwrap());

    let stranger = lab.client();
    let still_there = async |when: &str| {
        let mut last = String::new();
        for _ in 0..120 {
            let page = stranger.get(site.url("/?rest_route=/wp/v2/posts")).send().await;
            last = match page {
                Ok(page) => page.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            if last.contains("A planet where planets are made.") {
                let fetched = stranger.get(site.url(&image)).send().await.unwrap();
                assert_eq!(fetched.status().as_u16(), 200, "{when}: {image}");
                assert_eq!(fetched.bytes().await.unwrap(), picture(), "{when}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{when}: the post is gone: {last}");
    };
    still_there("at once").await;

    site.file("added-later.txt", "second release");
    site.deploy().ok();
    assert_eq!(site.get("/added-later.txt").await.0, 200);
    still_there("after a redeploy").await;

    for service in ["router", "varnish", "mariadb"] {
        let name = format!("{}-{service}", lab.prefix());
        let filter = format!("label=com.docker.swarm.service.name={name}");
        let container = lab.docker(&["ps", "-q", "--filter", &filter]);
        lab.docker(&["kill", container.trim()]);
        until(Duration::from_secs(60), &format!("{service} runs again"), || {
            let now = lab.docker(&["ps", "-q", "--filter", &filter]);
            !now.trim().is_empty() && now != container
        });
        still_there(&format!("after {service} was killed")).await;
    }

    lab.local("stop").ok();
    lab.local("up").ok();
    still_there("after stop and up").await;
}

const EXAMPLES: &[&str] = &["/usr/share/tomcat10-examples/examples", "tomcat10-examples"];

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_tomcat_application_keeps_its_session_and_speaks_websocket() {
    let lab = Lab::get();
    let site = Site::new(&lab, "coyote");
    fetch(&lab, &site, EXAMPLES);
    site.file(
        "magrathea.yml",
        "app_layer: {stack: tomcat, memory: 512MiB, context: /examples, health: {path: /examples/index.html, expect: 200}}\n",
    );
    site.deploy().ok();
    let client = lab.client();
    let url = site.url("/examples/servlets/servlet/SessionExample");
    client.get(format!("{url}?dataname=answer&datavalue=42")).send().await.unwrap();
    let page = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("answer = 42"), "{page}");
    let stranger = lab.client().get(&url).send().await.unwrap().text().await.unwrap();
    assert!(!stranger.contains("answer = 42"));

    let python = r#"
import base64, os, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
key = base64.b64encode(os.urandom(16)).decode()
s.sendall(f"GET /examples/websocket/echoProgrammatic HTTP/1.1\r\nHost: coyote.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
head = b""
while b"\r\n\r\n" not in head: head += s.recv(1)
assert b" 101 " in head.split(b"\r\n")[0], head
text = b"So long"
mask = os.urandom(4)
s.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
frame = s.recv(2 + len(text))
assert frame[2:] == text, frame
"#;
    run(Command::new("python3").args(["-c", python, &lab.http.to_string()])).ok();
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_large_upload_passes_whole() {
    let lab = Lab::get();
    let site = Site::new(&lab, "freight");
    site.file("index.php", "<?php $h = hash_init('sha256'); $in = fopen('php://input', 'rb'); $n = 0; while (!feof($in)) { $part = fread($in, 1 << 20); $n += strlen($part); hash_update($h, $part); } echo $n;")
        ;
    site.deploy().ok();
    let size = 300 << 20;
    let answer =
        lab.client().post(site.url("/")).timeout(Duration::from_secs(120)).body(vec![7u8; size]).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), size.to_string());
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_static_site_behind_nginx() {
    let lab = Lab::get();
    let site = Site::new(&lab, "still");
    site.file("index.html", "<h1>still</h1>").file("magrathea.yml", "proxy: {kind: nginx, ttl: 1m}\n");
    site.deploy().ok();
    let client = lab.client();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = client.get(site.url("/")).send().await.unwrap();
        seen.push(answer.headers()["x-cache"].to_str().unwrap().to_owned());
        assert_eq!(answer.text().await.unwrap(), "<h1>still</h1>");
    }
    assert_eq!(seen, ["MISS", "HIT"]);
    site.file("index.html", "<h1>moved</h1>");
    site.deploy().ok();
    assert_eq!(site.get("/").await.1, "<h1>moved</h1>", "a new release is seen at once, whatever was cached");
}
