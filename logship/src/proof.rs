//! What a file is and what it holds: the facts by which a file is known again.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, makedev, statx};
use twox_hash::XxHash3_64;

use crate::cursor::{ContentProof, FileIdentity};
use crate::time::SECOND;

#[cfg(test)]
mod tests;

/// Most bytes at the beginning of a file that its proof is of.
pub const HEAD_BYTES: usize = 1 << 10;

/// Most bytes before an offset that its proof is of.
pub const TAIL_BYTES: usize = 4 << 10;

/// What the kernel says of a file (`statx(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Which file.
    pub identity: FileIdentity,
    /// Bytes.
    pub size: u64,
    /// `stx_mtime` in nanoseconds since 1970.
    pub modified: i64,
    /// Names it has.
    pub links: u32,
    /// Neither a directory nor a device, a pipe or a socket.
    pub is_regular: bool,
    /// A directory.
    pub is_directory: bool,
}

impl FileFacts {
    /// Of an open file, or of one that a handle only names.
    pub fn of(file: &impl AsFd) -> io::Result<Self> {
        Ok(statx(file.as_fd(), c"", AtFlags::EMPTY_PATH, wanted())?.into())
    }

    /// Of what a name in a directory is; `None` when it is a symbolic link.
    pub fn named(directory: &impl AsFd, name: &OsStr) -> io::Result<Option<Self>> {
        let told = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted())?;
        let is_link = FileType::from_raw_mode(told.stx_mode.into()) == FileType::Symlink;
        Ok((!is_link).then(|| told.into()))
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

impl From<Statx> for FileFacts {
    fn from(told: Statx) -> Self {
        let nanoseconds =
            |seconds: i64, part: u32| seconds.saturating_mul(SECOND).saturating_add(part.into());
        let has_birth = told.stx_mask & StatxFlags::BTIME.bits() != 0;
        let birth = nanoseconds(told.stx_btime.tv_sec, told.stx_btime.tv_nsec);
        let kind = FileType::from_raw_mode(told.stx_mode.into());
        Self {
            identity: FileIdentity {
                device: makedev(told.stx_dev_major, told.stx_dev_minor),
                inode: told.stx_ino,
                // Some file systems claim to know it and say 0.
                born: (has_birth && birth != 0).then_some(birth),
            },
            size: told.stx_size,
            modified: nanoseconds(told.stx_mtime.tv_sec, told.stx_mtime.tv_nsec),
            links: told.stx_nlink,
            is_regular: kind == FileType::RegularFile,
            is_directory: kind == FileType::Directory,
        }
    }
}

/// XXH3, 64 bits.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// How many bytes the head of a proof at `offset` has.
#[must_use]
pub fn head_len(offset: u64) -> usize {
    usize::try_from(offset).map_or(HEAD_BYTES, |offset| offset.min(HEAD_BYTES))
}

/// How many bytes the tail of a proof at `offset` has.
#[must_use]
pub fn tail_len(offset: u64) -> usize {
    usize::try_from(offset).map_or(TAIL_BYTES, |offset| offset.min(TAIL_BYTES))
}

/// Both ends of what stands before an offset.
#[must_use]
pub fn proof(head: &[u8], tail: &[u8]) -> ContentProof {
    ContentProof {
        head_len: u32::try_from(head.len()).unwrap_or(u32::MAX),
        head: hash(head),
        tail_len: u32::try_from(tail.len()).unwrap_or(u32::MAX),
        tail: hash(tail),
    }
}

/// The proof of what a file holds before `offset` now; `None` when it is shorter.
pub fn proof_of(file: &File, offset: u64) -> io::Result<Option<ContentProof>> {
    let (head_len, tail_len) = (head_len(offset), tail_len(offset));
    let (Some(head), Some(tail)) =
        (piece(file, 0, head_len)?, piece(file, offset - tail_len as u64, tail_len)?)
    else {
        return Ok(None);
    };
    Ok(Some(proof(&head, &tail)))
}

/// Whether a file still holds before `offset` what was proved.
pub fn holds(file: &File, offset: u64, wanted: &ContentProof) -> io::Result<bool> {
    Ok(proof_of(file, offset)?.is_some_and(|found| found == *wanted))
}

/// `length` bytes at `offset`; `None` when the file ends before.
pub fn piece(file: &File, offset: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
