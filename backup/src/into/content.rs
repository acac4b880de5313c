//! A file of a snapshot as the input of a program: read by a thread, checked chunk by chunk.

use std::io::{self, Write};

use bytes::Bytes;
use chores_common::shutdown::Shutdown;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::browse::{BrowseError, cat};
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Bytes that are handed over together.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces that wait for the program.
const PIECES_AHEAD: usize = 8;

/// A file that is being read.
pub(super) struct Content {
    /// Its content, then what was to stand behind it. Ends early where it cannot be read.
    pub(super) pieces: Receiver<Bytes>,
    /// How reading went.
    pub(super) reader: JoinHandle<Result<(), BrowseError>>,
}

/// Begins to read the file at `path` (without its leading `/`); `tail` comes behind it.
pub(super) fn open(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &str,
    tail: String,
    shutdown: &Shutdown,
) -> Content {
    let (sender, pieces) = channel(PIECES_AHEAD);
    let (repository, snapshot, shutdown) = (repository.clone(), snapshot.clone(), shutdown.clone());
    let path = path.trim_start_matches('/').as_bytes().to_vec();
    let reader = spawn_blocking(move || {
        let mut out = Pieces { sender, buffer: Vec::new() };
        cat(&repository, &snapshot, &path, &mut out, &shutdown)?;
        out.write_all(tail.as_bytes())?;
        Ok(out.flush()?)
    });
    Content { pieces, reader }
}

/// Reads the file for nothing but its soundness.
pub(super) async fn prove(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &str,
    shutdown: &Shutdown,
) -> Result<(), BrowseError> {
    let (repository, snapshot, shutdown) = (repository.clone(), snapshot.clone(), shutdown.clone());
    let path = path.trim_start_matches('/').as_bytes().to_vec();
    let read =
        spawn_blocking(move || cat(&repository, &snapshot, &path, &mut io::sink(), &shutdown));
    finished(read).await.map(drop)
}

/// What became of a reader.
pub(super) async fn finished<T>(
    reader: JoinHandle<Result<T, BrowseError>>,
) -> Result<T, BrowseError> {
    reader.await.unwrap_or_else(|error| Err(BrowseError::Write(io::Error::other(error))))
}

/// Cuts what is written into pieces.
struct Pieces {
    sender: Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        // The program has ended and says itself what that means.
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
