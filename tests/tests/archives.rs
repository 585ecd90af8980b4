//! Sources that td would never send, straight to the API: refused with the entry, the limit and the mend named.

use magrathea_tests::{Lab, site::Site};
use tar::{Builder, EntryType, Header};

type Tar = Builder<zstd::Encoder<'static, Vec<u8>>>;

fn archive(fill: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut tar = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    fill(&mut tar);
    tar.into_inner().unwrap().finish().unwrap()
}

/// Appends an entry whose name is written as it is, `..` and all.
fn raw(tar: &mut Tar, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn page(tar: &mut Tar) {
    raw(tar, "index.php", EntryType::Regular, "", b"<?php echo 'ok';");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn hostile_archives_are_refused_with_what_and_why() {
    let lab = Lab::get();
    let site = Site::new(&lab, "parcel");
    site.td(&["app", "create", "parcel"]).ok();
    let credentials: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();
    let ca = reqwest::Certificate::from_pem(credentials["ca"].as_str().unwrap().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("{}/v1/apps/parcel/deploys", credentials["gateway"].as_str().unwrap());

    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "a parent folder",
            archive(|t| raw(t, "../../etc/cron.d/x", EntryType::Regular, "", b"x")),
            &["../../etc/cron.d/x"],
        ),
        ("an absolute path", archive(|t| raw(t, "/etc/passwd", EntryType::Regular, "", b"x")), &["/etc/passwd"]),
        (
            "a link out",
            archive(|t| {
                page(t);
                raw(t, "up", EntryType::Symlink, "../../../etc", b"")
            }),
            &["up", "../../../etc"],
        ),
        (
            "an absolute link",
            archive(|t| {
                page(t);
                raw(t, "up", EntryType::Symlink, "/etc", b"")
            }),
            &["up", "/etc"],
        ),
        (
            "a hard link out",
            archive(|t| {
                page(t);
                raw(t, "up", EntryType::Link, "../secret", b"")
            }),
            &["../secret"],
        ),
        (
            "a device",
            archive(|t| {
                page(t);
                raw(t, "disk", EntryType::Block, "", b"")
            }),
            &["disk"],
        ),
        (
            "too many files",
            archive(|t| {
                for n in 0..200_010 {
                    raw(t, &format!("f{n}"), EntryType::Regular, "", b"")
                }
            }),
            &["200000"],
        ),
        (
            "a file of more than 2 GiB",
            archive(|t| {
                let mut header = Header::new_gnu();
                header.set_size((2 << 30) + 1);
                header.set_mode(0o644);
                header.set_entry_type(EntryType::Regular);
                header.set_path("big").unwrap();
                header.set_cksum();
                t.append(&header, std::io::Read::take(std::io::repeat(0), (2 << 30) + 1)).unwrap();
            }),
            &["big", "2048 MiB"],
        ),
        ("no archive at all", b"GIF89a".to_vec(), &[]),
    ];
    for (what, body, says) in cases {
        let answer = client
            .post(&url)
            .header("Content-Type", "application/zstd")
            .bearer_auth(credentials["token"].as_str().unwrap())
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap().replace([',', '_'], "");
        assert!((400..500).contains(&status), "{what}: {status} {text}");
        for word in says {
            assert!(text.contains(&word.replace('_', "")), "{what}: {word} is not told: {text}");
        }
    }

    let fine = archive(|t| {
        page(t);
        for n in 0..100_000 {
            raw(t, &format!("data/{}/{n}", n % 100), EntryType::Regular, "", b"x");
        }
    });
    let answer = client
        .post(&url)
        .header("Content-Type", "application/zstd")
        .bearer_auth(credentials["token"].as_str().unwrap())
        .body(fine)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    magrathea_tests::until(std::time::Duration::from_secs(120), "100,000 files are deployed", || site.serves());
    assert_eq!(site.get("/").await, (200, "ok".into()));
}
