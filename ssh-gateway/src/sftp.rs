//! An SFTP server (draft-ietf-secsh-filexfer-02, which is version 3, and OpenSSH's extensions) on standard
//! input and output.
//!
//! It runs inside the container as the session's user, in a process that was forked and has not executed
//! anything. There is no jail of our own: the kernel decides what the user may touch. Nothing here asks a
//! name service, and every length that comes from the client is bounded before it is used.
//!
//! ```text
//! input: u32 length, u8 kind, u32 id, fields → server → output: u32 length, u8 kind, u32 id, fields
//! ```

mod accounts;
mod attributes;
mod buffer;
mod extensions;
mod handles;
mod longname;
mod paths;
mod server;

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;

pub(crate) use accounts::Accounts;
use buffer::Buffer;
pub use chores_common::sftp::Wrong;
pub(crate) use chores_common::sftp::reason;
use chores_common::sftp::{LENGTH_BYTES, PACKET_BYTES_MAX};
pub use server::Rights;
use server::Server;
pub(crate) use server::close;

use crate::tally::Tally;

/// Done: the client closed its end.
const EXIT_DONE: u8 = 0;
/// The client does not speak the protocol, or is gone.
const EXIT_FAILED: u8 = 1;

/// A request is answered only while less than this waits to be sent. In bytes.
const OUTPUT_BUSY: usize = 256 * 1024;
/// Answers are collected up to this before they are sent in the midst of other requests. In bytes.
const OUTPUT_WORTH: usize = 32 * 1024;
/// What waits to be sent, at most: one more answer than [`OUTPUT_BUSY`] lets through. In bytes.
const OUTPUT_BYTES_MAX: usize = OUTPUT_BUSY + 2 * (PACKET_BYTES_MAX + LENGTH_BYTES);
/// Room for one request and the beginnings of others. In bytes.
const INPUT_BYTES_MAX: usize = PACKET_BYTES_MAX + LENGTH_BYTES + 64 * 1024;
/// Read at once when the length of the next request is not known yet. In bytes.
const INPUT_STEP: usize = 64 * 1024;
/// From this on the rest of a request is read by itself, so that it ends where the buffer does and nothing
/// has to be moved. In bytes.
const INPUT_ALONE: usize = 16 * 1024;
/// Asked of the pipes to standard input and output: about one read or write. Not more, since what a user's
/// pipes may take together is bounded (`pipe-user-pages-soft`, pipe(7)). In bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// Serves standard input and output until the client closes its end. Returns the exit status of the process.
///
/// Relative paths, `~` and the empty path mean `home`, or the current directory when that cannot be entered. What is
/// done to files is told to who has the other end of `told`.
#[must_use]
pub fn serve(home: &Path, rights: Rights, told: Option<OwnedFd>) -> u8 {
    // A home directory that is missing is no reason to serve nothing.
    let _stay = rustix::process::chdir(home);
    let tally = told.map_or_else(Tally::silent, Tally::new);
    tally.outlast_signals();
    match serve_between(&io::stdin(), &io::stdout(), home, rights, tally) {
        Ok(()) => EXIT_DONE,
        Err(Ended::Gone | Ended::Untold) => EXIT_FAILED,
        Err(ended) => {
            // Nobody may listen there any more.
            let _unheard = writeln!(io::stderr(), "sftp: {ended}");
            EXIT_FAILED
        }
    }
}

/// Why a conversation ended before the client's end of input.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client does not speak SFTP.
    #[error("{0}")]
    Wrong(#[from] Wrong),
    /// It does not listen any more.
    #[error("the client is gone")]
    Gone,
    /// What is done to files cannot be told any more.
    #[error("nobody keeps what is done to files")]
    Untold,
    /// A descriptor failed.
    #[error("cannot read from or write to the client: {0}")]
    Io(#[from] Errno),
}

/// Serves a client that writes to `input` and reads from `output`, until it closes its end. Both become
/// non-blocking.
///
/// Relative paths mean the current directory, `~` means `home`. The tally is told what is done to files.
pub fn serve_between(
    input: &impl AsFd,
    output: &impl AsFd,
    home: &Path,
    rights: Rights,
    tally: Tally,
) -> Result<(), Ended> {
    let mut server = Server::new(home, rights, tally);
    let ended = converse(input, output, &mut server);
    server.end();
    ended
}

fn converse(input: &impl AsFd, output: &impl AsFd, server: &mut Server) -> Result<(), Ended> {
    for stream in [input.as_fd(), output.as_fd()] {
        // Larger pipes mean fewer turns; sockets have none.
        let _as_it_is = fcntl_setpipe_size(stream, PIPE_BYTES);
        rustix::io::ioctl_fionbio(stream, true)?;
    }
    let mut requests = Buffer::new(INPUT_BYTES_MAX);
    let mut answers = Buffer::new(OUTPUT_BYTES_MAX);
    let mut open = true;
    loop {
        while answers.len() < OUTPUT_BUSY
            && let Some(request) = next_request(&requests)?
        {
            let end = LENGTH_BYTES.saturating_add(request.len());
            server.answer(request, &mut answers)?;
            // What is not told is not done any more, and what was done last is not answered.
            if server.tally.is_broken() {
                return Err(Ended::Untold);
            }
            requests.consume(end);
            if answers.len() >= OUTPUT_WORTH {
                send(output, &mut answers)?;
            }
        }
        send(output, &mut answers)?;
        let room = answers.len() < OUTPUT_BUSY;
        if room && next_request(&requests)?.is_some() {
            continue;
        }
        if !open && answers.is_empty() {
            return Ok(());
        }
        match if open && room { receive(input, &mut requests)? } else { Taken::Nothing } {
            Taken::Bytes => {}
            Taken::End => open = false,
            Taken::Nothing => wait(input, output, open && room, !answers.is_empty())?,
        }
    }
}

/// The first request of the buffer without its length, if all of it is there.
fn next_request(requests: &Buffer) -> Result<Option<&[u8]>, Wrong> {
    let Some(length) = next_length(requests)? else { return Ok(None) };
    let end = LENGTH_BYTES.saturating_add(length);
    Ok(requests.filled().get(LENGTH_BYTES..end))
}

/// What the first request of the buffer says its length is.
fn next_length(requests: &Buffer) -> Result<Option<usize>, Wrong> {
    let Some(length) = requests.filled().first_chunk() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*length)) {
        Ok(length) if (1..=PACKET_BYTES_MAX).contains(&length) => Ok(Some(length)),
        _ => Err(Wrong::Length(u32::from_be_bytes(*length))),
    }
}

/// What a read of the input gave.
enum Taken {
    Bytes,
    Nothing,
    End,
}

fn receive(input: &impl AsFd, requests: &mut Buffer) -> Result<Taken, Ended> {
    let missing = next_length(requests)?
        .map_or(0, |length| LENGTH_BYTES.saturating_add(length).saturating_sub(requests.len()));
    let wanted = if missing >= INPUT_ALONE { missing } else { INPUT_STEP };
    loop {
        match rustix::io::read(input, requests.room(wanted)) {
            Ok(0) => return Ok(Taken::End),
            Ok(length) => {
                requests.grow(length);
                return Ok(Taken::Bytes);
            }
            Err(Errno::AGAIN) => return Ok(Taken::Nothing),
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Err(Ended::Gone),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends what can be sent without waiting.
fn send(output: &impl AsFd, answers: &mut Buffer) -> Result<(), Ended> {
    while !answers.is_empty() {
        match rustix::io::write(output, answers.filled()) {
            Ok(length) => answers.consume(length),
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(Ended::Gone),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits, without a deadline, for the client: it may be silent as long as the session lives.
fn wait(
    input: &impl AsFd,
    output: &impl AsFd,
    for_input: bool,
    for_output: bool,
) -> Result<(), Ended> {
    let readable = if for_input { PollFlags::IN } else { PollFlags::empty() };
    let writable = if for_output { PollFlags::OUT } else { PollFlags::empty() };
    let answer = if for_input {
        poll(&mut [PollFd::new(output, writable), PollFd::new(input, readable)], None)
    } else {
        // A closed input would be reported again and again.
        poll(&mut [PollFd::new(output, writable)], None)
    };
    match answer {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
