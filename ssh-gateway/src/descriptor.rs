//! Descriptors that were received or inherited, in a runtime that may not block.
#![expect(
    unsafe_code,
    reason = "tokio asks for a promise that a descriptor stays open; see `watched`"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Sets O_NONBLOCK on `descriptor` (on its open file description: whoever shares that shares the flag) and
/// watches it for reading and writing. Needs a tokio runtime with I/O. Regular files cannot be watched:
/// they are an error of kind `PermissionDenied`.
pub fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    // SAFETY: the result owns the descriptor; an `OwnedFd` neither closes nor replaces it while it lives.
    let watched = unsafe { AsyncFd::register(descriptor) };
    Ok(watched?)
}
