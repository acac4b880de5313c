//! What a client has open.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Dir;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::tally::Transfer;
use chores_common::sftp::{Code, Refusal};

/// A client has no more open than this.
const HANDLES_MAX: usize = 1000;
/// Descriptors for everything that is not a client's handle.
const DESCRIPTORS_RESERVED: u64 = 16;

/// An open file or directory.
#[derive(Debug)]
pub(super) enum Handle {
    /// With what has gone through it.
    File(OwnedFd, Box<Transfer>),
    Directory(Dir),
}

impl Handle {
    /// Its descriptor.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, Errno> {
        match self {
            Self::File(file, _) => Ok(file.as_fd()),
            Self::Directory(directory) => directory.fd(),
        }
    }
}

/// All of them. A number is never used twice, so that an old one cannot mean another file.
#[derive(Debug)]
pub(super) struct Handles {
    open: BTreeMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(super) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED))
            .map_or(HANDLES_MAX, |most| most.min(HANDLES_MAX));
        Self { open: BTreeMap::new(), next: 0, most }
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether there is room for another one: to be asked before something is opened or created.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        if self.open.len() >= self.most {
            return Err(Refusal::new(Code::Failure, "Failure: too many open handles"));
        }
        Ok(())
    }

    /// Takes one in; returns its name on the wire.
    pub(super) fn insert(&mut self, handle: Handle) -> [u8; 8] {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, handle);
        number.to_be_bytes()
    }

    pub(super) fn get(&self, name: &[u8]) -> Result<&Handle, Refusal> {
        number(name).and_then(|number| self.open.get(&number)).ok_or_else(unknown)
    }

    /// The descriptor of an open file.
    pub(super) fn file(&self, name: &[u8]) -> Result<BorrowedFd<'_>, Refusal> {
        match self.get(name)? {
            Handle::File(file, _) => Ok(file.as_fd()),
            Handle::Directory(_) => Err(Refusal::new(Code::Failure, "Failure: a directory")),
        }
    }

    /// What has gone through an open file; `None` for a directory.
    pub(super) fn transfer(&mut self, name: &[u8]) -> Option<&mut Transfer> {
        match self.open.get_mut(&number(name)?)? {
            Handle::File(_, transfer) => Some(transfer),
            Handle::Directory(_) => None,
        }
    }

    /// Gives all of them back.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Handle> {
        std::mem::take(&mut self.open).into_values()
    }

    /// An open directory.
    pub(super) fn directory(&mut self, name: &[u8]) -> Result<&mut Dir, Refusal> {
        match number(name).and_then(|number| self.open.get_mut(&number)).ok_or_else(unknown)? {
            Handle::Directory(directory) => Ok(directory),
            Handle::File(..) => Err(Refusal::new(Code::Failure, "Failure: not a directory")),
        }
    }

    /// Gives one back.
    pub(super) fn remove(&mut self, name: &[u8]) -> Result<Handle, Refusal> {
        number(name).and_then(|number| self.open.remove(&number)).ok_or_else(unknown)
    }
}

fn number(name: &[u8]) -> Option<u64> {
    name.try_into().ok().map(u64::from_be_bytes)
}

fn unknown() -> Refusal {
    Refusal::new(Code::Failure, "Failure: no such handle")
}
