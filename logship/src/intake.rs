//! The way from the sources to the write-ahead log: one bounded queue, and the list of what is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::block::Block;
use crate::cursor::Cursor;
use crate::source::{SourceId, SourceKey, SourceMeta};

/// Chunks that wait to be written, at the most; each has about `BLOCK_TEXT_BYTES` of text.
pub const INTAKE_CHUNKS_MAX: usize = 16;

/// Records of one source with the cursor that stands behind them.
#[derive(Debug)]
pub struct Chunk {
    /// Whose.
    pub source: SourceId,
    /// What.
    pub block: Block,
    /// How far the source is read when these are durable.
    pub cursor: Cursor,
}

/// What a source says to the log.
#[derive(Debug)]
pub enum Message {
    /// Lines.
    Chunk(Chunk),
    /// The source is over and read to its end; it may be forgotten once everything of it is delivered.
    End(SourceId),
}

/// The log takes nothing any more: the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is closed")]
pub struct IntakeClosed;

/// The sources' side. Cloning is cheap. Sending waits while the log is full: that is what holds back a file.
#[derive(Debug, Clone)]
pub struct Intake {
    sender: mpsc::Sender<Message>,
    sources: Arc<Sources>,
}

/// The log's side.
#[derive(Debug)]
pub struct IntakeReceiver {
    /// What the sources said, in order.
    pub messages: mpsc::Receiver<Message>,
    /// The same list as the sources have.
    pub sources: Arc<Sources>,
}

/// A source that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its number.
    pub id: SourceId,
    /// How far it was read by an earlier process.
    pub cursor: Option<Cursor>,
}

/// Every source of a log.
#[derive(Debug, Default)]
pub struct Sources {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u32,
    by_key: HashMap<SourceKey, SourceId>,
    by_id: HashMap<SourceId, Entry>,
}

#[derive(Debug)]
struct Entry {
    meta: Arc<SourceMeta>,
    resume: Option<Cursor>,
    /// It ended, and nobody opened it again.
    is_over: bool,
}

/// The two sides of a queue over `sources`, which hold what was recovered.
#[must_use]
pub fn intake(sources: Arc<Sources>) -> (Intake, IntakeReceiver) {
    let (sender, messages) = mpsc::channel(INTAKE_CHUNKS_MAX);
    (Intake { sender, sources: sources.clone() }, IntakeReceiver { messages, sources })
}

impl Intake {
    /// Makes a source known, or finds it again with the cursor it had when the process began.
    #[must_use]
    pub fn open(&self, meta: SourceMeta) -> Opened {
        self.sources.open(meta)
    }

    /// Every source that is known; some of them by an earlier process only.
    #[must_use]
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Hands lines over; waits while the log is full. From threads only.
    pub fn send_blocking(&self, message: Message) -> Result<(), IntakeClosed> {
        self.sender.blocking_send(message).map_err(|_| IntakeClosed)
    }

    /// The same without waiting: gives the message back while the log is full.
    pub fn try_send(&self, message: Message) -> Result<Option<Message>, IntakeClosed> {
        match self.sender.try_send(message) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(message)) => Ok(Some(message)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(IntakeClosed),
        }
    }

    /// The same from a task.
    pub async fn send(&self, message: Message) -> Result<(), IntakeClosed> {
        self.sender.send(message).await.map_err(|_| IntakeClosed)
    }
}

impl Sources {
    /// Adds what the log remembers, under the number it has there.
    pub fn restore(&self, id: SourceId, meta: SourceMeta, resume: Option<Cursor>) {
        let mut inner = self.lock();
        inner.next = inner.next.max(id.0.saturating_add(1));
        inner.by_key.insert(meta.key.clone(), id);
        inner.by_id.insert(id, Entry { meta: Arc::new(meta), resume, is_over: false });
    }

    /// See [`Intake::open`]. What is told of a known source replaces what was told before.
    #[must_use]
    pub fn open(&self, meta: SourceMeta) -> Opened {
        let mut inner = self.lock();
        if let Some(id) = inner.by_key.get(&meta.key).copied() {
            let cursor = inner.by_id.get_mut(&id).and_then(|entry| {
                entry.is_over = false;
                if *entry.meta != meta {
                    entry.meta = Arc::new(meta);
                }
                entry.resume.clone()
            });
            return Opened { id, cursor };
        }
        let id = SourceId(inner.next);
        inner.next = inner.next.saturating_add(1);
        inner.by_key.insert(meta.key.clone(), id);
        inner.by_id.insert(id, Entry { meta: Arc::new(meta), resume: None, is_over: false });
        Opened { id, cursor: None }
    }

    /// Keeps the cursor of what was written, for a source that is opened again in this process.
    pub fn note(&self, id: SourceId, cursor: Cursor) {
        if let Some(entry) = self.lock().by_id.get_mut(&id) {
            match &mut entry.resume {
                Some(known) => known.advance(cursor),
                none => *none = Some(cursor),
            }
        }
    }

    /// The number of a source that is known.
    #[must_use]
    pub fn id_of(&self, key: &SourceKey) -> Option<SourceId> {
        self.lock().by_key.get(key).copied()
    }

    /// What is known of a source.
    #[must_use]
    pub fn meta(&self, id: SourceId) -> Option<Arc<SourceMeta>> {
        self.lock().by_id.get(&id).map(|entry| entry.meta.clone())
    }

    /// Everything that is known, with its cursor.
    #[must_use]
    pub fn all(&self) -> Vec<(SourceId, Arc<SourceMeta>, Option<Cursor>)> {
        let inner = self.lock();
        let mut all: Vec<_> = inner
            .by_id
            .iter()
            .map(|(id, entry)| (*id, entry.meta.clone(), entry.resume.clone()))
            .collect();
        all.sort_unstable_by_key(|(id, ..)| *id);
        all
    }

    /// Numbers below `next` were given to sources that are forgotten, and are not given again.
    pub fn reserve(&self, next: u32) {
        let mut inner = self.lock();
        inner.next = inner.next.max(next);
    }

    /// The source is over. It may be forgotten unless it is opened again.
    pub fn end(&self, id: SourceId) {
        if let Some(entry) = self.lock().by_id.get_mut(&id) {
            entry.is_over = true;
        }
    }

    /// Whether the source ended and was not opened again.
    #[must_use]
    pub fn is_over(&self, id: SourceId) -> bool {
        self.lock().by_id.get(&id).is_some_and(|entry| entry.is_over)
    }

    /// Forgets a source that ended and was not opened again; whether it did.
    pub fn forget_ended(&self, id: SourceId) -> bool {
        let mut inner = self.lock();
        if !inner.by_id.get(&id).is_some_and(|entry| entry.is_over) {
            return false;
        }
        if let Some(entry) = inner.by_id.remove(&id) {
            inner.by_key.remove(&entry.meta.key);
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
