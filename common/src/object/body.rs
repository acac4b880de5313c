//! An object on its way: chunks with an explicit end.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Makes a body and its sending side. `chunks_max` chunks wait between them at most.
pub fn body(chunks_max: usize) -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(chunks_max.max(1));
    (BodySender { sender }, Body { receiver })
}

/// The sending side. Dropped without [`finish`](Self::finish), nothing is stored: a producer that
/// panics or returns early cannot leave a short object behind.
#[derive(Debug)]
pub struct BodySender {
    sender: mpsc::Sender<Piece>,
}

/// The receiving side stopped; its own result says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upload stopped before it was complete")]
pub struct BodyClosed;

impl BodySender {
    /// Passes a chunk on; waits while the queue is full.
    pub async fn send(&self, chunk: Bytes) -> Result<(), BodyClosed> {
        self.sender.send(Piece::Chunk(chunk)).await.map_err(|_| BodyClosed)
    }

    /// Says that the body is complete.
    pub async fn finish(self) -> Result<(), BodyClosed> {
        self.sender.send(Piece::End).await.map_err(|_| BodyClosed)
    }

    /// [`send`](Self::send) for a thread outside the async runtime.
    pub fn blocking_send(&self, chunk: Bytes) -> Result<(), BodyClosed> {
        self.sender.blocking_send(Piece::Chunk(chunk)).map_err(|_| BodyClosed)
    }

    /// [`finish`](Self::finish) for a thread outside the async runtime.
    pub fn blocking_finish(self) -> Result<(), BodyClosed> {
        self.sender.blocking_send(Piece::End).map_err(|_| BodyClosed)
    }
}

/// The receiving side, for [`put_stream`](super::ObjectStore::put_stream).
#[derive(Debug)]
pub struct Body {
    receiver: mpsc::Receiver<Piece>,
}

#[derive(Debug)]
pub(super) enum Piece {
    Chunk(Bytes),
    End,
}

impl Body {
    /// The next piece; `None` when the sender vanished.
    #[cfg(feature = "s3")]
    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.receiver.recv().await
    }

    /// The next piece, for a blocking thread; `None` when the sender vanished.
    pub(super) fn blocking_next(&mut self) -> Option<Piece> {
        self.receiver.blocking_recv()
    }
}
