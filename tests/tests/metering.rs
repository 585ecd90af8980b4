//! Accounting of what stays open for long, and of a node that cannot keep what it counts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use magrathea_tests::socket::{Socket, echo, open_socket, say};
use magrathea_tests::usage::{accounted, of};
use magrathea_tests::{Lab, run, site::Site, until};
use serde_json::Value;

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_websocket_is_counted_while_it_is_open() {
    const TEXTS: u64 = 300;
    const LONG: u64 = 4096;
    let lab = Lab::get();
    let site = Site::new(&lab, "talker");
    let manifest = "app_layer: {stack: tomcat, memory: 512MiB, health: {path: /, expect: 200}}\nproxy: {kind: none}\n";
    site.file("magrathea.yml", manifest).file("WEB-INF/web.xml", "<web-app/>").file("index.jsp", echo(1));
    site.deploy().ok();
    // The page makes the endpoint. One socket that says nothing tells what the greetings take.
    assert_eq!(site.get("/").await.0, 200);
    let close = async |mut socket: Socket| {
        socket.close(None).await.unwrap();
        while futures_util::StreamExt::next(&mut socket).await.is_some_and(|frame| frame.is_ok()) {}
    };
    close(open_socket(&site).await).await;
    until(Duration::from_secs(30), "both are counted", || of(&accounted(&site), "status_1xx") == 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let silent = accounted(&site);
    let greeting: Value = {
        let log = site.td(&["app", "logs", "--layer", "routing", "--json", "-n", "10"]).ok().stdout;
        let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.map(|record| record["access"].clone()).find(|access| access["path"] == "/echo").unwrap()
    };
    let mut socket = open_socket(&site).await;
    let text = "x".repeat(LONG as usize);
    for _ in 0..TEXTS {
        assert_eq!(say(&mut socket, &text).await.map(|answer| answer.len()), Some(text.len() + "version 1: ".len()));
    }
    // A frame has four bytes before such a text, and four more to mask what a visitor says.
    let flowed = (TEXTS * (LONG + 8), TEXTS * (LONG + 4 + 11));
    let counted = |usage: &BTreeMap<String, u64>| {
        (of(usage, "received") - of(&silent, "received"), of(usage, "sent") - of(&silent, "sent"))
    };
    until(Duration::from_secs(30), "it is counted while it is open", || {
        let (received, sent) = counted(&accounted(&site));
        received >= flowed.0 && sent >= flowed.1
    });
    assert_eq!(of(&accounted(&site), "status_1xx"), 1, "it is open");
    close(socket).await;
    until(Duration::from_secs(30), "it is over", || of(&accounted(&site), "status_1xx") == 2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let usage = accounted(&site);
    let number = |name: &str| greeting[name].as_u64().unwrap();
    assert_eq!(counted(&usage), (flowed.0 + number("received"), flowed.1 + number("sent")), "{greeting}");
    assert_eq!(of(&usage, "requests"), of(&silent, "requests") + 1);
}

/// Something full in the place of a folder; what was there comes back with the end.
struct FullDisk(PathBuf);

impl FullDisk {
    fn over(folder: PathBuf) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "none"]).arg(&folder)).ok();
        let disk = FullDisk(folder);
        std::fs::write(disk.0.join("full"), [0; 4096]).unwrap();
        disk
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_full_disk_is_told_and_what_was_counted_meanwhile_is_not_lost() {
    let lab = Lab::get();
    let site = Site::new(&lab, "brimful");
    site.file("magrathea.yml", "proxy: {kind: none}\n").file("index.php", "<?php echo 'ok';");
    site.deploy().ok();
    let visit = async |times: u32| {
        for _ in 0..times {
            assert_eq!(site.get("/").await.0, 200);
        }
    };
    visit(2).await;
    until(Duration::from_secs(30), "they are counted", || of(&accounted(&site), "requests") == 2);
    let told = |action: &str| {
        let lines = lab.td(&lab.home, &["timeline", "--json", "-n", "200"]).ok().json();
        lines.as_array().unwrap().iter().filter(|line| line["action"] == action).count()
    };
    let before = (told("node.trouble"), told("node.recovered"));
    let disk = FullDisk::over(lab.home.join("agent/spool"));
    visit(3).await;
    until(Duration::from_secs(30), "somebody is told", || told("node.trouble") > before.0);
    let info = lab.td(&lab.home, &["cluster", "info", "lab"]).ok().stdout;
    assert!(info.contains("what is counted cannot be stored") && info.contains("No space left"), "{info}");
    visit(4).await;
    assert_eq!(of(&accounted(&site), "requests"), 2);
    drop(disk);
    until(Duration::from_secs(30), "it is over", || told("node.recovered") > before.1);
    until(Duration::from_secs(30), "all are counted", || of(&accounted(&site), "requests") == 9);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(of(&accounted(&site), "requests"), 9);
    assert_eq!(told("node.trouble"), before.0 + 1);
}
