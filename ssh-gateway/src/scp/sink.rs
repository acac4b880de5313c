//! `scp -t`: files from there to here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::sftp::close;
use crate::tally::{Tally, Transfer, flag};
use crate::wire::files::{Act, Set};

use super::DEPTH_MAX;
use super::command::Options;
use super::peer::{Ended, Peer};
use super::source::words;

/// As the kernel (`NAME_MAX`). In bytes.
const NAME_BYTES_MAX: usize = 255;
/// Of a second.
const MICROSECONDS: i64 = 1_000_000;

/// Receives files into the target.
pub(super) fn receive(
    options: &Options,
    paths: &[Vec<u8>],
    umask: Mode,
    peer: &mut Peer<'_>,
) -> Result<(), Ended> {
    let [target] = paths else {
        return Err(Ended::Wrong("scp -t needs one target".to_owned()));
    };
    // As ssh does it: nothing is the home directory.
    let target: &[u8] = if target.is_empty() { b"." } else { target };
    let bottom = match open_directory(CWD, target) {
        Ok(directory) => Some(directory),
        Err(error) if options.directory => {
            let target = String::from_utf8_lossy(target);
            return Err(Ended::Wrong(format!("{target}: {}", words(error))));
        }
        Err(_) => None,
    };
    peer.accept()?;
    Sink { options, peer, umask, target, bottom, levels: Vec::new(), times: None }.run()
}

struct Sink<'a, 'b> {
    options: &'a Options,
    peer: &'a mut Peer<'b>,
    umask: Mode,
    target: &'a [u8],
    /// The target, if it is a directory.
    bottom: Option<OwnedFd>,
    /// The directories we are in, below it.
    levels: Vec<Level>,
    /// For what comes next.
    times: Option<Times>,
}

/// A directory that is being received.
struct Level {
    directory: OwnedFd,
    name: Vec<u8>,
    /// For when everything is in it.
    mode: Option<Mode>,
    times: Option<Times>,
}

/// When a file was changed and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    modification: Timespec,
    access: Timespec,
}

impl Times {
    fn set(self, file: &OwnedFd) -> Result<(), Errno> {
        let times = Timestamps { last_access: self.access, last_modification: self.modification };
        rustix::fs::futimens(file, &times)
    }
}

/// A line of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record<'a> {
    Times(Times),
    File { mode: Mode, size: u64, name: &'a [u8] },
    Directory { mode: Mode, name: &'a [u8] },
    End,
}

/// What is wrong with such a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("protocol error: expected control record")]
    Kind,
    #[error("protocol error: bad mode")]
    Mode,
    #[error("protocol error: size not delimited, or out of range")]
    Size,
    #[error("protocol error: times not delimited, or out of range")]
    Times,
    #[error("error: unexpected filename")]
    Name,
}

impl Sink<'_, '_> {
    fn run(&mut self) -> Result<(), Ended> {
        while let Some(kind) = self.peer.byte()? {
            if kind == b'\n' {
                return Err(Ended::Wrong(Malformed::Kind.to_string()));
            }
            let line = self.peer.line()?;
            if kind == 1 {
                self.peer.told_of_failure();
                continue;
            }
            if kind == 2 {
                return Err(Ended::Told);
            }
            match Record::parse(kind, &line).map_err(|error| Ended::Wrong(error.to_string()))? {
                Record::Times(times) => {
                    self.times = Some(times);
                    self.peer.accept()?;
                }
                Record::File { mode, size, name } => {
                    let times = self.times.take();
                    self.file(mode, size, times, name)?;
                }
                Record::Directory { mode, name } => {
                    let times = self.times.take();
                    self.directory(mode, times, name)?;
                }
                Record::End => match self.levels.pop() {
                    Some(level) => self.leave(&level)?,
                    None => {
                        self.peer.accept()?;
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    /// Where a name is to be, and under which name there.
    fn place<'c>(&'c self, name: &'c [u8]) -> (BorrowedFd<'c>, &'c [u8]) {
        match (self.levels.last(), &self.bottom) {
            (Some(level), _) => (level.directory.as_fd(), name),
            (None, Some(bottom)) => (bottom.as_fd(), name),
            (None, None) => (CWD, self.target),
        }
    }

    /// What [`Self::place`] is called.
    fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.target.to_vec();
        if self.bottom.is_some() {
            for name in self.levels.iter().map(|level| level.name.as_slice()).chain([name]) {
                path.push(b'/');
                path.extend_from_slice(name);
            }
        } else {
            // The first directory has the name of the target, and what is in it has its own.
            let below = self.levels.iter().skip(1).map(|level| level.name.as_slice());
            for name in below.chain((!self.levels.is_empty()).then_some(name)) {
                path.push(b'/');
                path.extend_from_slice(name);
            }
        }
        path
    }

    fn told(
        &mut self,
        result: Result<(), Errno>,
        act: impl FnOnce(&Tally) -> Act,
    ) -> Result<(), Ended> {
        self.peer.tally.done(act, result.err().map(words).as_deref());
        self.peer.check_told()
    }

    fn refuse(&mut self, name: &[u8], error: Errno) -> Result<(), Ended> {
        self.peer.refuse(&[name, b": ", words(error).as_bytes()].concat())
    }

    fn directory(&mut self, mode: Mode, times: Option<Times>, name: &[u8]) -> Result<(), Ended> {
        if !self.options.recursive {
            return Err(Ended::Wrong("protocol error: received directory without -r".to_owned()));
        }
        if self.levels.len() >= DEPTH_MAX {
            return Err(Ended::Wrong("too deep in directories".to_owned()));
        }
        let path = self.path(name);
        let (at, name) = self.place(name);
        let made = rustix::fs::mkdirat(at, name, mode | Mode::RWXU);
        let opened = match made {
            Ok(()) | Err(Errno::EXIST) => open_directory(at, name),
            Err(error) => Err(error),
        };
        let name = name.to_vec();
        if made != Err(Errno::EXIST) {
            self.told(made, |tally| Act::MakeDirectory { path: tally.path(&path) })?;
        }
        match opened {
            Ok(directory) => {
                let mode = match (self.options.preserve, made) {
                    (true, _) => Some(mode),
                    (false, Ok(())) => Some(mode - self.umask),
                    (false, Err(_)) => None,
                };
                self.levels.push(Level { directory, name, mode, times });
                self.peer.accept()
            }
            Err(error) => self.refuse(&name, error),
        }
    }

    fn leave(&mut self, level: &Level) -> Result<(), Ended> {
        let times = level.times.as_ref().map_or(Ok(()), |times| times.set(&level.directory));
        let mode = level.mode.map_or(Ok(()), |mode| rustix::fs::fchmod(&level.directory, mode));
        let done = times.and(mode);
        if level.times.is_some() || level.mode.is_some() {
            let path = self.path(&level.name);
            let set = told(level.mode, level.times);
            self.told(done, |tally| Act::Set { path: tally.path(&path), set })?;
        }
        match done {
            Ok(()) => self.peer.accept(),
            Err(error) => self.refuse(&level.name, error),
        }
    }

    fn file(
        &mut self,
        mode: Mode,
        size: u64,
        times: Option<Times>,
        name: &[u8],
    ) -> Result<(), Ended> {
        let path = self.path(name);
        let (at, name) = self.place(name);
        let new = rustix::fs::statat(at, name, AtFlags::empty()).is_err();
        let opened = open_file(at, name, mode | Mode::WUSR);
        let name = name.to_vec();
        let flags = flag::WRITE | flag::CREATE;
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                self.told(Err(error), |tally| Act::Open { path: tally.path(&path), flags })?;
                return self.refuse(&name, error);
            }
        };
        let mut transfer = self.peer.tally.opened(&path, flags);
        let taken = match self.take(&file, size, &mut transfer) {
            Ok(taken) => taken,
            Err(ended) => {
                self.peer.tally.left(transfer);
                return Err(ended);
            }
        };
        let finished =
            taken.and_then(|()| self.finish(&file, new, mode, size, times, &mut transfer));
        let finished = finished.and(close(file));
        self.peer.tally.closed(transfer, finished.err().map(words).as_deref());
        self.peer.check_told()?;
        // A source that had no good bytes says so here, and still waits for our word.
        self.peer.accepted()?;
        match finished {
            Ok(()) => self.peer.accept(),
            Err(error) => self.refuse(&name, error),
        }
    }

    /// Writes what comes. All of it is taken, whether it can be written or not.
    fn take(
        &mut self,
        file: &OwnedFd,
        size: u64,
        transfer: &mut Transfer,
    ) -> Result<Result<(), Errno>, Ended> {
        self.peer.accept()?;
        let mut done = Ok(());
        let mut left = size;
        while left > 0 {
            left -= self.peer.pass(left, |bytes| {
                if done.is_ok() {
                    done = write_all(file, bytes);
                    if done.is_ok() {
                        transfer.wrote(size - left, bytes);
                    }
                }
            })?;
        }
        Ok(done)
    }

    /// Length, mode and times of a file that is written.
    fn finish(
        &self,
        file: &OwnedFd,
        new: bool,
        mode: Mode,
        size: u64,
        times: Option<Times>,
        transfer: &mut Transfer,
    ) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(file)?;
        let mut set = None;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            rustix::fs::ftruncate(file, size)?;
            if self.options.preserve {
                set = Some(mode);
            } else if !new || !mode.contains(Mode::WUSR) {
                set = Some(mode - self.umask);
            }
            set.map_or(Ok(()), |mode| rustix::fs::fchmod(file, mode))?;
        }
        times.map_or(Ok(()), |times| times.set(file))?;
        transfer.set(&told(set, times));
        Ok(())
    }
}

/// Attributes as they are told.
fn told(mode: Option<Mode>, times: Option<Times>) -> Set {
    let seconds = |time: Timespec| u32::try_from(time.tv_sec).unwrap_or(u32::MAX);
    Set {
        mode: mode.map(|mode| mode.bits()),
        times: times.map(|times| (seconds(times.access), seconds(times.modification))),
        ..Set::default()
    }
}

/// A directory to put something into; one that may not be read can still be that.
fn open_directory(at: impl AsFd + Copy, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => rustix::fs::openat(at, name, flags | OFlags::PATH, Mode::empty()),
        opened => opened,
    }
}

/// A file to be written, without waiting for the other end of a pipe.
fn open_file(at: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat(at, name, flags, mode)?;
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let length = retry_on_intr(|| rustix::io::write(file, bytes))?;
        if length == 0 {
            return Err(Errno::IO);
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

impl<'a> Record<'a> {
    /// A line without its end, and the byte it began with.
    fn parse(kind: u8, line: &'a [u8]) -> Result<Self, Malformed> {
        match kind {
            b'E' if line.is_empty() => Ok(Self::End),
            b'T' => times(line).map(Self::Times),
            b'C' => {
                let (mode, size, name) = described(line)?;
                Ok(Self::File { mode, size, name })
            }
            b'D' => {
                let (mode, _, name) = described(line)?;
                Ok(Self::Directory { mode, name })
            }
            _ => Err(Malformed::Kind),
        }
    }
}

/// Mode, size and name.
fn described(line: &[u8]) -> Result<(Mode, u64, &[u8]), Malformed> {
    let (mode, rest) = line.split_at_checked(4).ok_or(Malformed::Mode)?;
    if !mode.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(Malformed::Mode);
    }
    let mode = mode.iter().fold(0, |mode, digit| mode << 3 | u32::from(digit & 7));
    let rest = rest.strip_prefix(b" ").ok_or(Malformed::Mode)?;
    let space = rest.iter().position(|byte| *byte == b' ').ok_or(Malformed::Size)?;
    let (size, name) = rest.split_at_checked(space).ok_or(Malformed::Size)?;
    let size = number(size).filter(|size| i64::try_from(*size).is_ok()).ok_or(Malformed::Size)?;
    let name = name.strip_prefix(b" ").ok_or(Malformed::Size)?;
    let good = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| *byte == b'/' || byte.is_ascii_control());
    if good { Ok((Mode::from_raw_mode(mode), size, name)) } else { Err(Malformed::Name) }
}

/// `mtime microseconds atime microseconds`.
fn times(line: &[u8]) -> Result<Times, Malformed> {
    let mut numbers = line.split(|byte| *byte == b' ').map(number);
    let mut time = || {
        let seconds = numbers.next()??;
        let micros = numbers.next()??;
        let tv_sec = i64::try_from(seconds).ok()?;
        let micros = i64::try_from(micros).ok().filter(|micros| *micros < MICROSECONDS)?;
        Some(Timespec { tv_sec, tv_nsec: micros * 1000 })
    };
    let modification = time().ok_or(Malformed::Times)?;
    let access = time().ok_or(Malformed::Times)?;
    if numbers.next().is_some() {
        return Err(Malformed::Times);
    }
    Ok(Times { modification, access })
}

/// Digits, and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests;
