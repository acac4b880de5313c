//! What net and the uploader write to their standard error, as our own lines: they must not write them themselves, or they
//! could forge those of the audit.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::login::shown;

/// Bytes that are read together.
const READ_BYTES: usize = 4096;
/// Longest line, in bytes; the rest is cut.
const LINE_BYTES_MAX: usize = 1024;

/// A pipe: what is written to it is logged as the words of `who` until all its writers are gone. Needs a tokio runtime.
pub(super) fn logged(who: &'static str) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let reader = Receiver::from_owned_fd(reader)?;
    tokio::spawn(log(reader, who));
    Ok(writer)
}

async fn log(mut reader: Receiver, who: &'static str) {
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    let mut bytes = [0; READ_BYTES];
    loop {
        let length = match reader.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        for byte in bytes.iter().take(length) {
            match byte {
                b'\n' => say(&mut line, who),
                _ if line.len() < LINE_BYTES_MAX => line.push(*byte),
                _ => {}
            }
        }
    }
    say(&mut line, who);
}

fn say(line: &mut Vec<u8>, who: &str) {
    if !line.is_empty() {
        tracing::warn!("{who} says: {}", shown(&String::from_utf8_lossy(line)));
    }
    line.clear();
}
