//! Joins a person's terminal, or a pipe, to a program far away: keys and signals there, output and status back.

use bytes::Bytes;
use magrathea_core::wire::stream::CHUNK;
use magrathea_core::wire::{Frame, Signal, Tty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::stream::{self, Receiver, Sender};
use crate::terminal::{self, Escape, Raw};

/// As a shell tells of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// Passes everything on until the program ends. Its status is td's.
pub async fn attach((sender, receiver): (Sender, Receiver), tty: Option<&Tty>) -> Result<Exit, Failure> {
    let raw = tty.map(|_| Raw::enter()).transpose()?;
    let end = tokio::select! {
        end = show(receiver) => end,
        end = feed(sender, tty.is_some()) => end,
    };
    drop(raw);
    end
}

/// Shows what comes, up to the last frame.
async fn show(mut receiver: Receiver) -> Result<Exit, Failure> {
    let (mut out, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match receiver.next().await? {
            // Nobody reads any more, as after `td app run … | head`: the end of td ends the program.
            Frame::Data(bytes) if out.write_all(&bytes).await.is_err() || out.flush().await.is_err() => {
                return Ok(Exit::Remote(BROKEN_PIPE));
            }
            Frame::Error(bytes) => {
                let _ = errors.write_all(&bytes).await;
                let _ = errors.flush().await;
            }
            Frame::Exit { code } => return Ok(Exit::Remote(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
            Frame::Failed(error) => {
                let failure = Failure::say(Exit::Failed, error.message);
                return Err(Failure { hint: error.hint, ..failure });
            }
            _ => {}
        }
    }
}

/// Sends what is typed, and what happens to td. Ends only when the person leaves.
async fn feed(mut sender: Sender, is_terminal: bool) -> Result<Exit, Failure> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pings = stream::pings();
    let (mut input, mut buffer, mut open) = (tokio::io::stdin(), vec![0; CHUNK], true);
    let (mut escape, mut interrupted) = (Escape::default(), false);
    loop {
        let frame = tokio::select! {
            count = input.read(&mut buffer), if open => match count {
                Ok(count @ 1..) => {
                    let keys = buffer.get(..count).unwrap_or_default();
                    if is_terminal && escape.is_in(keys) {
                        return leave(sender).await;
                    }
                    Frame::Data(Bytes::copy_from_slice(keys))
                }
                _ => {
                    open = false;
                    Frame::Eof
                }
            },
            _ = resized.recv(), if is_terminal => match terminal::size() {
                Some(size) => Frame::Resize(size),
                None => continue,
            },
            _ = interrupt.recv() => {
                if std::mem::replace(&mut interrupted, true) {
                    return leave(sender).await;
                }
                Frame::Signal(Signal::Interrupt)
            }
            _ = terminate.recv() => return leave(sender).await,
            _ = hangup.recv() => return leave(sender).await,
            _ = pings.tick() => {
                let _ = sender.ping().await;
                continue;
            }
        };
        if sender.send(&frame).await.is_err() {
            // What ended the connection is told by what came last on it.
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the program by leaving it.
async fn leave(mut sender: Sender) -> Result<Exit, Failure> {
    sender.close().await;
    Ok(Exit::Remote(128 + Signal::Hangup.number()))
}
