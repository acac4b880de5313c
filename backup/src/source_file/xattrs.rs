//! Extended attributes of one file (xattr(7)): ACLs and capabilities are among them.

use std::os::fd::BorrowedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr, removexattr,
    setxattr,
};
use rustix::io::{Errno, Result};

use crate::beneath;
use crate::entry::Xattr;

/// Longest list of names in bytes that Linux gives (`XATTR_LIST_MAX`).
pub const XATTR_LIST_BYTES_MAX: usize = 65_536;

/// Longest value in bytes that Linux gives (`XATTR_SIZE_MAX`).
pub const XATTR_BYTES_MAX: usize = 65_536;

/// Most bytes of names and values of one file: in base64 they still fit a tree line.
pub const XATTRS_TOTAL_BYTES_MAX: usize = 512 * 1024;

/// Most files have no or short attributes, so this much is tried first.
const FIRST_TRY_BYTES: usize = 512;

/// How often the list is read again because a name on it was gone when its value was wanted.
const ATTEMPTS_MAX: usize = 3;

/// How attributes of a file are reached.
pub(crate) enum Handle<'fd> {
    /// Through a file open for reading or writing.
    Open(BorrowedFd<'fd>),
    /// Through [`beneath::proc_link`] of an `O_PATH` handle.
    ByName(String),
}

impl<'fd> Handle<'fd> {
    pub(crate) fn by_name(handle: BorrowedFd<'fd>) -> Self {
        Self::ByName(beneath::proc_link(handle))
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::ByName(path) => setxattr(path.as_str(), name, value, XattrFlags::empty()),
        }
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Result<()> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::ByName(path) => removexattr(path.as_str(), name),
        }
    }

    fn list(&self) -> Result<Vec<u8>> {
        sized(XATTR_LIST_BYTES_MAX, |buffer| match self {
            Self::Open(fd) => flistxattr(fd, spare_capacity(buffer)),
            Self::ByName(path) => listxattr(path.as_str(), spare_capacity(buffer)),
        })
    }

    pub(crate) fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        sized(XATTR_BYTES_MAX, |buffer| match self {
            Self::Open(fd) => fgetxattr(fd, name, spare_capacity(buffer)),
            Self::ByName(path) => getxattr(path.as_str(), name, spare_capacity(buffer)),
        })
    }
}

/// The names of a file's attributes; none where the file system has no attributes.
pub(crate) fn names(handle: &Handle<'_>) -> Result<Vec<Vec<u8>>> {
    let list = match handle.list() {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        list => list?,
    };
    Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// All attributes of a file sorted by name, and the names of those that cannot be read.
pub(super) fn read(handle: &Handle<'_>) -> Result<(Vec<Xattr>, Vec<Vec<u8>>)> {
    let mut attempt = 1;
    loop {
        let (mut xattrs, mut unread, mut total) = (Vec::new(), Vec::new(), 0);
        let mut changed = false;
        for name in names(handle)? {
            match handle.get(&name) {
                Ok(value) => {
                    total += name.len() + value.len();
                    if total > XATTRS_TOTAL_BYTES_MAX {
                        return Err(Errno::TOOBIG);
                    }
                    xattrs.push(Xattr { name, value });
                }
                Err(Errno::NODATA) => changed = true,
                Err(Errno::ACCESS | Errno::PERM | Errno::NOTSUP) => unread.push(name),
                Err(error) => return Err(error),
            }
        }
        if !changed || attempt == ATTEMPTS_MAX {
            xattrs.sort_unstable();
            return Ok((xattrs, unread));
        }
        attempt += 1;
    }
}

/// Calls `read` with a small buffer and, where that is too short, with the largest there can be.
fn sized(bytes_max: usize, mut read: impl FnMut(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(FIRST_TRY_BYTES);
    match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.reserve_exact(bytes_max);
            read(&mut buffer)?;
        }
        outcome => {
            outcome?;
        }
    }
    Ok(buffer)
}
