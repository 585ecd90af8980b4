//! How long it takes to know how much disk an instance takes, beside `du`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::push::Figure;
use crate::{Lab, run};

const ROUNDS: usize = 3;
const PER_FOLDER: usize = 250;

/// A million files unless MAGRATHEA_BENCH_FILES says another number, with nothing of them in memory; then a btrfs subvolume.
pub fn measure_disk(lab: &Lab) -> Vec<Figure> {
    let files = std::env::var("MAGRATHEA_BENCH_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = lab.home.join("bench-disk");
    let _ = std::fs::remove_dir_all(&folder);
    let figures = vec![walk(lab, &folder.join("tree"), files), btrfs(lab, &folder)];
    std::fs::remove_dir_all(&folder).unwrap();
    figures
}

fn walk(lab: &Lab, tree: &Path, files: usize) -> Figure {
    make_tree(tree, files);
    let (mut own, mut du) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        du.push(cold(Command::new("du").arg("-s").arg(tree)));
        own.push(cold(&mut measure(lab, tree)));
    }
    let (own, du) = (median(own), median(du));
    figure(format!("disk: {files} files, cold cache, median of {ROUNDS}"), own, du, "≤ 0.5")
}

fn btrfs(lab: &Lab, folder: &Path) -> Figure {
    let (disk, mount) = (folder.join("disk"), folder.join("mount"));
    std::fs::create_dir_all(&mount).unwrap();
    std::fs::File::create(&disk).unwrap().set_len(2 << 30).unwrap();
    run(Command::new("mkfs.btrfs").arg("-q").arg(&disk)).ok();
    run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&mount)).ok();
    let subvolume = mount.join("i0123456789ab");
    run(Command::new("btrfs").args(["subvolume", "create"]).arg(&subvolume)).ok();
    run(Command::new("btrfs").args(["quota", "enable"]).arg(&mount)).ok();
    make_tree(&subvolume.join("tree"), 50_000);
    run(Command::new("sync").arg("-f").arg(&mount)).ok();
    let du = median((0..ROUNDS).map(|_| cold(Command::new("du").arg("-s").arg(&subvolume))).collect());
    // As it is in the agent, whose programs are in memory.
    let own = median((0..=2 * ROUNDS).map(|_| timed(&mut measure(lab, &subvolume))).collect());
    run(Command::new("umount").arg(&mount)).ok();
    figure("disk: a btrfs subvolume of 50000 files, the whole program".into(), own, du, "< 10 ms")
}

/// As the agent runs it.
fn measure(lab: &Lab, folder: &Path) -> Command {
    let mut command = Command::new("ionice");
    command.args(["-c", "3", "nice", "-n", "19"]).arg(lab.home.join("bin/magrathea-agent"));
    command.args(["measure", "--folder"]).arg(folder);
    command
}

fn figure(what: String, own: Duration, du: Duration, target: &'static str) -> Figure {
    let ratio = format!("{:.3}", own.as_secs_f64() / du.as_secs_f64());
    let text = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    (what, text(own), format!("{} (du -s)", text(du)), ratio, target)
}

fn cold(command: &mut Command) -> Duration {
    run(&mut Command::new("sync")).ok();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    timed(command)
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    run(command).ok();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Files as an app's uploads and caches are: small, some empty, in folders three deep.
fn make_tree(root: &Path, files: usize) {
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for number in (worker..files.div_ceil(PER_FOLDER)).step_by(4) {
                    let folder = root.join(format!("{}/{}/{number}", number % 40, number / 40 % 40));
                    std::fs::create_dir_all(&folder).unwrap();
                    for n in 0..PER_FOLDER.min(files - number * PER_FOLDER) {
                        let name = format!("file-{n}-{:08x}", (number * PER_FOLDER + n).wrapping_mul(2_654_435_761));
                        std::fs::write(folder.join(name), [7; 900].get(..n % 4 * 300).unwrap_or_default()).unwrap();
                    }
                }
            });
        }
    });
}
