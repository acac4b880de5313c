//! Reads one path of a source: extended attributes, link target, content without its holes.
//!
//! Between the walk and the reading a path can become something else. Every handle is therefore opened
//! beneath the root without following links and compared with what the walk found: another inode or
//! another kind is [`SourceError::Replaced`], so content never lands under foreign metadata.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, readlinkat, seek};
use rustix::io::Errno;

use crate::beneath;
use crate::entry::{PathBytes, Xattr, display_path};
use crate::walk::{FileType, Found, SourceRoot, Stat};

mod xattrs;

pub(crate) use xattrs::{Handle, names as xattr_names};
pub use xattrs::{XATTR_BYTES_MAX, XATTR_LIST_BYTES_MAX, XATTRS_TOTAL_BYTES_MAX};

/// Files below this size are read whole when all of their blocks are there, without asking where
/// holes are: two calls saved on most files of a volume.
const HOLE_SEARCH_BYTES_MIN: u64 = 1 << 20;

/// Longest link target in bytes that a file system of Linux stores (`PATH_MAX`).
const LINK_TARGET_BYTES_MAX: usize = 4096;

/// The unit of [`Stat::blocks`].
const BLOCK_BYTES: u64 = 512;

/// Why one path of a source could not be read. The backup goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is gone.
    #[error("{0} disappeared before it was read")]
    Vanished(String),
    /// Another file or another kind of thing has its name now.
    #[error("{0} was replaced before it was read")]
    Replaced(String),
    /// Permission denied.
    #[error("{0} may not be read by this user")]
    Denied(String),
    /// Attributes beyond what a snapshot can hold.
    #[error("{0} has more than {XATTRS_TOTAL_BYTES_MAX} bytes of extended attributes")]
    TooLarge(String),
    /// Anything else.
    #[error("cannot read {path}")]
    Io {
        /// As people read it.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// What a snapshot needs of a path beyond its [`Stat`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Names of attributes that exist but could not be read.
    pub unread: Vec<Vec<u8>>,
    /// Where a symbolic link points.
    pub link_target: Option<PathBytes>,
}

/// A regular file that is open for reading and proved to be the one the walk found.
#[derive(Debug)]
pub struct OpenSource {
    file: File,
    path: PathBytes,
    stat: Stat,
}

/// Reads attributes and link target of anything, without opening it for reading: no device reacts, no
/// pipe blocks, no access time changes. Needs `/proc`.
pub fn read_metadata(root: &SourceRoot, found: &Found) -> Result<Metadata, SourceError> {
    let failed = |error| SourceError::new(&found.path, error);
    let handle = open_same(root, found, beneath::NAME_ANYTHING)?;
    let (xattrs, unread) = xattrs::read(&Handle::by_name(handle.as_fd())).map_err(failed)?;
    let link_target = match found.stat.kind {
        FileType::Symlink => Some(link_target(handle.as_fd()).map_err(failed)?),
        _ => None,
    };
    Ok(Metadata { xattrs, unread, link_target })
}

/// What has the path of `found` now, after [`SourceError::Replaced`].
pub fn look_again(root: &SourceRoot, found: &Found) -> Result<Stat, SourceError> {
    let failed = |error| SourceError::new(&found.path, error);
    let relative = root.relative(&found.path);
    let flags = beneath::NAME_ANYTHING;
    let handle = beneath::open(root.directory(), relative, flags, Mode::empty()).map_err(failed)?;
    Stat::read(handle.as_fd(), b"").map_err(failed)
}

/// Opens a regular file for reading.
pub fn open(root: &SourceRoot, found: &Found) -> Result<OpenSource, SourceError> {
    // O_NONBLOCK: should a pipe stand there by now, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match open_same(root, found, flags | OFlags::NOATIME) {
        Err(SourceError::Denied(_)) => open_same(root, found, flags)?,
        outcome => outcome?,
    };
    let failed = |error| SourceError::new(&found.path, error);
    let stat = Stat::read(file.as_fd(), b"").map_err(failed)?;
    if stat.kind != FileType::File {
        return Err(SourceError::Replaced(display_path(&found.path)));
    }
    // A hint: where it is not supported, reading works all the same.
    if stat.size >= HOLE_SEARCH_BYTES_MIN && fadvise(&file, 0, None, Advice::Sequential).is_err() {
        tracing::trace!(path = display_path(&found.path), "no read-ahead hint on this file system");
    }
    Ok(OpenSource { file: File::from(file), path: found.path.clone(), stat })
}

fn open_same(root: &SourceRoot, found: &Found, flags: OFlags) -> Result<OwnedFd, SourceError> {
    let failed = |error| SourceError::new(&found.path, error);
    let relative = root.relative(&found.path);
    let handle = beneath::open(root.directory(), relative, flags, Mode::empty()).map_err(failed)?;
    let now = Stat::read(handle.as_fd(), b"").map_err(failed)?;
    if now.is_same_file(&found.stat) {
        Ok(handle)
    } else {
        Err(SourceError::Replaced(display_path(&found.path)))
    }
}

fn link_target(link: BorrowedFd<'_>) -> rustix::io::Result<PathBytes> {
    let target = readlinkat(link, c"", Vec::with_capacity(LINK_TARGET_BYTES_MAX))?.into_bytes();
    Ok(target)
}

impl OpenSource {
    /// Metadata at the moment of opening; newer than the walk's.
    #[must_use]
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Metadata now: a different size, mtime or ctime than [`OpenSource::stat`] means that the file
    /// changed while it was read.
    pub fn stat_now(&self) -> Result<Stat, SourceError> {
        Stat::read(self.file.as_fd(), b"").map_err(|error| self.failed(error))
    }

    /// Attributes through the open file: [`read_metadata`] without opening it a second time.
    pub fn metadata(&self) -> Result<Metadata, SourceError> {
        let (xattrs, unread) =
            xattrs::read(&Handle::Open(self.file.as_fd())).map_err(|error| self.failed(error))?;
        Ok(Metadata { xattrs, unread, link_target: None })
    }

    /// Fills `buffer` from `offset` on and returns how many bytes there were: fewer than asked for
    /// only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, SourceError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match self.file.read_at(rest, position) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(SourceError::Io { path: display_path(&self.path), source });
                }
            }
        }
        Ok(filled)
    }

    /// The ranges of the first `size` bytes that hold data, in order; the gaps are holes.
    #[must_use]
    pub fn data_ranges(&self, size: u64) -> DataRanges<'_> {
        self.data_ranges_from(0, size)
    }

    /// The first range of data at or behind `position`, for readers that go on another time.
    #[must_use]
    pub fn data_range_from(&self, position: u64, size: u64) -> Option<(u64, u64)> {
        self.data_ranges_from(position, size).next()
    }

    fn data_ranges_from(&self, position: u64, size: u64) -> DataRanges<'_> {
        let allocated = self.stat.blocks.saturating_mul(BLOCK_BYTES);
        let whole = size < HOLE_SEARCH_BYTES_MIN && allocated >= size;
        DataRanges { file: self.file.as_fd(), position, size, whole }
    }

    fn failed(&self, error: Errno) -> SourceError {
        SourceError::new(&self.path, error)
    }
}

impl SourceError {
    fn new(path: &[u8], error: Errno) -> Self {
        let path = display_path(path);
        match error {
            Errno::NOENT | Errno::STALE => Self::Vanished(path),
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => Self::Replaced(path),
            Errno::ACCESS | Errno::PERM => Self::Denied(path),
            Errno::TOOBIG => Self::TooLarge(path),
            other => Self::Io { path, source: other.into() },
        }
    }
}

/// Ranges of data in a file as `(offset, length)`, found with `SEEK_DATA` and `SEEK_HOLE` (lseek(2)).
/// A file system that knows no holes gives one range.
#[derive(Debug)]
pub struct DataRanges<'file> {
    file: BorrowedFd<'file>,
    position: u64,
    size: u64,
    /// Give the rest as one range.
    whole: bool,
}

impl Iterator for DataRanges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.position >= self.size {
            return None;
        }
        let (start, end) = if self.whole {
            (self.position, self.size)
        } else {
            match seek(self.file, SeekFrom::Data(self.position)) {
                Ok(start) => {
                    let end = seek(self.file, SeekFrom::Hole(start)).unwrap_or(self.size);
                    // A file that is cut meanwhile may put the hole where the data began.
                    (start, if end > start { end } else { self.size })
                }
                // Only a hole follows.
                Err(Errno::NXIO) => (self.size, self.size),
                Err(_) => (self.position, self.size),
            }
        };
        let (start, end) = (start.max(self.position).min(self.size), end.min(self.size));
        self.position = end.max(start);
        (end > start).then_some((start, end - start))
    }
}

#[cfg(test)]
mod tests;
