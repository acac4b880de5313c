//! Opens paths beneath a directory without ever leaving it: no symbolic link is followed on the way,
//! none at the end, and no `..` is accepted.
//!
//! `openat2(2)` does that in one call where the kernel has it (5.6) and the container's seccomp
//! profile lets it through; otherwise the path is taken one component at a time with `O_NOFOLLOW`.
//! Paths are relative byte strings without a length limit: those beyond `PATH_MAX` are opened piece by
//! piece.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, Result};

/// Longest piece of a path handed to the kernel at once, in bytes: `PATH_MAX` with its NUL is 4096.
pub const PIECE_BYTES_MAX: usize = 4095;

/// Longest name of one directory entry in bytes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Flags for a handle that only names a directory: needs no read permission and changes no atime.
pub const NAME_DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Flags for a handle that names whatever is there, a symbolic link itself included, and opens nothing.
pub const NAME_ANYTHING: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Set once the kernel has said that it has no `openat2`, so it is asked only once.
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

/// Opens `path` beneath `directory`; the empty path is the directory itself.
///
/// `O_NOFOLLOW` and `O_CLOEXEC` are added to `flags`. Errors are those of `openat2(2)`: `ELOOP` or
/// `ENOTDIR` where a symbolic link stands in the way, `EINVAL` for a path with an empty, `.`, `..` or
/// NUL-bearing component.
pub fn open(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_within(directory, path, flags, mode, ResolveFlags::empty())
}

/// As [`open`], and refuses with `EXDEV` to enter another mount where the kernel can tell; with the
/// fallback only the file system's device number is left to the caller to compare.
pub fn open_in_same_mount(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd> {
    open_within(directory, path, flags, Mode::empty(), ResolveFlags::NO_XDEV)
}

/// Opens the directory that holds `path` and returns it with the last name of `path`.
pub fn open_parent<'path>(
    directory: BorrowedFd<'_>,
    path: &'path [u8],
) -> Result<(OwnedFd, &'path [u8])> {
    let (parent, name) = split_last(path);
    check_name(name)?;
    if path.starts_with(b"/") {
        return Err(Errno::INVAL);
    }
    Ok((open(directory, parent, NAME_DIRECTORY, Mode::empty())?, name))
}

/// A path that leads to the very thing a handle names, a symbolic link itself included (proc(5)): for
/// the calls that take no `O_PATH` handle. Nothing can be slipped in between. Needs `/proc`.
#[must_use]
pub fn proc_link(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Splits a path into its parent (empty at the top) and its last name.
#[must_use]
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.split_at_checked(at)) {
        Some((parent, rest)) => (parent, rest.strip_prefix(b"/").unwrap_or(rest)),
        None => (b"", path),
    }
}

/// Refuses with `EINVAL` what is not one plain name.
pub fn check_name(name: &[u8]) -> Result<()> {
    let plain = !name.is_empty()
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    match plain {
        true if name.len() > NAME_BYTES_MAX => Err(Errno::NAMETOOLONG),
        true => Ok(()),
        false => Err(Errno::INVAL),
    }
}

fn open_within(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_empty() {
        return openat(directory, c".", flags, mode);
    }
    path.split(|byte| *byte == b'/').try_for_each(check_name)?;
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let at = held.as_ref().map_or(directory, AsFd::as_fd);
        match split_piece(rest) {
            Some((piece, remaining)) => {
                let next = open_piece(at, piece, NAME_DIRECTORY, Mode::empty(), more)?;
                held = Some(next);
                rest = remaining;
            }
            None => return open_piece(at, rest, flags, mode, more),
        }
    }
}

/// Splits the longest head off a path that is too long for one call; `None` when all of it fits.
fn split_piece(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= PIECE_BYTES_MAX {
        return None;
    }
    let (head, _) = path.split_at_checked(PIECE_BYTES_MAX)?;
    let at = head.iter().rposition(|byte| *byte == b'/')?;
    let (piece, rest) = path.split_at_checked(at)?;
    Some((piece, rest.strip_prefix(b"/")?))
}

fn open_piece(
    at: BorrowedFd<'_>,
    piece: &[u8],
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> Result<OwnedFd> {
    if OPENAT2_MISSING.load(Ordering::Relaxed) {
        return open_stepwise(at, piece, flags, mode);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | more;
    match openat2(at, piece, flags, mode, resolve) {
        Err(Errno::NOSYS) => {
            OPENAT2_MISSING.store(true, Ordering::Relaxed);
            open_stepwise(at, piece, flags, mode)
        }
        // EPERM is also what O_NOATIME on another's file gives, so it is no proof of a filter; EAGAIN
        // is a rename that raced with the kernel's check.
        Err(Errno::PERM | Errno::AGAIN) => open_stepwise(at, piece, flags, mode),
        outcome => outcome,
    }
}

fn open_stepwise(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    let (parents, name) = split_last(path);
    let mut held: Option<OwnedFd> = None;
    for parent in parents.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let at = held.as_ref().map_or(directory, AsFd::as_fd);
        let next = openat(at, parent, NAME_DIRECTORY, Mode::empty())?;
        held = Some(next);
    }
    openat(held.as_ref().map_or(directory, AsFd::as_fd), name, flags, mode)
}

#[cfg(test)]
mod tests;
