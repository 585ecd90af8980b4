//! The router's door as attackers knock at it: heads that dribble in, heads too large, requests inside of requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use magrathea_tests::{Lab, site::Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `timeout http-request` of the router: so long may a request's head take.
const HEAD: Duration = Duration::from_secs(30);

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn heads_that_dribble_in_are_cut_off_and_keep_nobody_waiting() {
    let lab = Lab::get();
    let site = Site::new(&lab, "dribble");
    site.file("index.php", "<?php header('Cache-Control: no-store'); echo 'served';");
    site.deploy().ok();
    let begun = Instant::now();
    let mut slow = tokio::task::JoinSet::new();
    for n in 0..200_u64 {
        let (port, host) = (lab.http, site.host());
        slow.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ").as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let mut said = Vec::new();
            let dribble = async {
                tokio::time::sleep(Duration::from_millis(n * 5)).await;
                while write.write_all(b"a").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = read.read_to_end(&mut said) => {}
                () = dribble => {}
            }
            (begun.elapsed(), String::from_utf8_lossy(&said).into_owned())
        });
    }
    let mut served = 0;
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < HEAD - Duration::from_secs(2) {
        let asked = Instant::now();
        assert_eq!(site.get("/").await, (200, "served".into()));
        slowest = slowest.max(asked.elapsed());
        served += 1;
        assert!(slow.try_join_next().is_none(), "a slow connection ended early: it held nothing up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(served > 50 && slowest < Duration::from_secs(2), "{served} served, the slowest in {slowest:?}");
    let ends = tokio::time::timeout(Duration::from_secs(10), slow.join_all()).await.expect("all are closed in time");
    assert_eq!(ends.len(), 200);
    for (after, said) in ends {
        assert!(after < HEAD + Duration::from_secs(5), "{after:?}");
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    }
}

/// Sends bytes to the router as they are; what comes back within a second of silence.
fn raw(lab: &Lab, bytes: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", lab.http)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // The router may refuse before all is sent.
    let _ = stream.write_all(bytes.as_bytes());
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        said.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn one_request_never_reaches_the_app_as_two() {
    let lab = Lab::get();
    let site = Site::new(&lab, "smuggled");
    // The app notes what it is asked, so that also a request whose answer goes nowhere is seen.
    site.file(
        "index.php",
        "<?php header('Cache-Control: no-store'); $seen = '/tmp/seen'; $asked = $_SERVER['QUERY_STRING'];
        if ($asked === 'reset') { @unlink($seen); } elseif ($asked === 'seen') { echo @file_get_contents($seen); }
        else { file_put_contents($seen, \"$asked \", FILE_APPEND); echo \"answer to $asked;\"; }",
    );
    site.deploy().ok();
    let host = site.host();
    let inner = format!("GET /?inner HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let n = inner.len();
    let chunked = format!("{n:x}\r\n{inner}\r\n0\r\n\r\n");
    let refused = "HTTP/1.1 400";
    let answered = "HTTP/1.1 200";
    for (what, method, fields, body, expected) in [
        // The sender's own words, so that the law is seen to be measured: two requests are two.
        ("a plain body", "POST", format!("Content-Length: {n}"), inner.clone(), answered),
        ("a chunked body", "POST", "Transfer-Encoding: chunked".into(), chunked.clone(), answered),
        (
            "length and chunks",
            "POST",
            "Content-Length: 5\r\nTransfer-Encoding: chunked".into(),
            chunked.clone(),
            answered,
        ),
        (
            "chunks and length",
            "POST",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}", n + 5),
            format!("0\r\n\r\n{inner}"),
            answered,
        ),
        ("two lengths", "POST", format!("Content-Length: 0\r\nContent-Length: {n}"), inner.clone(), refused),
        ("two lengths in one", "POST", format!("Content-Length: 0, {n}"), inner.clone(), refused),
        ("a signed length", "POST", format!("Content-Length: +{n}"), inner.clone(), refused),
        (
            "an unknown coding",
            "POST",
            format!("Content-Length: {n}\r\nTransfer-Encoding: xchunked"),
            inner.clone(),
            refused,
        ),
        ("chunked twice", "POST", "Transfer-Encoding: chunked, chunked".into(), chunked.clone(), refused),
        (
            "a space before the colon",
            "POST",
            format!("Content-Length: {n}\r\nTransfer-Encoding : chunked"),
            inner.clone(),
            refused,
        ),
        ("a folded length", "POST", format!("Content-Length:\r\n {n}"), inner.clone(), answered),
        ("a folded coding", "POST", "Transfer-Encoding:\r\n chunked".into(), chunked.clone(), answered),
        ("a body to what may be cached", "GET", format!("Content-Length: {n}"), inner.clone(), answered),
        ("a NUL", "POST", format!("X: a\0b\r\nContent-Length: {n}"), inner.clone(), refused),
        ("a bare CR", "POST", format!("X: a\rContent-Length: 0\r\nContent-Length: {n}"), inner.clone(), refused),
    ] {
        site.get("/?reset").await;
        let said = raw(&lab, &format!("{method} /?outer HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n{body}"));
        let (_, seen) = site.get("/?seen").await;
        assert!(said.starts_with(expected), "{what}: {said}\nseen: {seen}");
        assert!(!seen.contains("inner") && !said.contains("answer to inner"), "{what}: {said}\nseen: {seen}");
        assert_eq!(seen, if expected == refused { "" } else { "outer " }, "{what}: {said}");
    }
    // Line ends without CR: as one request, too.
    site.get("/?reset").await;
    let said = raw(&lab, &format!("POST /?outer HTTP/1.1\nHost: {host}\nContent-Length: {n}\n\n{inner}"));
    assert_eq!(site.get("/?seen").await.1, "outer ", "{said}");
    // Two requests on one connection are two, each with its answer: the measure works.
    site.get("/?reset").await;
    let said = raw(&lab, &inner.repeat(2));
    assert_eq!((said.matches("answer to inner;").count(), site.get("/?seen").await.1), (2, "inner inner ".into()));
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_head_that_is_too_large_is_refused_and_the_next_is_served() {
    let lab = Lab::get();
    let site = Site::new(&lab, "bighead");
    site.file("index.php", "<?php echo strlen($_SERVER['HTTP_X_BIG'] ?? '');");
    site.deploy().ok();
    let head = |bytes: usize| {
        format!("GET /?{bytes} HTTP/1.1\r\nHost: {}\r\nX-Big: {}\r\n\r\n", site.host(), "a".repeat(bytes))
    };
    let many: String = (0..2000).map(|n| format!("X-{n}: a\r\n")).collect();
    let long = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(64 << 10), site.host());
    let fields = format!("GET / HTTP/1.1\r\nHost: {}\r\n{many}\r\n", site.host());
    for bytes in [head(64 << 10), head(1 << 20), long, fields] {
        let said = raw(&lab, &bytes);
        assert!(said.starts_with("HTTP/1.1 4"), "{said:.300}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said:.300}");
        assert_eq!(site.get("/").await, (200, "0".into()));
    }
    let said = raw(&lab, &head(4 << 10));
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("4096"), "{said}");
}
