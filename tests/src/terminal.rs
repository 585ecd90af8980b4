//! A terminal with nobody at it: programs run on it, and a test types and reads.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A program on a terminal of its own.
pub struct Terminal {
    keys: std::fs::File,
    side: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    pub child: Child,
}

impl Terminal {
    /// Starts a program on a terminal of 80 by 24 characters.
    pub fn start(command: &mut Command) -> Terminal {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let side = open(ptsname(&main, Vec::new()).unwrap(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&main, size).unwrap();
        let end = || side.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm").spawn().unwrap();
        let keys = std::fs::File::from(main);
        let (seen, mut screen) = (Arc::<Mutex<Vec<u8>>>::default(), keys.try_clone().unwrap());
        let into = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { keys, side, seen, child }
    }

    pub fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until a text has been shown so many times.
    #[track_caller]
    pub fn shows(&self, text: &str, times: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.screen().matches(text).count() < times {
            assert!(Instant::now() < end, "{text:?} is not shown: {:?}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.side, size).unwrap();
        // It is nobody's controlling terminal, so the kernel tells nobody.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(&self.side).unwrap()
    }

    /// Waits for the program's end.
    pub fn status(&mut self) -> i32 {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
