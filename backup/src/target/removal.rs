//! Removes trees without following links and without entering mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, chmod, unlinkat};
use rustix::io::{Errno, Result};

use crate::beneath;
use crate::walk::{FileType, Stat};

/// Bytes of directory entries taken from the kernel at once.
const DENTS_BYTES: usize = 32 * 1024;

/// The names in a directory, without `.` and `..`.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let directory =
        beneath::open(directory, b"", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut buffer = Vec::with_capacity(DENTS_BYTES);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        match entry?.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

/// Removes `path` beneath `directory` with all below; the error names the path that stays.
pub(super) fn remove_tree(
    directory: BorrowedFd<'_>,
    path: &[u8],
) -> std::result::Result<(), (Vec<u8>, Errno)> {
    let (parent, name) = match beneath::open_parent(directory, path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err((path.to_vec(), error)),
    };
    let device = match Stat::read(parent.as_fd(), name) {
        Ok(stat) => stat.device,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err((path.to_vec(), error)),
    };
    // Depth first with a list instead of recursion: a tree may be deeper than any stack.
    let mut pending = vec![(path.to_vec(), false)];
    while let Some((path, emptied)) = pending.pop() {
        let failed = |error| (path.clone(), error);
        let (parent, name) = beneath::open_parent(directory, &path).map_err(failed)?;
        if emptied {
            tolerate_missing(unlinkat(&parent, name, AtFlags::REMOVEDIR)).map_err(failed)?;
            continue;
        }
        let stat = match Stat::read(parent.as_fd(), name) {
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(failed)?,
        };
        if stat.device != device || stat.mount_root {
            return Err(failed(Errno::XDEV));
        }
        if stat.kind != FileType::Directory {
            unlink(parent.as_fd(), name).map_err(failed)?;
            continue;
        }
        let inside = open_to_empty(parent.as_fd(), name, stat.mode).map_err(failed)?;
        pending.push((path.clone(), true));
        for name in names(inside.as_fd()).map_err(failed)? {
            let is_directory = Stat::read(inside.as_fd(), &name)
                .is_ok_and(|stat| stat.kind == FileType::Directory || stat.mount_root);
            let mut below = path.clone();
            below.push(b'/');
            below.extend_from_slice(&name);
            if is_directory {
                pending.push((below, false));
            } else {
                unlink(inside.as_fd(), &name).map_err(|error| (below, error))?;
            }
        }
    }
    Ok(())
}

fn unlink(directory: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    tolerate_missing(unlinkat(directory, name, AtFlags::empty()))
}

fn tolerate_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}

/// Opens a directory that is about to be emptied. Its owner may have closed it to himself; to empty it
/// he opens it again.
fn open_to_empty(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd> {
    if mode & Mode::RWXU.as_raw_mode() != Mode::RWXU.as_raw_mode() {
        let handle = beneath::open_in_same_mount(parent, name, beneath::NAME_DIRECTORY)?;
        match chmod(beneath::proc_link(handle.as_fd()).as_str(), Mode::RWXU) {
            // Another's directory: perhaps it can be emptied as it is.
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    beneath::open_in_same_mount(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)
}
