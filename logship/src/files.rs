//! Log files as sources: found by globs, known by inode and content, read to their end through every rotation.
//!
//! One thread watches directories, opens what appears and reads in turns. A file stays open as long as it may
//! grow, whatever becomes of its name; while the log is full nothing is read, but what appears is still opened.
//!
//! What cannot be known, and what is done about it:
//! * A file that came and went before it was opened leaves nothing to tell of.
//! * Bytes that were written between the end of a copy and the truncation after it (`copytruncate`) are in no
//!   file any more; the `truncated` record marks the place.
//! * A file that is cut and grows past the place within the one read that follows the check is not noticed. The
//!   window is the time of one `pread(2)`.
//! * A compressed file is read when it continues a file that was being read, never because a glob names it.
//! * A file with the name of a rotated one that holds nothing but the beginning of the file it is named after is
//!   taken for its copy.

mod compressed;
pub mod desk;
mod encoding;
mod follow;
mod held;
mod marks;
pub mod patterns;
pub mod reach;
mod resume;
mod siblings;
mod tailed;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chores_common::shutdown::Shutdown;

use crate::cursor::FileIdentity;
use crate::intake::{Intake, IntakeClosed};
use crate::process::ProcessSettings;
use crate::rule::{FileStart, Mode};
use crate::source::Parse;
use desk::{Begun, Desk};
use follow::Follow;
pub(crate) use follow::key_of;
pub use held::HELD_TIME;
pub use patterns::{PatternError, Patterns};

#[cfg(test)]
mod tests;

/// Files that are read at the most, unless set.
pub const FILES_MAX_DEFAULT: usize = 10_000;

/// Files that are open at the most, unless set.
pub const DESCRIPTORS_MAX_DEFAULT: usize = 1024;

/// Time between two looks at every file, unless set: what the kernel tells in between is acted on at once.
pub const SCAN_EVERY_DEFAULT: Duration = Duration::from_secs(10);

/// How long a file that was renamed, or removed after its writer closed it, must be quiet to be over, unless set.
pub const OVER_AFTER_DEFAULT: Duration = Duration::from_secs(30);

/// Which files, and what to do with them.
#[derive(Debug, Clone)]
pub struct FilesSettings {
    /// Absolute globs; `**` is any number of directories.
    pub patterns: Vec<String>,
    /// Globs of what is left out of them.
    pub exclude: Vec<String>,
    /// The globs of sources that come first, and what those leave out: what they take is not read here.
    pub earlier: Vec<(Vec<String>, Vec<String>)>,
    /// Where to begin at the very first start.
    pub start: FileStart,
    /// What is done to lines.
    pub process: Arc<ProcessSettings>,
    /// Added to every record.
    pub fields: BTreeMap<String, String>,
    /// The sinks by name; all of them when absent.
    pub sinks: Option<Vec<String>>,
    /// How sinks take lines apart.
    pub parse: Parse,
    /// Name of this host.
    pub host: String,
    /// The volume these files are in, when the engine could tell.
    pub volume: Option<String>,
    /// See [`SCAN_EVERY_DEFAULT`].
    pub scan_every: Duration,
    /// See [`OVER_AFTER_DEFAULT`].
    pub over_after: Duration,
    /// See [`FILES_MAX_DEFAULT`].
    pub files_max: usize,
    /// See [`DESCRIPTORS_MAX_DEFAULT`]. Those written to least recently are closed when there are more.
    pub descriptors_max: usize,
    /// What is counted while it runs; several runs may share it.
    pub stats: Arc<FilesStats>,
    /// Where our own rotation asks.
    pub desk: Option<Arc<Desk>>,
    /// What our own rotation had begun when an earlier process ended.
    pub begun: Vec<Begun>,
    /// Files that it has ended, and their bytes, all of which were shipped.
    pub kept: HashMap<FileIdentity, u64>,
    /// Files that it has renamed: what the log calls over among them is not read again.
    pub renamed: Vec<FileIdentity>,
}

impl FilesSettings {
    /// Everything as it is unless set.
    #[must_use]
    pub fn new(patterns: Vec<String>, host: String) -> Self {
        Self {
            patterns,
            exclude: Vec::new(),
            earlier: Vec::new(),
            start: FileStart::default(),
            process: Arc::default(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::default(),
            host,
            volume: None,
            scan_every: SCAN_EVERY_DEFAULT,
            over_after: OVER_AFTER_DEFAULT,
            files_max: FILES_MAX_DEFAULT,
            descriptors_max: DESCRIPTORS_MAX_DEFAULT,
            stats: Arc::default(),
            desk: None,
            begun: Vec::new(),
            kept: HashMap::new(),
            renamed: Vec::new(),
        }
    }
}

/// What is counted while files are read.
#[derive(Debug, Default)]
pub struct FilesStats {
    refused: AtomicU64,
    outside: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilesCounts {
    /// Paths that are meant and could not be read.
    pub refused: u64,
    /// Those among them that lead out of their directory.
    pub outside: u64,
}

impl FilesStats {
    /// A path that is meant cannot be read.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// It leads out of its directory.
    pub fn outside(&self) {
        self.outside.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn counts(&self) -> FilesCounts {
        FilesCounts {
            refused: self.refused.load(Ordering::Relaxed),
            outside: self.outside.load(Ordering::Relaxed),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilesReport {
    /// Files that were opened.
    pub files: u64,
    /// Bytes of lines that were handed on.
    pub bytes: u64,
    /// Files that were cut or written anew.
    pub rewritten: u64,
    /// Copies of what was read already.
    pub copies: u64,
    /// Holes that were told of.
    pub gaps: u64,
    /// Paths that are meant and cannot be read.
    pub refused: u64,
    /// Patterns that matched no file at the start.
    pub unmatched: u64,
}

/// Why files cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The globs.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The log ended.
    #[error(transparent)]
    Closed(#[from] IntakeClosed),
}

/// Reads files until `mode` or `shutdown` says so. Blocks: give it a thread of its own.
pub fn run(
    settings: FilesSettings,
    intake: Intake,
    shutdown: &Shutdown,
    mode: Mode,
) -> Result<FilesReport, FilesError> {
    let earlier = settings.earlier.iter();
    let earlier = earlier.map(|(patterns, exclude)| Patterns::new(patterns, exclude));
    let earlier = earlier.collect::<Result<_, _>>()?;
    let patterns = Patterns::new(&settings.patterns, &settings.exclude)?.after(earlier);
    let mut follow = Follow::new(settings, patterns, intake, mode);
    follow.run(shutdown)?;
    Ok(follow.report())
}
