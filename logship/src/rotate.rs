//! Rotates the files that are shipped: what is not shipped cannot be rotated away.
//!
//! In the order it happens: `decide` says what to do, `place` and `fresh` rename and make anew, `writers` are told,
//! `lease` proves that nobody writes to the old file any more, the reader is asked to end it (`files::desk`), `keep`
//! says what goes. `intent` has written down each step before it is done. Writers that stay get the beginning of
//! their file taken away, when all of them append (`appends`) and the file system can; otherwise its disk is freed
//! behind what is safe. Nothing is ever copied and truncated.
//!
//! What cannot be known, and what is done about it:
//! * A writer that opens a file without `O_APPEND` between the look at all writers and the collapse leaves a hole in
//!   its own lines. The window is some milliseconds.
//! * A file that another program cuts and fills again past the place within the moment between the last look at its
//!   content and the punch loses what it had there. The window is the time of two system calls.

pub mod appends;
pub mod decide;
pub mod fresh;
pub mod intent;
pub mod keep;
pub mod lease;
pub mod look;
pub mod names;
pub mod place;
mod rotator;
pub mod wanted;
pub mod writers;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::cursor::{Cursor, FileIdentity};
use crate::files::desk::{Begun, Desk};
use crate::files::{FilesSettings, PatternError, key_of};
use crate::rotation::Wishes;
use crate::wal::Log;
use intent::{Intent, IntentError, Intents};
use rotator::Rotator;

#[cfg(test)]
mod tests;

/// What is rotated, and what is needed for it.
#[derive(Debug, Clone)]
pub struct RotateSettings {
    /// Globs of the files, those that are left out, and those of the sources that come first.
    pub paths: Vec<String>,
    /// Globs of what is left out of them.
    pub exclude: Vec<String>,
    /// The globs of sources that come first, and what those leave out.
    pub earlier: Vec<(Vec<String>, Vec<String>)>,
    /// What the operator set.
    pub wishes: Wishes,
    /// The state directory.
    pub state: PathBuf,
    /// The engine, in the forms of `DOCKER_HOST`.
    pub engine: Option<String>,
    /// Where the reader is asked.
    pub desk: Arc<Desk>,
    /// What is counted.
    pub stats: Arc<RotateStats>,
}

impl RotateSettings {
    /// What `files` reads is what is rotated.
    #[must_use]
    pub fn of(files: &FilesSettings, wishes: Wishes, state: PathBuf, desk: Arc<Desk>) -> Self {
        Self {
            paths: files.patterns.clone(),
            exclude: files.exclude.clone(),
            earlier: files.earlier.clone(),
            wishes,
            state,
            engine: None,
            desk,
            stats: Arc::default(),
        }
    }
}

/// Why files cannot be rotated at all.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The globs.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The state directory.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// SIGIO.
    #[error("cannot take over SIGIO, which leases need")]
    Signal(#[source] io::Error),
}

/// What an earlier process left, for the reader: it must know before it opens a file.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// Collapses that may have happened.
    pub begun: Vec<Begun>,
    /// Rotated files that are over, and their bytes, all of which were shipped.
    pub kept: HashMap<FileIdentity, u64>,
    /// Renamed files that may be over.
    pub renamed: Vec<FileIdentity>,
}

/// Reads it, for the process that has the state directory, before the log runs: from then on that may forget which of the
/// renamed files are over.
pub fn left(state: &Path, log: &Log) -> Result<Left, RotateError> {
    let mut left = Left::default();
    let intents = Intents::at(state);
    for (name, intent) in intents.take_over()? {
        match intent {
            Intent::Collapse { begun, .. } => left.begun.push(begun.into()),
            Intent::Kept(kept) => drop(left.kept.insert(kept.file, kept.bytes)),
            Intent::Rename(mut renamed) => {
                if let Some(bytes) = over(log, renamed.file)
                    && renamed.over != Some(bytes)
                {
                    renamed.over = Some(bytes);
                    intents.replace(&name, &Intent::Rename(renamed.clone()))?;
                }
                left.kept.extend(renamed.over.map(|bytes| (renamed.file, bytes)));
                left.renamed.push(renamed.file);
            }
        }
    }
    Ok(left)
}

/// Bytes that were shipped of a file that is over, as the log knows for good.
fn over(log: &Log, file: FileIdentity) -> Option<u64> {
    let standing = log.standing(&key_of(file)).filter(|standing| standing.is_over)?;
    match standing.cursor {
        Some(Cursor::File(cursor)) if standing.at <= log.safe() => Some(cursor.offset),
        _ => None,
    }
}

/// Rotates until `stop`. Blocks: give it a thread of its own.
pub fn run(
    settings: RotateSettings,
    log: &Log,
    runtime: &Handle,
    stop: &Shutdown,
) -> Result<(), RotateError> {
    {
        let _inside = runtime.enter();
        lease::prepare().map_err(RotateError::Signal)?;
    }
    Rotator::new(settings, log.clone(), runtime.clone(), stop.clone())?.run();
    Ok(())
}

/// What is counted while files are rotated.
#[derive(Debug, Default)]
pub struct RotateStats {
    renamed: AtomicU64,
    collapsed: AtomicU64,
    punched: AtomicU64,
    removed_bytes: AtomicU64,
    compressed: AtomicU64,
    faults: AtomicU64,
    draining: AtomicU64,
    kept: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RotateCounts {
    /// Files that got another name.
    pub renamed: u64,
    /// Times that the beginning of a file was taken away.
    pub collapsed: u64,
    /// Times that the disk of the beginning of a file was freed.
    pub punched: u64,
    /// Bytes that were taken away, freed, or removed with a rotated file.
    pub removed_bytes: u64,
    /// Rotated files that were compressed.
    pub compressed: u64,
    /// Things that failed: a writer that could not be told, a file that could not be renamed.
    pub faults: u64,
    /// Renamed files that still have a writer, or something unread.
    pub draining: u64,
    /// Rotated files that are kept.
    pub kept: u64,
}

impl RotateStats {
    fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn counts(&self) -> RotateCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RotateCounts {
            renamed: get(&self.renamed),
            collapsed: get(&self.collapsed),
            punched: get(&self.punched),
            removed_bytes: get(&self.removed_bytes),
            compressed: get(&self.compressed),
            faults: get(&self.faults),
            draining: get(&self.draining),
            kept: get(&self.kept),
        }
    }
}
