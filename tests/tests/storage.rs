//! The storage driver `btrfs`: an installation of its own whose cluster keeps writable paths on a btrfs file system in a
//! file. Whatever a run before left is taken away first, and nothing is left at the end, however the test ends.

use std::path::PathBuf;
use std::process::Command;

use magrathea_tests::{Ended, Lab, run, site::Site};

const HTTP: u16 = 29080;
const HTTPS: u16 = 29443;
const PREFIX: &str = "magbtrfs";
const DISK: u64 = 1 << 30;

/// A second installation beside the laboratory, with the laboratory's programs and images.
struct OnBtrfs {
    lab: Lab,
    folder: PathBuf,
}

impl OnBtrfs {
    fn up(first: &Lab) -> OnBtrfs {
        let mut folder = first.home.clone().into_os_string();
        folder.push("-btrfs");
        let folder = PathBuf::from(folder);
        let lab = Lab { home: folder.join("home"), http: HTTP, https: HTTPS, ..first.clone() };
        let made = OnBtrfs { lab, folder };
        made.remove();
        std::fs::create_dir_all(made.mount()).unwrap();
        std::fs::File::create(made.folder.join("disk")).unwrap().set_len(DISK).unwrap();
        made.run("mkfs.btrfs", &["-q", "disk"]).ok();
        made.run("mount", &["-o", "loop", "disk", "mount"]).ok();
        std::fs::write(made.folder.join("clusters.yml"), made.clusters()).unwrap();
        std::fs::create_dir_all(&made.lab.home).unwrap();
        run(Command::new("cp").arg("-r").args([first.home.join("bin"), made.lab.home.clone()])).ok();
        made.local("up").ok();
        made
    }

    fn mount(&self) -> PathBuf {
        self.folder.join("mount")
    }

    fn clusters(&self) -> String {
        format!(
            "clusters:
  copper:
    domain: localhost
    routing: {{listen: [127.0.0.1], http: {HTTP}, https: {HTTPS}}}
    db: {{port: 13406}}
    storage: {{driver: btrfs, path: {}/instances}}
    nodes: {{node1: {{address: 127.0.0.1, layers: [storage, db, app, proxy, routing, support]}}}}
",
            self.mount().display()
        )
    }

    fn run(&self, program: &str, args: &[&str]) -> Ended {
        run(Command::new(program).args(args).current_dir(&self.folder))
    }

    fn local(&self, verb: &str) -> Ended {
        let mut script = Command::new(self.lab.repository.join("scripts/local.sh"));
        script.arg(verb).envs([
            ("MAGRATHEA_PREFIX", PREFIX),
            ("MAGRATHEA_API", "127.0.0.1:19443"),
            ("MAGRATHEA_AGENTS", "127.0.0.1:19444"),
            ("MAGRATHEA_SSH", "127.0.0.1:19422"),
            ("MAGRATHEA_EXAMPLE", ""),
            ("MAGRATHEA_SKIP_BUILD", "1"),
            ("MAGRATHEA_YES", "1"),
        ]);
        script.envs([
            ("MAGRATHEA_HOME", self.lab.home.clone()),
            ("MAGRATHEA_CLUSTERS", self.folder.join("clusters.yml")),
            ("TD_CONFIG_DIR", self.lab.home.join("td")),
        ]);
        run(&mut script)
    }

    /// Takes away what is there; what is not is no matter.
    fn remove(&self) -> Vec<Ended> {
        if !self.folder.exists() {
            return Vec::new();
        }
        let mut ended = vec![self.local("clean")];
        if self.run("mountpoint", &["-q", "mount"]).code == 0 {
            ended.push(self.run("umount", &["mount"]));
        }
        // Never through a mount that did not go.
        ended.push(run(Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.folder)));
        ended
    }

    /// The folder names of all instances that have a subvolume.
    fn subvolumes(&self) -> Vec<String> {
        let list = self.run("btrfs", &["subvolume", "list", "mount"]).ok().stdout;
        list.lines().filter_map(|line| line.rsplit("path instances/").next().map(str::to_owned)).collect()
    }

    /// What an instance's subvolume refers to and what it may, in bytes.
    fn usage(&self, slug: &str) -> (u64, u64) {
        self.run("sync", &["-f", "mount"]).ok();
        let path = format!("mount/instances/{slug}");
        let shown = self.run("btrfs", &["qgroup", "show", "-rf", "--raw", &path]).ok().stdout;
        let line = shown.lines().last().unwrap();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[0], *numbers.last().unwrap())
    }
}

impl Drop for OnBtrfs {
    fn drop(&mut self) {
        self.remove();
    }
}

const PAGE: &str = r#"<?php
header('Cache-Control: no-store');
if ($_SERVER['REQUEST_METHOD'] === 'GET') {
    foreach (glob(__DIR__ . '/uploads/*') as $file) { echo basename($file), ' ', filesize($file), "\n"; }
    exit;
}
$part = random_bytes(1 << 20);
$out = @fopen(__DIR__ . '/uploads/' . $_GET['name'], 'wb');
for ($n = 0; $out && $n < (int) $_GET['mib']; $n++) {
    if (@fwrite($out, $part) !== strlen($part)) { $out = false; }
}
if (!$out || !fsync($out)) { http_response_code(507); exit(error_get_last()['message'] ?? 'short'); }
echo 'kept';
"#;

fn deploy(site: &Site, quota: &str) {
    site.file("magrathea.yml", format!("storage: {{quota: {quota}, writable: {{uploads: {{kind: shared}}}}}}\n"));
    site.deploy().ok();
}

async fn upload(site: &Site, name: &str, mib: u32) -> (u16, String) {
    let sent = site.lab.client().put(site.url(&format!("/?name={name}&mib={mib}"))).send().await.unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

const KEPT: u16 = 200;
const REFUSED: u16 = 507;

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn on_btrfs_an_instance_keeps_to_its_quota_and_leaves_nothing() {
    let storage = OnBtrfs::up(&Lab::get());
    keep_to_the_quota(&storage).await;
    leave_nothing(&storage);
}

async fn keep_to_the_quota(storage: &OnBtrfs) {
    let greedy = Site::new(&storage.lab, "greedy");
    greedy.file("index.php", PAGE).file("uploads/seed.txt", "from the release");
    deploy(&greedy, "64MiB");
    let modest = Site::new(&storage.lab, "modest");
    modest.file("index.php", PAGE);
    deploy(&modest, "64MiB");
    let mut expected = [greedy.slug(), modest.slug()];
    expected.sort();
    let mut found = storage.subvolumes();
    found.sort();
    assert_eq!(found, expected, "an instance has a subvolume");

    assert_eq!(upload(&greedy, "holiday", 8).await, (KEPT, "kept".into()));
    let (status, reason) = upload(&greedy, "hoard", 100).await;
    assert_eq!(status, REFUSED, "{reason}");
    assert!(reason.contains("Disk quota exceeded"), "{reason}");
    let (used, limit) = storage.usage(&greedy.slug());
    assert_eq!(limit, 64 << 20);
    assert!((40 << 20..=limit).contains(&used), "{used} bytes of {limit}");
    assert_eq!(upload(&modest, "postcard", 8).await.0, KEPT, "another instance is not concerned");
    assert_eq!(greedy.get("/").await.0, 200, "and the app itself serves on");

    // A new release finds the files, and a larger quota.
    greedy.file("index.php", PAGE.replace("echo basename", "echo 'v2 ', basename"));
    deploy(&greedy, "256MiB");
    let (_, files) = greedy.get("/").await;
    assert!(files.contains("v2 holiday 8388608\n") && files.contains("v2 seed.txt 16\n"), "{files}");
    assert_eq!(storage.usage(&greedy.slug()).1, 256 << 20);
    assert_eq!(upload(&greedy, "hoard", 100).await.0, KEPT, "the quota of the new release counts");

    let (gone, stays) = (greedy.slug(), modest.slug());
    greedy.td(&["app", "destroy", "--confirm", "greedy"]).ok();
    assert_eq!(storage.subvolumes(), [stays], "{gone} went with its app");
    assert!(modest.get("/").await.1.contains("postcard 8388608"));

    // One that nobody destroys, for `clean`.
    storage.lab.td(modest.path(), &["app", "deploy", "--dirty", "--app", "forgotten"]).ok();
}

/// What `make clean` promises, with an app still there.
fn leave_nothing(storage: &OnBtrfs) {
    assert_eq!(storage.subvolumes().len(), 1);
    storage.local("clean").ok();
    assert_eq!(storage.subvolumes(), Vec::<String>::new());
    let lab = &storage.lab;
    assert_eq!(lab.docker(&["ps", "-aq", "--filter", &format!("label=magrathea.owner={PREFIX}")]), "");
    for kind in ["service", "network", "secret"] {
        let left = lab.docker(&[kind, "ls", "--format", "{{.Name}}", "--filter", &format!("name={PREFIX}")]);
        assert_eq!(left, "", "{kind}");
    }
    storage.remove().into_iter().for_each(|ended| drop(ended.ok()));
    assert!(!storage.folder.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(storage.folder.to_str().unwrap()), "{mounts}");
}
