//! Whether anybody, in any container, has a file open for writing: the kernel gives a read lease (`F_SETLEASE` with
//! `F_RDLCK`, fcntl(2)) only when nobody has.
//!
//! It counts descriptors and shared writable mappings alike, of every process of the host. It needs to be the owner
//! of the file or `CAP_LEASE`, and a file system that knows leases. While a lease is held, whoever opens the file for
//! writing waits (up to `/proc/sys/fs/lease-break-time`), and the holder gets SIGIO: it is given back at once, and
//! [`prepare`] sees to it that the signal ends nobody.
#![expect(unsafe_code, reason = "no library offers F_SETLEASE and F_GETLEASE; docs/adr/0016")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use tokio::signal::unix::{SignalKind, signal};

use super::decide::Held;

#[cfg(test)]
mod tests;

/// Takes over SIGIO, which would end the process. Must be called inside a tokio runtime, before the first probe.
pub fn prepare() -> io::Result<()> {
    // The handler stays when the listener is gone (tokio::signal).
    signal(SignalKind::io()).map(drop)
}

/// Whether somebody writes to a file. It must be open for reading only: a descriptor of our own for writing counts
/// too.
#[must_use]
pub fn probe(file: &File) -> Held {
    match Lease::take(file) {
        Ok(_) => Held::No,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Held::Yes,
        Err(error) => {
            tracing::debug!(%error, "whether a file has writers cannot be known");
            Held::Unknown
        }
    }
}

/// A lease that is held: nobody can begin to write. Given back on drop.
#[derive(Debug)]
pub struct Lease<'a> {
    file: &'a File,
}

impl<'a> Lease<'a> {
    /// Takes it; `WouldBlock` when somebody writes.
    pub fn take(file: &'a File) -> io::Result<Self> {
        call(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        Ok(Self { file })
    }

    /// Whether somebody waits for it to be given back, to write: then that is what it is about to become (`F_GETLEASE`).
    pub fn is_awaited(&self) -> io::Result<bool> {
        Ok(call(self.file, libc::F_GETLEASE, 0)? != libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Err(error) = call(self.file, libc::F_SETLEASE, libc::F_UNLCK) {
            tracing::warn!(%error, "cannot give back a lease");
        }
    }
}

/// `command` is F_SETLEASE or F_GETLEASE, and says what comes back.
fn call(file: &impl AsFd, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::c_int> {
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: fcntl(2) with either command takes an integer and touches no memory; the descriptor is open, since it is
    // borrowed.
    let result = unsafe { libc::fcntl(descriptor, command, kind) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
