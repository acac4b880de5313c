//! `scp -f`: files from here to there.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::DEPTH_MAX;
use super::command::Options;
use super::peer::{BUFFER, Ended, Peer};
use crate::tally::{Transfer, flag};
use crate::wire::files::Act;

/// Sends the files at these paths.
pub(super) fn send(options: &Options, paths: &[Vec<u8>], peer: &mut Peer<'_>) -> Result<(), Ended> {
    if paths.is_empty() {
        return Err(Ended::Wrong("scp -f needs the name of a file".to_owned()));
    }
    peer.accepted()?;
    let mut source = Source {
        options,
        peer,
        directories: Vec::new(),
        place: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    for path in paths {
        source.tree(path)?;
    }
    Ok(())
}

struct Source<'a, 'b> {
    options: &'a Options,
    peer: &'a mut Peer<'b>,
    /// Where we are: each with what tells it from all others.
    directories: Vec<(Dir, Identity)>,
    /// What these are called, as the client has said it.
    place: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Device and number of a file.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl Source<'_, '_> {
    /// One file, or one directory with all that is below.
    fn tree(&mut self, path: &[u8]) -> Result<(), Ended> {
        let name = base_name(path);
        let opened = open(CWD, path);
        self.one(opened, path, name)?;
        while let Some((directory, _)) = self.directories.last_mut() {
            match directory.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if name == b"." || name == b".." {
                        continue;
                    }
                    let opened = directory.fd().and_then(|directory| open(directory, name));
                    self.one(opened, name, name)?;
                }
                Some(Err(error)) => {
                    self.refuse(path, &error.to_string())?;
                    self.leave()?;
                }
                None => self.leave()?,
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Ended> {
        self.directories.pop();
        self.place.pop();
        self.peer.send(b"E\n")?;
        self.peer.accepted()?;
        Ok(())
    }

    /// Where something is that was found below the directories we are in.
    fn whole(&self, path: &[u8]) -> Vec<u8> {
        self.place.iter().map(Vec::as_slice).chain([path]).collect::<Vec<_>>().join(&b'/')
    }

    fn refuse(&mut self, name: &[u8], why: &str) -> Result<(), Ended> {
        self.peer.refuse(&[name, b": ", why.as_bytes()].concat())
    }

    /// Sends a file, or enters a directory.
    fn one(
        &mut self,
        opened: Result<(OwnedFd, Stat), Errno>,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Ended> {
        let (file, stat) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let (whole, flags) = (self.whole(path), flag::READ);
                let why = words(error);
                self.peer
                    .tally
                    .done(|tally| Act::Open { path: tally.path(&whole), flags }, Some(&why));
                self.peer.check_told()?;
                return self.refuse(path, &why);
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(&file, &stat, path, name),
            FileType::Directory if self.options.recursive => self.enter(file, &stat, path, name),
            _ => self.refuse(path, "not a regular file"),
        }
    }

    fn enter(
        &mut self,
        directory: OwnedFd,
        stat: &Stat,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Ended> {
        if self.directories.len() >= DEPTH_MAX {
            return self.refuse(path, "too deep in directories");
        }
        // Links are followed, so there may be a way back up.
        if self.directories.iter().any(|(_, above)| *above == identity(stat)) {
            return self.refuse(path, "a directory that contains itself");
        }
        let directory = match Dir::new(directory) {
            Ok(directory) => directory,
            Err(error) => return self.refuse(path, &words(error)),
        };
        if self.announce('D', stat, 0, name)? {
            self.directories.push((directory, identity(stat)));
            self.place.push(path.to_vec());
        }
        Ok(())
    }

    /// Says what comes; whether it is wanted.
    fn announce(&mut self, kind: char, stat: &Stat, size: u64, name: &[u8]) -> Result<bool, Ended> {
        if self.options.preserve {
            let times = format!("T{} 0 {} 0\n", stat.st_mtime.max(0), stat.st_atime.max(0));
            self.peer.send(times.as_bytes())?;
            if !self.peer.accepted()? {
                return Ok(false);
            }
        }
        let mut line = format!("{kind}{:04o} {size} ", stat.st_mode & 0o7777).into_bytes();
        line.extend(one_line(name));
        line.push(b'\n');
        self.peer.send(&line)?;
        self.peer.accepted()
    }

    fn file(&mut self, file: &OwnedFd, stat: &Stat, path: &[u8], name: &[u8]) -> Result<(), Ended> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if !self.announce('C', stat, size, name)? {
            return Ok(());
        }
        let whole = self.whole(path);
        let mut transfer = self.peer.tally.opened(&whole, flag::READ);
        let why = match self.send_content(file, size, &mut transfer) {
            Ok(why) => why,
            Err(ended) => {
                self.peer.tally.left(transfer);
                return Err(ended);
            }
        };
        self.peer.tally.closed(transfer, why.as_deref());
        self.peer.check_told()?;
        match why {
            None => self.peer.accept()?,
            Some(why) => self.refuse(path, &why)?,
        }
        self.peer.accepted()?;
        Ok(())
    }

    /// Sends as much as was promised; gives why not all of it is the file's.
    fn send_content(
        &mut self,
        file: &OwnedFd,
        size: u64,
        transfer: &mut Transfer,
    ) -> Result<Option<String>, Ended> {
        let mut left = size;
        let mut failure = None;
        while left > 0 {
            let room = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let room = self.buffer.get_mut(..room).unwrap_or_default();
            let length = match failure {
                None => match retry_on_intr(|| rustix::io::read(file, &mut *room)) {
                    Ok(0) => {
                        failure = Some("became shorter while it was read".to_owned());
                        continue;
                    }
                    Ok(length) => {
                        transfer.read(size - left, room.get(..length).unwrap_or_default());
                        length
                    }
                    Err(error) => {
                        failure = Some(words(error));
                        continue;
                    }
                },
                // The size is promised: the rest is zeros, and it is said that they are not the file.
                Some(_) => {
                    room.fill(0);
                    room.len()
                }
            };
            self.peer.send(room.get(..length).unwrap_or_default())?;
            left = left.saturating_sub(u64::try_from(length).unwrap_or(left));
        }
        Ok(failure)
    }
}

/// Opens whatever it is, without waiting for the other end of a pipe.
fn open(directory: impl AsFd, path: &[u8]) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    Ok((file, stat))
}

/// The last component.
fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let trimmed = path.get(..end).unwrap_or_default();
    trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// A name as it can stand in a line: one with a newline as OpenSSH's scp writes it, in the manner of vis(3).
fn one_line(name: &[u8]) -> Vec<u8> {
    if !name.contains(&b'\n') {
        return name.to_vec();
    }
    name.iter()
        .flat_map(|byte| match byte {
            b'\\' => b"\\\\".to_vec(),
            control @ 0..0x20 => vec![b'\\', b'^', control | 0x40],
            other => vec![*other],
        })
        .collect()
}

/// The system's words for an error, without its number.
pub(super) fn words(error: Errno) -> String {
    crate::sftp::reason(error)
}

#[cfg(test)]
mod tests;
