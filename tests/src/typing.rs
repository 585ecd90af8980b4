//! People at terminals: each types a key now and then, and waits until it is shown.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// How long a shell may take to show its prompt, and a key to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens all these shells, then types so many keys into each with this pause between two. Milliseconds from each key to
/// its echo. A shell that ends early panics.
pub fn type_into(shells: Vec<Command>, keys: usize, pause: Duration) -> Vec<f64> {
    let all_open = Arc::new(Barrier::new(shells.len()));
    let count = u32::try_from(shells.len()).unwrap();
    let people: Vec<_> = (0..count)
        .zip(shells)
        .map(|(n, shell)| {
            let all_open = Arc::clone(&all_open);
            // Nobody starts, or types, at the same moment as everybody else.
            std::thread::sleep(Duration::from_millis(25));
            std::thread::spawn(move || person(shell, keys, pause, pause * n / count, &all_open))
        })
        .collect();
    people.into_iter().flat_map(|person| person.join().unwrap()).collect()
}

fn person(mut shell: Command, keys: usize, pause: Duration, offset: Duration, all_open: &Barrier) -> Vec<f64> {
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    wait_for(&mut stdout, b'$');
    all_open.wait();
    std::thread::sleep(offset);
    let mut taken = Vec::new();
    for key in (b'a'..=b'z').cycle().take(keys) {
        let pressed = Instant::now();
        stdin.write_all(&[key]).unwrap();
        wait_for(&mut stdout, key);
        taken.push(pressed.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(pause.saturating_sub(pressed.elapsed()));
    }
    // Whoever is done stays until all are.
    all_open.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    taken
}

fn wait_for(stdout: &mut impl Read, wanted: u8) {
    let (since, mut seen) = (Instant::now(), [0; 4096]);
    loop {
        let read = stdout.read(&mut seen).unwrap();
        assert!(read > 0, "a shell ended before its time");
        assert!(since.elapsed() < PATIENCE, "a shell shows nothing");
        if seen[..read].contains(&wanted) {
            return;
        }
    }
}
