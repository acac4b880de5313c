//! What rotation asks of the thread that reads: to move along when the beginning of a file is taken away, and to let
//! go of a file that is over.
//!
//! One question at a time. Whoever asks waits for a bounded time, and judges by what becomes durable in the log, not
//! by the answer alone: a thread that answers late has done it all the same.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cursor::{ContentProof, FileCursor, FileIdentity};
use crate::proof::{HEAD_BYTES, hash, piece, tail_len};

#[cfg(test)]
mod tests;

/// Bytes before the cursor that are always left: the proof of what was read is of them.
pub const KEPT_BYTES: u64 = 8 << 10;

/// Bytes that are compared to learn whether the beginning of a file was taken away: one block of most file systems.
pub const PROBE_BYTES: usize = 4 << 10;

/// How long an answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The beginning of a file that is to be taken away (`FALLOC_FL_COLLAPSE_RANGE`, fallocate(2)).
#[derive(Debug)]
pub struct Collapse {
    /// Which file, and how far it is safe: what is to be taken away was planned by this, and the file may have become
    /// another one since.
    pub settled: FileCursor,
    /// The same, opened for writing.
    pub file: File,
    /// Bytes to take: whole blocks.
    pub length: u64,
    /// Hash of its first [`PROBE_BYTES`] now.
    pub before: u64,
    /// Hash of those that will be its first ones.
    pub after: u64,
}

impl Collapse {
    /// Whether the file is as it was when this was planned.
    pub fn is_ahead(&self, file: &File) -> io::Result<bool> {
        let (first, next) = (probe(file, 0)?, probe(file, self.length)?);
        Ok(first == Some(self.before) && next == Some(self.after))
    }
}

/// Hash of [`PROBE_BYTES`] at `offset`; `None` when the file ends before.
pub fn probe(file: &File, offset: u64) -> io::Result<Option<u64>> {
    Ok(piece(file, offset, PROBE_BYTES)?.map(|bytes| hash(&bytes)))
}

/// A collapse that an earlier process began: whether it happened is seen in the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Which file.
    pub identity: FileIdentity,
    /// Bytes that were taken from it before.
    pub shift: u64,
    /// Bytes that were to be taken.
    pub length: u64,
    /// Hash of the first [`PROBE_BYTES`] before it.
    pub before: u64,
    /// Hash of the first ones after it.
    pub after: u64,
}

impl Begun {
    /// The cursor after it, if it happened and the log did not hear of it; the one before it, if the log did and it is
    /// not in the file; the cursor as it is otherwise.
    pub fn moved(&self, cursor: FileCursor, file: &File) -> io::Result<FileCursor> {
        if self.before == self.after || cursor.file != self.identity {
            return Ok(cursor);
        }
        let first = probe(file, 0)?;
        let has_happened = first == Some(self.after);
        let has_not = first == Some(self.before);
        // A record may hold anything.
        let after = self.shift.saturating_add(self.length);
        let (offset, shift) = if cursor.shift == self.shift && has_happened {
            (cursor.offset.checked_sub(self.length), after)
        } else if cursor.shift == after && has_not {
            // The log heard of it, and then the power failed before it was on the disk.
            (cursor.offset.checked_add(self.length), self.shift)
        } else {
            return Ok(cursor);
        };
        let Some(offset) = offset.filter(|offset| *offset >= KEPT_BYTES) else { return Ok(cursor) };
        let length = tail_len(offset);
        let tail = piece(file, offset - length as u64, length)?.map(|tail| hash(&tail));
        let head = piece(file, 0, HEAD_BYTES)?;
        match (tail, head) {
            (Some(tail), Some(head)) if tail == cursor.proof.tail => {
                let proof = ContentProof { head: hash(&head), ..cursor.proof };
                Ok(FileCursor { offset, shift, proof, ..cursor })
            }
            _ => Ok(cursor),
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// Take the beginning away, and move along.
    Collapse(Collapse),
    /// No writer has it any more, and it has so many bytes: read it to its end, say that it is over, and leave it.
    Retire(FileIdentity, u64),
    /// It has something new after all: read on, behind its first so many bytes if the log has forgotten it by now.
    Readmit(FileIdentity, u64),
    /// It is about to be removed, and nobody could prove that it has no writer.
    Hold(Hold),
    /// It is gone: another file may be made of the same inode.
    Forget(FileIdentity),
}

/// A file that is about to lose its name while a writer may have it.
#[derive(Debug)]
pub struct Hold {
    /// Which file.
    pub identity: FileIdentity,
    /// The same, opened for reading.
    pub file: File,
    /// Its name.
    pub path: PathBuf,
    /// The name under which it was written.
    pub base: PathBuf,
    /// Bytes of it, all of which were shipped.
    pub bytes: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, or was done before.
    Done,
    /// Not now, and why: it was not done, and will not be.
    NotNow(String),
    /// The same, since the thread that reads had no time to look at it.
    Busy,
    /// It may be done still.
    Unknown,
    /// The file cannot, ever.
    Never(String),
    /// The file system cannot, for any file.
    Nowhere(String),
}

/// Where the question lies.
#[derive(Debug, Default)]
pub struct Desk {
    inner: Mutex<Inner>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    asked: Option<Ask>,
    /// Somebody waits for the answer to what was taken.
    is_awaited: bool,
    /// What was taken is being done.
    is_at_work: bool,
    answer: Option<Answer>,
}

impl Desk {
    /// Asks, and waits. Only one thread may ask.
    pub fn ask(&self, ask: Ask) -> Answer {
        let mut inner = self.lock();
        let is_at_work = inner.is_at_work;
        *inner = Inner { asked: Some(ask), is_awaited: false, is_at_work, answer: None };
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        loop {
            if let Some(answer) = inner.answer.take() {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return match inner.asked.take() {
                    Some(_) => Answer::Busy,
                    // It is at it.
                    None => Answer::Unknown,
                };
            }
            let waited = self.answered.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether everything that was asked for is done, or never will be. Only for the thread that asks.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let inner = self.lock();
        inner.asked.is_none() && !inner.is_at_work
    }

    /// The question, for whoever answers it.
    pub(super) fn take(&self) -> Option<Ask> {
        let mut inner = self.lock();
        let asked = inner.asked.take();
        inner.is_awaited |= asked.is_some();
        inner.is_at_work |= asked.is_some();
        asked
    }

    /// Answers what was taken.
    pub(super) fn answer(&self, answer: Answer) {
        let mut inner = self.lock();
        inner.is_at_work = false;
        if std::mem::take(&mut inner.is_awaited) {
            inner.answer = Some(answer);
            self.answered.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
