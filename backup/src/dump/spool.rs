//! What was read and is not stored yet: in memory first, then in a file, within limits.
//!
//! The engine loses the end of an output whose reader stalls. So the reader never waits here: what the store
//! cannot take in time goes into a file without a name, and when that is full too the dump fails. Everything
//! comes out in the order it went in: the file is only begun when the memory is full, and memory is only used
//! again when the file is empty.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chores_common::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// Memory of a spool, in bytes: less than one more thread would take.
pub const MEMORY_BYTES_MAX: usize = 8 << 20;

/// Bytes that are read back together.
const READ_BYTES: usize = 256 << 10;

/// Pieces that are shorter than this together become one: frames of one byte would cost many times their length.
const PIECE_BYTES: usize = 64 << 10;

/// How often a wait for bytes looks whether to stop.
const WAIT_PERIOD: Duration = Duration::from_millis(200);

/// How much may wait, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes in memory.
    pub memory: usize,
    /// Bytes in the file.
    pub file: u64,
    /// Directory of the file.
    pub directory: PathBuf,
}

/// Why no more is taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The store is too slow for this dump.
    #[error(
        "the store takes less than the dump gives, and more than {limit} bytes wait in {directory}: raise --spool-max"
    )]
    Full {
        /// The limit of the file.
        limit: u64,
        /// Where it is.
        directory: String,
    },
    /// The file cannot be made, written or read.
    #[error("cannot keep in {0} what waits for the store: name another place with --spool-dir")]
    File(String, #[source] io::Error),
    /// The other side has stopped.
    #[error("stopped because another part of the run failed")]
    Abandoned,
}

/// A queue of bytes between one thread that must not wait and one that may.
#[derive(Debug)]
pub(super) struct Spool {
    limits: SpoolLimits,
    state: Mutex<State>,
    changed: Condvar,
    abandoned: Shutdown,
}

#[derive(Debug, Default)]
struct State {
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
    /// A ring as long as its limit.
    file: Option<File>,
    /// Bytes that ever went into the file, and came out, since it was empty.
    written: u64,
    read: u64,
    closed: bool,
}

impl State {
    /// Copied: a piece of a larger buffer would keep all of it.
    fn remember(&mut self, bytes: &[u8]) {
        self.memory_bytes += bytes.len();
        match self.memory.back_mut() {
            Some(last) if last.len() + bytes.len() <= PIECE_BYTES => last.extend_from_slice(bytes),
            _ => self.memory.push_back(bytes.to_vec()),
        }
    }
}

/// See [`Spool::close_on_drop`].
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a>(&'a Spool);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// See [`Spool::abandon_on_drop`].
#[derive(Debug)]
pub(super) struct AbandonOnDrop<'a>(&'a Spool);

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abandoned.request();
    }
}

impl Spool {
    pub(super) fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            changed: Condvar::new(),
            abandoned: Shutdown::new(),
        }
    }

    /// Tells the reader that nobody takes its bytes any more, even while it has none.
    pub(super) fn abandoned(&self) -> &Shutdown {
        &self.abandoned
    }

    /// Takes bytes without waiting for the other side.
    pub(super) fn push(&self, bytes: &[u8]) -> Result<(), SpoolError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.abandoned.is_requested() {
            return Err(SpoolError::Abandoned);
        }
        let mut state = self.lock();
        let is_file_empty = state.read == state.written;
        if is_file_empty && state.memory_bytes + bytes.len() <= self.limits.memory {
            state.remember(bytes);
        } else {
            self.write(&mut state, bytes)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    fn write(&self, state: &mut State, bytes: &[u8]) -> Result<(), SpoolError> {
        let failed = |error| SpoolError::File(self.limits.directory.display().to_string(), error);
        if state.read == state.written && state.written > 0 {
            if let Some(file) = &state.file {
                file.set_len(0).map_err(failed)?;
            }
            (state.read, state.written) = (0, 0);
        }
        if state.written - state.read + bytes.len() as u64 > self.limits.file {
            return Err(SpoolError::Full {
                limit: self.limits.file,
                directory: self.limits.directory.display().to_string(),
            });
        }
        if state.file.is_none() {
            state.file = Some(nameless(&self.limits.directory).map_err(failed)?);
            tracing::debug!(
                "the dump comes faster than the store takes it: the rest waits in a file"
            );
        }
        if let Some(file) = &state.file {
            let place = state.written % self.limits.file;
            let fits = usize::try_from(self.limits.file - place).unwrap_or(usize::MAX);
            let (here, at_start) = bytes.split_at(fits.min(bytes.len()));
            file.write_all_at(here, place).map_err(failed)?;
            file.write_all_at(at_start, 0).map_err(failed)?;
        }
        state.written += bytes.len() as u64;
        Ok(())
    }

    /// The next bytes; `None` when the other side has closed and all is read. Waits for them, until `is_stopped`.
    pub(super) fn next(&self, is_stopped: impl Fn() -> bool) -> Result<Option<Bytes>, SpoolError> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.memory.pop_front() {
                state.memory_bytes -= bytes.len();
                return Ok(Some(bytes.into()));
            }
            let waiting = state.written - state.read;
            if waiting > 0 {
                return self.read_back(&mut state, waiting).map(Some);
            }
            if state.closed {
                return Ok(None);
            }
            if is_stopped() {
                return Err(SpoolError::Abandoned);
            }
            let waited = self.changed.wait_timeout(state, WAIT_PERIOD);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read_back(&self, state: &mut State, waiting: u64) -> Result<Bytes, SpoolError> {
        let failed = |error| SpoolError::File(self.limits.directory.display().to_string(), error);
        let place = state.read % self.limits.file.max(1);
        let length = waiting.min(self.limits.file - place).min(READ_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(READ_BYTES)];
        if let Some(file) = &state.file {
            file.read_exact_at(&mut bytes, place).map_err(failed)?;
        }
        state.read += length;
        Ok(bytes.into())
    }

    /// Ends the input however the thread that reads ends.
    pub(super) fn close_on_drop(&self) -> CloseOnDrop<'_> {
        CloseOnDrop(self)
    }

    /// Refuses more input however the thread that stores ends.
    pub(super) fn abandon_on_drop(&self) -> AbandonOnDrop<'_> {
        AbandonOnDrop(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file in `directory` that is gone with its last descriptor: nothing is left of a killed run, and nobody
/// else can open it (`O_TMPFILE`, open(2); where the file system has none, a name that is removed at once).
fn nameless(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    std::fs::create_dir_all(directory)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        return Ok(file.into());
    }
    let number = getrandom::u64().map_err(io::Error::other)?;
    let path = directory.join(format!(".chores-spool-{number:016x}"));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}
