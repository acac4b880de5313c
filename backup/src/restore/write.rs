//! Files in the making: content arrives in any order and from several threads, the last piece finishes
//! the file.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::entry::Entry;
use crate::target::{RestoreWarning, Target, TargetError};

/// Files kept open between two of their pieces, by all threads together. More are opened anew for each
/// piece.
const FILES_OPEN_MAX: usize = 256;

/// A file of the window.
#[derive(Debug)]
pub(super) struct FileJob {
    /// Path in the target, and metadata; its extents have become chunk jobs.
    pub(super) entry: Entry,
    pub(super) size: u64,
    /// Whether it was there before: what cannot be restored then stays.
    pub(super) existed: bool,
    chunks_left: AtomicU32,
    state: Mutex<FileState>,
    failed: AtomicBool,
}

#[derive(Debug)]
enum FileState {
    /// Nothing of it exists yet.
    New,
    /// It exists and is open.
    Open(Arc<File>),
    /// It exists and has to be opened for the next piece.
    Closed,
}

impl FileJob {
    /// A file that needs `chunks` pieces. `exists` says that it is there already with the right length.
    pub(super) fn new(entry: Entry, size: u64, chunks: u32, exists: bool) -> Self {
        let state = if exists { FileState::Closed } else { FileState::New };
        Self {
            entry,
            size,
            existed: exists,
            chunks_left: AtomicU32::new(chunks),
            state: Mutex::new(state),
            failed: AtomicBool::new(false),
        }
    }

    /// Marks the file as not restorable; true the first time.
    pub(super) fn fail(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes pieces into a target.
#[derive(Debug)]
pub(super) struct FileWriter<'a> {
    target: &'a Target,
    open: AtomicUsize,
}

impl<'a> FileWriter<'a> {
    pub(super) fn new(target: &'a Target) -> Self {
        Self { target, open: AtomicUsize::new(0) }
    }

    /// Makes a file that has no data: empty, or one hole.
    pub(super) fn without_data(&self, job: &FileJob) -> Result<Vec<RestoreWarning>, TargetError> {
        let file = self.file(job)?;
        self.finish(job, &file)
    }

    /// Writes one piece; when it was the last one, finishes the file and returns what was lost.
    pub(super) fn piece(
        &self,
        job: &FileJob,
        offset: u64,
        content: &[u8],
    ) -> Result<Vec<RestoreWarning>, TargetError> {
        let file = self.file(job)?;
        file.write_all_at(content, offset)
            .map_err(|error| TargetError::writing(&job.entry.path, error))?;
        if job.chunks_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(job, &file)
        } else {
            Ok(Vec::new())
        }
    }

    /// Closes a file that gets no more pieces.
    pub(super) fn give_up(&self, job: &FileJob) {
        if matches!(std::mem::replace(&mut *job.lock(), FileState::Closed), FileState::Open(_)) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn finish(&self, job: &FileJob, file: &File) -> Result<Vec<RestoreWarning>, TargetError> {
        self.give_up(job);
        self.target.finish(&job.entry, Some(file.as_fd()))
    }

    fn file(&self, job: &FileJob) -> Result<Arc<File>, TargetError> {
        let mut state = job.lock();
        let file = match &*state {
            FileState::Open(file) => return Ok(Arc::clone(file)),
            FileState::Closed => self.target.open_for_write(&job.entry.path)?.0,
            FileState::New => {
                let file = self.target.create_file(&job.entry.path)?;
                // Holes, and all that is written later, lie inside this length from the start.
                file.set_len(job.size)
                    .map_err(|error| TargetError::writing(&job.entry.path, error))?;
                file
            }
        };
        let file = Arc::new(file);
        let one_piece = job.chunks_left.load(Ordering::Acquire) <= 1;
        if !one_piece && self.open.fetch_add(1, Ordering::Relaxed) < FILES_OPEN_MAX {
            *state = FileState::Open(Arc::clone(&file));
        } else {
            if !one_piece {
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
            *state = FileState::Closed;
        }
        Ok(file)
    }
}
