//! The remote side of legacy scp (the protocol of rcp), for containers without one.
//!
//! It runs inside the container as the session's user, in a process that was forked and has not executed
//! anything, on standard input and output. There is no jail: the kernel decides what the user may touch. The
//! names of received files are checked before they are used; nothing is recursive but by a bounded stack.
//!
//! ```text
//! source → sink   T<mtime> 0 <atime> 0\n   C<mode> <size> <name>\n <bytes> \0   D<mode> 0 <name>\n … E\n
//! sink → source   \0 after each            either: \1<words>\n goes on   \2<words>\n does not
//! ```

mod command;
mod glob;
mod peer;
mod sink;
mod source;

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use command::{Direction, Options, Word};
use peer::{Ended, Peer};

use crate::tally::Tally;

/// Everything was copied.
const EXIT_DONE: u8 = 0;
/// Something was not copied.
const EXIT_FAILED: u8 = 1;

/// Nothing is copied from or to deeper below its start than this: each level holds a descriptor.
const DEPTH_MAX: usize = 200;

/// Whether [`words`] will make something of a command line. No file is looked at for it.
#[must_use]
pub fn understands(command: &[u8]) -> bool {
    parts(command).is_some()
}

/// The words of a plain command line `scp -t|-f … PATH…` as a shell would pass them on: without quotes, with
/// `~`, and, for `-f`, with the files that the patterns of its paths mean now. `None` for anything else, be it
/// another program or a command line that needs a shell.
///
/// Call it where [`run`] is called: in the container, as the user, in the home directory.
#[must_use]
pub fn words(command: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (direction, mut expanded, paths) = parts(command)?;
    for word in &paths {
        match direction {
            Direction::Source => expanded.append(&mut glob::expand(word)),
            Direction::Sink => expanded.push(word.path()),
        }
    }
    Some(expanded)
}

/// Which way, the program and its options, and the paths as they were written.
fn parts(command: &[u8]) -> Option<(Direction, Vec<Vec<u8>>, Vec<Word>)> {
    let words = command::parse(command)?;
    let literal: Vec<Vec<u8>> = words.iter().map(Word::literal).collect();
    let (options, first_path) = Options::of(&literal)?;
    let paths = words.get(first_path..)?.to_vec();
    Some((options.direction, literal.get(..first_path)?.to_vec(), paths))
}

/// Serves one scp client on standard input and output, as these words say; the first is the name of the program. What
/// is done to files is told to who has the other end of `told`. Returns the exit status of the process.
#[must_use]
pub fn run(arguments: &[Vec<u8>], told: Option<OwnedFd>) -> u8 {
    let tally = told.map_or_else(Tally::silent, Tally::new);
    tally.outlast_signals();
    // There is no call that only asks.
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let (input, output) = (io::stdin(), io::stdout());
    let mut peer = Peer::new(&input, &output, tally);
    let status = serve(arguments, umask, &mut peer);
    peer.tally.end();
    status
}

fn serve(arguments: &[Vec<u8>], umask: Mode, peer: &mut Peer<'_>) -> u8 {
    let ended = match Options::of(arguments) {
        Some((options, first_path)) => {
            let paths = arguments.get(first_path..).unwrap_or_default();
            match options.direction {
                Direction::Source => source::send(&options, paths, peer),
                Direction::Sink => sink::receive(&options, paths, umask, peer),
            }
        }
        None => Err(Ended::Wrong("this program only answers scp -t and scp -f".to_owned())),
    };
    match ended {
        Ok(()) if peer.all_well() => EXIT_DONE,
        Err(Ended::Wrong(words)) => {
            // Whether it is heard or not: this is the end.
            let _heard = peer.fatal(&words);
            EXIT_FAILED
        }
        Ok(()) | Err(Ended::Told | Ended::Gone(_)) => EXIT_FAILED,
    }
}

#[cfg(test)]
mod tests;
