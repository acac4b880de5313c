//! Counts and hashes what our own file servers move, and tells the broker of it, file by file.
//!
//! It is part of the process inside the container: what it tells is as true as that process is its own master (see
//! `docs/ssh-gateway-threats.md`). What is told is with the kernel before the client gets its answer.

use std::os::fd::{AsFd as _, OwnedFd};

use sha2::{Digest as _, Sha256};

use crate::enter::sys;
use crate::wire::Program;
use crate::wire::files::{Act, Closed, Moved, Report, Set};

#[cfg(test)]
mod tests;

/// Why a file is told of that its client has not closed.
const NOT_CLOSED: &str = "its client did not close it";

/// Bytes of a path that are told: longer ones are none that the kernel takes.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// How files are opened (draft-ietf-secsh-filexfer-02, 6.3).
pub(crate) mod flag {
    pub(crate) const READ: u32 = 0x01;
    pub(crate) const WRITE: u32 = 0x02;
    pub(crate) const APPEND: u32 = 0x04;
    pub(crate) const CREATE: u32 = 0x08;
    pub(crate) const TRUNCATE: u32 = 0x10;
    pub(crate) const EXCLUSIVE: u32 = 0x20;
}

/// Whether this program may be one of those that tell of files. A container's own scp takes the socket away unused.
#[must_use]
pub fn tells(program: &Program) -> bool {
    match program {
        Program::Sftp | Program::SftpReadOnly => true,
        Program::Command(line) => crate::scp::understands(line),
        Program::Shell | Program::Words(_) | Program::Portal => false,
    }
}

/// Tells the broker.
#[derive(Debug)]
pub struct Tally {
    /// Where to; `None` when nobody wants to know, or nobody listens any more.
    socket: Option<OwnedFd>,
    is_broken: bool,
    /// What relative paths begin at.
    base: Vec<u8>,
    next: u64,
}

impl Tally {
    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self { socket: None, is_broken: false, base: Vec::new(), next: 0 }
    }

    /// Tells who has the other end. Relative paths are those of the current directory.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        // A directory that is gone has no name: then paths stay as they are.
        let base = rustix::process::getcwd(Vec::new()).map(std::ffi::CString::into_bytes);
        Self { socket: Some(socket), is_broken: false, base: base.unwrap_or_default(), next: 0 }
    }

    /// Lets no signal but KILL end this process, so that it tells of what it has open: it ends when its client's pipes
    /// do, and is killed after its grace.
    pub fn outlast_signals(&self) {
        if self.socket.is_some() {
            let ends = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE];
            let mask = ends.into_iter().fold(0, |mask, number| mask | sys::signal_bit(number));
            // A filter may forbid it: then less is told.
            drop(sys::set_signal_mask(mask));
        }
    }

    /// Whether it could not be told: then nothing more may be done.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// A file was opened.
    pub(crate) fn opened(&mut self, path: &[u8], flags: u32) -> Transfer {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.socket.is_none() {
            return Transfer::uncounted(number);
        }
        let path = self.path(path);
        self.tell(&Report::Opened { number, path, flags });
        Transfer::new(number, flags)
    }

    /// It was closed, for good or with a fault.
    pub(crate) fn closed(&mut self, transfer: Transfer, fault: Option<&str>) {
        if self.socket.is_some() {
            self.tell(&Report::Closed(Box::new(transfer.closed(fault))));
        }
    }

    /// It is closed since everything ends.
    pub(crate) fn left(&mut self, transfer: Transfer) {
        self.closed(transfer, Some(NOT_CLOSED));
    }

    /// Something was done by name, or not.
    pub(crate) fn done(&mut self, act: impl FnOnce(&Self) -> Act, failed: Option<&str>) {
        if self.socket.is_some() {
            let act = act(self);
            self.tell(&Report::Done { act, failed: failed.map(str::to_owned) });
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        if self.socket.is_some() {
            self.tell(&Report::End);
        }
        self.socket = None;
    }

    /// A path with the current directory before it, if it has none.
    pub(crate) fn path(&self, path: &[u8]) -> Vec<u8> {
        let path = path.get(..PATH_BYTES_MAX).unwrap_or(path);
        match path {
            [b'/', ..] => path.to_vec(),
            _ if self.base.is_empty() => path.to_vec(),
            _ if self.base.ends_with(b"/") => [self.base.as_slice(), path].concat(),
            _ => [self.base.as_slice(), b"/", path].concat(),
        }
    }

    /// Waits for room: whoever is told may be slow on purpose.
    fn tell(&mut self, report: &Report) {
        let Some(socket) = &self.socket else { return };
        // The form of [`crate::wire::socket`], by the one call that no filter forbids.
        let told = postcard::to_extend(report, vec![0]).is_ok_and(|bytes| {
            rustix::io::retry_on_intr(|| rustix::io::write(socket.as_fd(), &bytes)).is_ok()
        });
        if !told {
            self.is_broken = true;
            self.socket = None;
        }
    }
}

/// What goes through one open file.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) number: u64,
    read: Count,
    written: Count,
    set: Set,
}

impl Transfer {
    fn new(number: u64, flags: u32) -> Self {
        // What is appended is not at its offset.
        let is_placed = flags & flag::APPEND == 0;
        Self { number, read: Count::new(true), written: Count::new(is_placed), set: Set::default() }
    }

    /// Nobody wants to know.
    fn uncounted(number: u64) -> Self {
        Self { number, read: Count::new(false), written: Count::new(false), set: Set::default() }
    }

    /// These bytes were read there.
    pub(crate) fn read(&mut self, offset: u64, bytes: &[u8]) {
        self.read.pass(offset, bytes);
    }

    /// These bytes were written there.
    pub(crate) fn wrote(&mut self, offset: u64, bytes: &[u8]) {
        self.written.pass(offset, bytes);
    }

    /// Bytes came into it that did not go through here.
    pub(crate) fn filled(&mut self) {
        self.written.hash = None;
    }

    /// These attributes were set. Another length makes another content.
    pub(crate) fn set(&mut self, set: &Set) {
        if set.size.is_some_and(|size| size != self.written.next) {
            self.filled();
        }
        self.set.size = set.size.or(self.set.size);
        self.set.mode = set.mode.or(self.set.mode);
        self.set.owner = set.owner.or(self.set.owner);
        self.set.times = set.times.or(self.set.times);
    }

    fn closed(self, fault: Option<&str>) -> Closed {
        Closed {
            number: self.number,
            read: self.read.moved(),
            written: self.written.moved(),
            set: self.set,
            fault: fault.map(str::to_owned),
        }
    }
}

/// Bytes in one direction.
#[derive(Debug)]
struct Count {
    bytes: u64,
    /// As long as they go one after the other from 0 on.
    hash: Option<Sha256>,
    next: u64,
}

impl Count {
    fn new(is_hashed: bool) -> Self {
        Self { bytes: 0, hash: is_hashed.then(Sha256::new), next: 0 }
    }

    fn pass(&mut self, offset: u64, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if offset != self.next {
            self.hash = None;
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
            self.next = self.next.saturating_add(length);
        }
    }

    fn moved(self) -> Moved {
        Moved { bytes: self.bytes, sha256: self.hash.map(|hash| hash.finalize().into()) }
    }
}
