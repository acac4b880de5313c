//! One end of a pipe, pseudo-terminal or socket that came from the broker, without blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::Shutdown;
use rustix::termios::Winsize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::lock;
use crate::descriptor::watched;
use crate::wire::WindowSize;

/// What is read at once: half a pipe, and what OpenSSH's clients take in one packet. In bytes.
const READ_BYTES: usize = 32 * 1024;
/// Less than this is copied, so that a key press does not hold a whole buffer. In bytes.
const COPY_BYTES: usize = 4 * 1024;

/// A descriptor to read from and write to.
#[derive(Debug)]
pub(super) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// Takes the descriptor over. Needs a tokio runtime with I/O.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self(watched(descriptor)?))
    }

    /// What there is to read, at most [`READ_BYTES`]; empty at the end. The end of a pseudo-terminal (EIO) is
    /// an end like any other.
    pub(super) async fn read(&self) -> io::Result<Bytes> {
        let bytes = self
            .0
            .async_io(Interest::READABLE, |descriptor| {
                let mut bytes = Vec::with_capacity(READ_BYTES);
                match retry_on_intr(|| rustix::io::read(descriptor, spare_capacity(&mut bytes))) {
                    Ok(_) | Err(Errno::IO) => Ok(bytes),
                    Err(error) => Err(error.into()),
                }
            })
            .await?;
        Ok(if bytes.len() < COPY_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes.into() })
    }

    /// Writes everything.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self
                .0
                .async_io(Interest::WRITABLE, |descriptor| {
                    Ok(retry_on_intr(|| rustix::io::write(descriptor, bytes))?)
                })
                .await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Nothing more will be written to this socket.
    pub(super) fn finish_writing(&self) {
        // A socket whose other end is gone needs no shutdown.
        rustix::net::shutdown(&self.0, Shutdown::Write).ok();
    }

    /// Tells a pseudo-terminal its size.
    pub(super) fn resize(&self, size: WindowSize) {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: size.width,
            ws_ypixel: size.height,
        };
        // A terminal that is gone has no size.
        rustix::termios::tcsetwinsize(&self.0, size).ok();
    }
}

/// The size of a terminal that may not be there yet.
#[derive(Debug, Default)]
pub(super) struct Screen(Mutex<(Option<WindowSize>, Option<Arc<Stream>>)>);

impl Screen {
    /// A new size: at once, so that it comes before the bytes that were sent after it.
    pub(super) fn resize(&self, size: WindowSize) {
        let mut state = lock(&self.0);
        state.0 = Some(size);
        if let Some(terminal) = &state.1 {
            terminal.resize(size);
        }
    }

    /// The terminal is there.
    pub(super) fn attach(&self, terminal: Arc<Stream>) {
        let mut state = lock(&self.0);
        if let Some(size) = state.0 {
            terminal.resize(size);
        }
        state.1 = Some(terminal);
    }

    /// The terminal is no longer used here.
    pub(super) fn detach(&self) {
        lock(&self.0).1 = None;
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
