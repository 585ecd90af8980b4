//! The collector and its readers together, on files as the engine and the router write them.

use std::fs::File;
use std::io::Write;

use magrathea_core::logs::{Cursor, LogFilter, LogLayer, LogRecord, Mark, Values};
use magrathea_core::names::ReleaseNumber;
use magrathea_core::units::{ByteSize, Span};

use super::access::AccessLog;
use super::collect::Collector;
use super::*;
use crate::usage::Ledger;

const SLUG: &str = "i0123456789ab";

struct World {
    folder: tempfile::TempDir,
    logs: Arc<Logs>,
    collector: Collector,
}

impl World {
    fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    fn of(folder: tempfile::TempDir) -> Self {
        let logs = Arc::new(Logs::new(folder.path().join("logs")));
        let access = AccessLog::open(folder.path().join("access.log"), folder.path().join("access.json"));
        let usage = Arc::new(Ledger::open(folder.path().join("usage.json"), Duration::from_secs(60)));
        World { collector: Collector::new(logs.clone(), access, usage), logs, folder }
    }

    /// As after a kill: nothing is told or closed.
    fn restarted(self) -> Self {
        Self::of(self.folder)
    }

    fn replica(&self, name: &str) -> Replica {
        let path = self.folder.path().join(name);
        Replica { file: File::options().append(true).create(true).open(&path).unwrap(), path }
    }

    fn found(&mut self, names: &[&str]) {
        let found = names.iter().map(|name| Found {
            container: (*name).to_owned(),
            path: self.folder.path().join(name),
            speaker: Speaker {
                slug: SLUG.into(),
                layer: LogLayer::App,
                replica: (*name).to_owned(),
                release: Some(ReleaseNumber(1)),
            },
        });
        self.collector.update(found.collect());
    }

    fn round(&mut self) {
        for _ in 0..100 {
            if !self.collector.round(Timestamp::now() + Duration::from_secs(1)) {
                return;
            }
        }
    }

    async fn read(&self, query: LogQuery) -> (Vec<LogRecord>, Mark) {
        let (out, mut lines) = mpsc::channel(4096);
        let follow = self.logs.follow(query, out);
        let collect = async {
            let mut bytes = Vec::new();
            while let Some(piece) = lines.recv().await {
                bytes.extend_from_slice(&piece);
            }
            bytes
        };
        let (outcome, bytes) = tokio::join!(follow, collect);
        outcome.unwrap();
        let mut mark = None;
        let mut records = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(record) => records.push(record),
                Err(_) => {
                    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                    mark = serde_json::from_value(value["mark"].clone()).unwrap();
                }
            }
        }
        (records, mark.unwrap())
    }
}

struct Replica {
    path: PathBuf,
    file: File,
}

impl Replica {
    fn say(&mut self, text: &str) {
        self.say_at(Timestamp::now(), text);
    }

    fn say_at(&mut self, time: Timestamp, text: &str) {
        self.write(time, "stdout", &format!("{text}\n"));
    }

    fn write(&mut self, time: Timestamp, stream: &str, log: &str) {
        let line = serde_json::json!({"log": log, "stream": stream, "time": time});
        self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn rotate(&mut self) {
        let rotated = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..4).rev() {
            let _ = std::fs::rename(rotated(n), rotated(n + 1));
        }
        std::fs::rename(&self.path, rotated(1)).unwrap();
        self.file = File::create(&self.path).unwrap();
    }
}

fn query() -> LogQuery {
    LogQuery {
        slug: SLUG.into(),
        filter: LogFilter::default(),
        after: None,
        last: None,
        follow: false,
        mask: Values::default(),
    }
}

fn texts(records: &[LogRecord]) -> Vec<String> {
    records.iter().map(LogRecord::line).collect()
}

#[tokio::test]
async fn replicas_are_merged_in_the_order_of_time() {
    let mut world = World::new();
    let (mut a, mut b) = (world.replica("web.1"), world.replica("web.2"));
    let start = Timestamp::now() - Duration::from_secs(60);
    for n in 0..2_000_u32 {
        let replica = if n % 3 == 0 { &mut a } else { &mut b };
        replica.say_at(start + Duration::from_millis(n.into()), &n.to_string());
    }
    world.found(&["web.1", "web.2"]);
    world.round();
    let (records, mark) = world.read(query()).await;
    assert_eq!(texts(&records), (0..2_000).map(|n| n.to_string()).collect::<Vec<_>>());
    a.say("more");
    world.round();
    let after = Some(mark.cursor.parse::<Cursor>().unwrap());
    let (records, _) = world.read(LogQuery { after, ..query() }).await;
    assert_eq!(texts(&records), ["more"]);
}

#[tokio::test]
async fn killed_at_any_time_it_loses_and_doubles_nothing() {
    let mut world = World::new();
    let mut replica = world.replica("web.1");
    let mut router = File::create(world.folder.path().join("access.log")).unwrap();
    let mut request = 0;
    for turn in 0..30_u32 {
        world.found(&["web.1"]);
        for n in 0..100 {
            replica.say(&format!("{}", turn * 100 + n));
            let line = format!(
                r#"{{"layer":"routing","slug":"{SLUG}","release":"1","at":{},"address":"::1","method":"GET","host":"h","path":"/{request}","protocol":"HTTP/1.1","status":200,"sent":1,"received":1,"ms":1,"cache":"","tls":false,"agent":"","referrer":""}}"#,
                Timestamp::now().as_microsecond()
            );
            request += 1;
            writeln!(router, "{line}").unwrap();
            if turn % 4 == 1 && n == 50 {
                world.round();
            }
        }
        if turn % 5 == 2 {
            replica.rotate();
        }
        if turn % 3 == 0 {
            world.round();
        }
        if turn % 7 == 3 {
            // What was being written when it ended.
            let newest = world.logs.of(SLUG).unwrap().segments().last().unwrap().number;
            let path = segment::plain_path(&world.folder.path().join("logs").join(SLUG), newest);
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b"{\"time\":\"2026-11-21T00:00:00Z\",\"layer\":\"app\",\"text\":\"half\"}\n{\"ti").unwrap();
        }
        if turn % 2 == 1 {
            world = world.restarted();
        }
    }
    world.found(&["web.1"]);
    world.round();
    let (records, _) = world.read(query()).await;
    let said: Vec<_> = records.iter().filter_map(|record| record.text.clone()).collect();
    assert_eq!(said, (0..3_000).map(|n| n.to_string()).collect::<Vec<_>>());
    let asked: Vec<_> = records.iter().filter_map(|record| Some(record.access.as_ref()?.path.clone())).collect();
    assert_eq!(asked, (0..3_000).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_line_is_one_wherever_it_is_cut() {
    const PIECE: usize = 16 << 10;
    let mut world = World::new();
    let mut replica = world.replica("web.1");
    let mut expect = Vec::new();
    for turn in 0..24_u32 {
        world.found(&["web.1"]);
        // Begins and ends so that the secret is at another place each time, mostly over a cut.
        let text = format!("{turn} {}hunter2-hunter2{}", "x".repeat(PIECE - 20 + turn as usize), "y".repeat(3 * PIECE));
        let pieces: Vec<&str> = text.as_bytes().chunks(PIECE).map(|piece| str::from_utf8(piece).unwrap()).collect();
        let time = Timestamp::now();
        for (n, piece) in pieces.iter().enumerate() {
            let last = n + 1 == pieces.len();
            replica.write(time, "stdout", &if last { format!("{piece}\n") } else { (*piece).to_owned() });
            if n == 1 && turn % 3 == 0 {
                replica.write(Timestamp::now(), "stderr", &format!("{turn} beside\n"));
            }
            if n == turn as usize % 4 {
                match turn % 6 {
                    0 | 3 => world.round(),
                    1 => replica.rotate(),
                    2 => {
                        world.round();
                        world = world.restarted();
                        world.found(&["web.1"]);
                    }
                    _ => {}
                }
            }
        }
        expect.push(text.replace("hunter2-hunter2", "[secret]"));
        if turn % 3 == 0 {
            expect.push(format!("{turn} beside"));
        }
    }
    world.found(&["web.1"]);
    world.round();
    let (records, _) = world.read(LogQuery { mask: Values(vec!["hunter2-hunter2".into()]), ..query() }).await;
    assert!(records.iter().all(|record| !record.more));
    assert_eq!(texts(&records), expect);
}

#[tokio::test]
async fn a_clock_that_goes_back_within_a_long_line_holds_nothing_up() {
    let mut world = World::new();
    let mut replica = world.replica("web.1");
    world.found(&["web.1"]);
    let time = Timestamp::now();
    // As many short lines as fill the queue, and the long one's beginning read together with them.
    let (many, before) = (3_000, time - Duration::from_secs(3));
    for n in 0..many {
        replica.say_at(time, &n.to_string());
    }
    for n in 0..20 {
        replica.write(before, "stdout", &format!("{}{}", "y".repeat(16 << 10), if n == 19 { "\n" } else { "" }));
    }
    world.round();
    let (records, _) = world.read(query()).await;
    let long: usize = records.iter().skip(many).map(|record| record.line().len()).sum();
    assert_eq!((records.len() > many, long), (true, 20 * (16 << 10)));
}

#[tokio::test]
async fn requests_that_the_router_had_no_room_for_are_told() {
    let mut world = World::new();
    let mut router = File::options().append(true).create(true).open(world.folder.path().join("access.log")).unwrap();
    let mut ask = |second: i64| {
        let line = format!(
            r#"{{"layer":"routing","slug":"{SLUG}","release":"1","at":{},"address":"::1","method":"GET","host":"h","path":"/{second}","protocol":"HTTP/1.1","status":200,"sent":1,"received":1,"ms":1,"cache":"","tls":false,"agent":"","referrer":""}}"#,
            Timestamp::from_second(1_795_000_000 + second).unwrap().as_microsecond()
        );
        writeln!(router, "{line}").unwrap();
    };
    (0..10).for_each(&mut ask);
    world.round();
    (10..4_000).for_each(&mut ask);
    let mut world = world.restarted();
    let file = File::options().write(true).open(world.folder.path().join("access.log")).unwrap();
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 4096, 400 << 10).unwrap();
    world.round();
    let (records, _) = world.read(query()).await;
    let gaps: Vec<_> = records.iter().enumerate().filter(|(_, record)| record.access.is_none()).collect();
    let [(at, gap)] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.layer, LogLayer::Routing);
    let (before, after) = (&records[at - 1], &records[at + 1]);
    assert!(gap.line().contains(&format!("from {:.3} until {:.3}", before.time, after.time)), "{}", gap.line());
    assert!(after.time.as_second() - before.time.as_second() > 1_000);
    assert_eq!(records.last().unwrap().access.as_ref().unwrap().path, "/3999");
}

#[tokio::test]
async fn lines_outlive_their_container_and_its_name_is_forgotten() {
    let mut world = World::new();
    let mut replica = world.replica("web.1");
    replica.say("a");
    world.found(&["web.1"]);
    world.round();
    replica.say("last words");
    std::fs::remove_file(&replica.path).unwrap();
    world.found(&[]);
    world.round();
    let (records, _) = world.read(query()).await;
    assert_eq!(texts(&records), ["a", "last words"]);
    assert_eq!(world.logs.of(SLUG).unwrap().sources(), Vec::<String>::new());
}

#[tokio::test]
async fn segments_and_places_in_them() {
    let mut world = World::new();
    let bounds = LogBounds { size: ByteSize::mib(1), keep: Span(Duration::from_secs(86_400)) };
    world.logs.bound(SLUG, &bounds).unwrap();
    let mut replica = world.replica("web.1");
    world.found(&["web.1"]);
    let start = Timestamp::now() - Duration::from_secs(3_000);
    for n in 0..3_000_u64 {
        replica.say_at(start + Duration::from_secs(n), &format!("{n} {}", "x".repeat(200)));
        if n % 100 == 99 {
            world.round();
        }
    }
    let numbers = |records: &[LogRecord]| -> Vec<u64> {
        texts(records).iter().map(|text| text.split_once(' ').unwrap().0.parse().unwrap()).collect()
    };
    assert!(world.logs.of(SLUG).unwrap().segments().len() > 3);
    let (all, _) = world.read(query()).await;
    assert_eq!(numbers(&all), (0..3_000).collect::<Vec<_>>());
    let (last, _) = world.read(LogQuery { last: Some(700), ..query() }).await;
    assert_eq!(numbers(&last), (2_300..3_000).collect::<Vec<_>>());
    let filter = LogFilter { since: Some(start + Duration::from_secs(1_500)), ..LogFilter::default() };
    let (since, _) = world.read(LogQuery { filter: filter.clone(), ..query() }).await;
    assert_eq!(numbers(&since), (1_500..3_000).collect::<Vec<_>>());
    let filter = LogFilter { grep: Some("^[0-9]*7 ".into()), ..filter };
    let (found, _) = world.read(LogQuery { filter, last: Some(2), ..query() }).await;
    assert_eq!(numbers(&found), [2_987, 2_997]);
    let (masked, _) = world.read(LogQuery { last: Some(1), mask: Values(vec!["x".repeat(200)]), ..query() }).await;
    assert_eq!(texts(&masked), ["2999 [secret]"]);
}

#[tokio::test]
async fn a_follower_that_lags_is_told_what_it_missed() {
    let mut world = World::new();
    let bounds = LogBounds { size: ByteSize(64 << 10), keep: Span(Duration::from_secs(86_400)) };
    world.logs.bound(SLUG, &bounds).unwrap();
    let mut replica = world.replica("web.1");
    world.found(&["web.1"]);
    replica.say("first");
    world.round();
    let (_, mark) = world.read(query()).await;
    for n in 0..5_000 {
        let noise: String = (0..10).map(|i| uuid::Uuid::from_u128(n * 77_777 * (i + 1)).to_string()).collect();
        replica.say(&noise);
        if n % 50 == 0 {
            world.round();
        }
    }
    let after = Some(mark.cursor.parse().unwrap());
    let (records, _) = world.read(LogQuery { after, ..query() }).await;
    assert!(records[0].line().contains("are not kept any more"), "{:?}", records[0]);
    assert!(records.len() > 10);
}

#[tokio::test]
async fn a_follower_hears_at_once() {
    let mut world = World::new();
    let mut replica = world.replica("web.1");
    world.found(&["web.1"]);
    world.round();
    let (out, mut lines) = mpsc::channel(4);
    let logs = world.logs.clone();
    let following = tokio_util::task::TaskTracker::new()
        .spawn(async move { logs.follow(LogQuery { follow: true, ..query() }, out).await });
    assert!(lines.recv().await.unwrap().starts_with(b"{\"mark\""));
    replica.say("hello");
    world.round();
    let heard = async {
        loop {
            let piece = lines.recv().await.unwrap();
            if !piece.starts_with(b"{\"mark\"") {
                return piece;
            }
        }
    };
    let piece = tokio::time::timeout(Duration::from_secs(1), heard).await.unwrap();
    assert!(String::from_utf8(piece.to_vec()).unwrap().contains("\"text\":\"hello\""));
    drop(lines);
    following.await.unwrap().unwrap();
}
