//! The way of an archive into object storage.

use std::io::{self, Write};

use bytes::Bytes;
use chores_common::object::{BodyClosed, BodySender};

/// Bytes that travel at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A sink for a thread outside the async runtime; the other end is
/// [`put_stream`](chores_common::object::ObjectStore::put_stream) inside it.
///
/// The object appears only after [`finish`](Self::finish): a sink that is dropped before, because
/// [`stream`](super::stream) failed, leaves nothing behind.
#[derive(Debug)]
pub struct ObjectSink {
    sender: BodySender,
    chunk: Vec<u8>,
}

impl ObjectSink {
    /// A sink that sends to the body of `sender`.
    #[must_use]
    pub fn new(sender: BodySender) -> Self {
        Self { sender, chunk: Vec::new() }
    }

    /// Sends what is left and says that the object is complete. An error means that the upload stopped;
    /// its own result says why.
    pub fn finish(mut self) -> Result<(), BodyClosed> {
        self.send()?;
        self.sender.blocking_finish()
    }

    fn send(&mut self) -> Result<(), BodyClosed> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Bytes::from(std::mem::take(&mut self.chunk)))
    }
}

impl Write for ObjectSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        let (taken, _) = bytes.split_at(length);
        self.chunk.reserve_exact(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK_BYTES {
            self.send().map_err(|closed| io::Error::new(io::ErrorKind::BrokenPipe, closed))?;
        }
        Ok(length)
    }

    /// Does nothing: an object is not there in parts, and small parts cost requests.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
