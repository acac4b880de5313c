//! Opens what lies below a directory, and nothing else, wherever symbolic links on the way point.
//!
//! The directory is believed: it is opened as the operator wrote it. Below it anybody may write, so a link there is
//! followed only as long as it stays inside. `openat2(2)` sees to that while it resolves the path. Where it says
//! that a link leads out, which it says of every absolute one, or where it cannot be asked (kernels before 5.6,
//! seccomp profiles), the thing is only named at first (`O_PATH`); the kernel tells where it is (`/proc/self/fd`),
//! and what is not below the directory is never opened. The handle is of one file for good: nothing can be slipped
//! in between. Without `/proc` nothing is opened in this way.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// Attempts while names move on the way: the kernel gives up when it cannot tell whether `..` stays inside.
const ATTEMPTS_MAX: u32 = 4;

/// A path that leads out of its directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "a symbolic link leads out of {}, and is not followed; name the place it leads to in a pattern of its own, if \
     that is meant",
    root.display()
)]
pub struct Outside {
    root: PathBuf,
}

/// Whether something was refused because it is [`Outside`].
#[must_use]
pub fn is_outside(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Outside>())
}

/// Opens `below`, a relative path, in `root`; the empty one is `root` itself. Fails with [`Outside`] when it leads
/// out of there.
pub fn open(root: &Path, below: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let named = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, root, named, Mode::empty())?;
    let flags = flags | OFlags::CLOEXEC;
    if below.as_os_str().is_empty() {
        return Ok(openat(&directory, c".", flags, Mode::empty())?);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..ATTEMPTS_MAX {
        match openat2(&directory, below, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            // EXDEV: it leads out, or is absolute. EPERM is how a seccomp profile says that there is no such call.
            Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => break,
            done => return Ok(done?),
        }
    }
    open_proved(directory.as_fd(), root, below, flags)
}

/// The same without `openat2(2)`.
fn open_proved(
    directory: BorrowedFd<'_>,
    root: &Path,
    below: &Path,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let kept = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let named = openat(directory, below, OFlags::PATH | (flags & kept), Mode::empty())?;
    if !is_below(&place_of(named.as_fd())?, &place_of(directory)?) {
        return Err(io::Error::other(Outside { root: root.to_owned() }));
    }
    if flags.contains(OFlags::PATH) {
        return Ok(named);
    }
    // The path to the handle is a link itself.
    Ok(openat(CWD, link_to(named.as_fd()), flags - OFlags::NOFOLLOW, Mode::empty())?)
}

/// Where the kernel says a handle is now.
fn place_of(handle: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let place = readlinkat(CWD, link_to(handle), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(place.into_bytes())))
}

fn link_to(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Whether a place, as the kernel tells it, is inside of another one. What has no place, such as a pipe or what is
/// out of this process' sight, is nowhere.
fn is_below(place: &Path, root: &Path) -> bool {
    root.is_absolute() && place.starts_with(root)
}
