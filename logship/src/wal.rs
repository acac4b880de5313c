//! The write-ahead log: one copy of every record, many readers. `docs/logship-wal.md` has every byte.
//!
//! One thread appends what the sources hand over, another makes it durable and removes what every sink has.
//! A sink reads with a [`Reader`] and keeps its place in a [`SinkCursor`].

mod commit;
mod delivered;
mod frame;
mod glance;
mod look_back;
mod peek;
mod read;
mod recover;
mod segment;
mod shared;
mod sink_cursor;
mod spectate;
mod state;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chores_common::durable::DurableError;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::cursor::Cursor;
use crate::intake::{IntakeReceiver, Sources};
use crate::ledger::LedgerEntry;
use crate::source::{SourceId, SourceKey, SourceMeta};

use delivered::Delivered;

pub use glance::{Glance, Onlooker};
pub use look_back::LookBack;
pub use read::{Next, Reader, Skipped, Upto};
pub use sink_cursor::{Role, SinkCursor};
pub use spectate::{Spectator, Start};
pub use state::{LogState, SourceState, Totals};
pub use verify::{Damage, Retained, VerifiedLog, VerifiedSink, verify};
pub use write::Running;

#[cfg(test)]
mod tests;

/// Bytes on disk at the most, unless set.
pub const BYTES_MAX_DEFAULT: u64 = 2 << 30;

/// Bytes kept aside on disk for the places of the sinks, unless set.
pub const RESERVE_BYTES_DEFAULT: u64 = 4 << 20;

/// Time between two commits, unless set.
pub const COMMIT_EVERY_DEFAULT: Duration = Duration::from_millis(100);

/// Bytes of a segment, unless set.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Bytes of a segment at the least.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// A log has room for this many segments, so that removing one makes room for another.
const SEGMENTS_MIN: u64 = 4;

/// A place in the log. Places rise; none is used twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Byte of the log at which a frame begins, counted over all segments since the log was made.
    pub frame: u64,
    /// Records of that frame before this place.
    pub record: u32,
}

/// Records of one source as they are in the log.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where it begins.
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Whose it is.
    pub source: SourceId,
    /// What is known of it.
    pub meta: Arc<SourceMeta>,
    /// Number of the first record within its source; the others follow without a hole.
    pub first_seq: u64,
    /// The records.
    pub block: Block,
}

impl Frame {
    /// The place behind its first `records` records. A sink that has all of them goes on at the next frame.
    #[must_use]
    pub fn after(&self, records: u32) -> Position {
        if records >= self.block.count() {
            Position { frame: self.end, record: 0 }
        } else {
            Position { frame: self.start, record: records }
        }
    }
}

/// How bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all: the least work.
    None,
    /// LZ4 (block format): a third of the size for little work.
    #[default]
    Lz4,
    /// Zstandard: a fifth of the size for twice the work.
    Zstd,
}

impl Codec {
    fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd].into_iter().find(|codec| codec.to_byte() == byte)
    }
}

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The state directory. Without one, lines are only held in memory until every sink took them, and
    /// nothing is durable.
    pub directory: Option<PathBuf>,
    /// Only for a log without a directory: the state directory that keeps how far every source was read, as far
    /// as every sink has it. Without one, sources begin anew with each process.
    pub cursors: Option<PathBuf>,
    /// How bodies are compressed.
    pub codec: Codec,
    /// Bytes on disk at the most. A log that is full takes nothing until a sink has moved on.
    pub bytes_max: u64,
    /// Bytes kept aside on disk, so that sinks can keep their places when the disk is full.
    pub reserve_bytes: u64,
    /// Time between two commits.
    pub commit_every: Duration,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            directory: None,
            cursors: None,
            codec: Codec::default(),
            bytes_max: BYTES_MAX_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            commit_every: COMMIT_EVERY_DEFAULT,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
        }
    }
}

impl LogSettings {
    /// A log in `directory`, everything else as it is unless set.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..Self::default() }
    }

    /// Bytes of a segment such that the log has room for enough of them.
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.bytes_max / SEGMENTS_MIN).max(SEGMENT_BYTES_MIN)
    }
}

/// Tells logs apart: random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    fn random() -> Result<Self, WalError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| WalError::Random(error.to_string()))?;
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// An act on a file or directory failed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A small file cannot be written durably.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// Another process has the state directory.
    #[error("another logship uses the state directory {}", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// The log was written by another release.
    #[error("{} is of version {version} of the log, and this release knows version 1", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A block that no reader would believe.
    #[error("a block of {bytes} bytes is too long for the log")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The system gave no random numbers.
    #[error("cannot get random bytes: {0}")]
    Random(String),
    /// No thread could be started.
    #[error("cannot start a thread of the log")]
    Thread(#[source] io::Error),
    /// The log failed earlier.
    #[error("the log failed: {0}")]
    Failed(String),
}

impl WalError {
    fn io(act: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { act, path: path.to_owned(), source }
    }
}

/// What holds the log back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// Nothing.
    #[default]
    None,
    /// It is as large as it may be, and waits for the slowest sink.
    Sinks,
    /// The disk is full.
    DiskFull,
    /// The process may open no more files.
    Descriptors,
}

/// How a log is doing.
#[derive(Debug, Clone, Default)]
pub struct LogStats {
    /// Bytes on disk, or in memory for a log without a directory.
    pub bytes: u64,
    /// Segments on disk.
    pub segments: usize,
    /// Where the next frame begins.
    pub written: Position,
    /// Everything before it survives a crash.
    pub durable: Position,
    /// What holds the log back.
    pub pressure: Pressure,
    /// Why the log failed, when it did.
    pub failed: Option<String>,
    /// What is known of every source.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// The sums of forgotten sources.
    pub forgotten: Totals,
    /// Where every sink of this process is, by name.
    pub sinks: BTreeMap<String, Position>,
}

/// See [`Log::standing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far it was read.
    pub cursor: Option<Cursor>,
    /// It ended.
    pub is_over: bool,
    /// Where the log was then.
    pub at: u64,
}

/// Whether a process has the state directory now.
#[must_use]
pub fn is_in_use(state: &Path) -> bool {
    let lock = std::fs::File::open(state.join("lock"));
    let free = |lock: std::fs::File| {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared)
    };
    lock.is_ok_and(|lock| free(lock) == Err(rustix::io::Errno::WOULDBLOCK))
}

/// A write-ahead log. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<shared::Shared>,
    sources: Arc<Sources>,
}

impl Log {
    /// Opens the log, or makes one. Damage and what a crash cut off is repaired first; the sources hold every
    /// source that is known, with its cursor.
    pub fn open(settings: LogSettings) -> Result<(Self, Arc<Sources>), WalError> {
        let shared = shared::Shared::open(settings)?;
        let sources = Arc::new(Sources::default());
        shared.restore(&sources);
        Ok((Self { shared: Arc::new(shared), sources: sources.clone() }, sources))
    }

    /// Starts to take what the sources hand over. Sinks are made known with [`sink`](Self::sink) before: what
    /// all known ones have is removed.
    pub fn run(&self, receiver: IntakeReceiver) -> Result<Running, WalError> {
        Running::start(self.shared.clone(), receiver)
    }

    /// Reads from a place on. In a log without a directory, it holds what it has not read.
    #[must_use]
    pub fn reader(&self, from: Position, until: Upto) -> Reader {
        Reader::new(self.shared.clone(), from, until, None, Role::Mandatory)
    }

    /// The place of a sink, kept in the state directory. A new one begins at the oldest frame.
    pub fn sink(&self, name: &str, role: Role) -> Result<SinkCursor, WalError> {
        SinkCursor::open(self.shared.clone(), name, role)
    }

    /// Names of the sinks of earlier processes that are not known to this one and had not had everything.
    pub fn abandoned_sinks(&self) -> Result<Vec<String>, WalError> {
        let Some(paths) = &self.shared.paths else { return Ok(Vec::new()) };
        let sinks = sink_cursor::all(&paths.sinks)?;
        let log = self.shared.id().to_string();
        let inner = self.shared.lock();
        let is_abandoned = |sink: &sink_cursor::SinkFile| {
            sink.log == log
                && !inner.sinks.contains_key(&sink.sink)
                && inner.state.lag_bytes(&sink.sink, sink.position) > 0
        };
        Ok(sinks.into_iter().filter(is_abandoned).map(|sink| sink.sink).collect())
    }

    /// Keeps a hole that is one sink's alone in the ledger; whether it is new there.
    #[must_use]
    pub fn note_gap(&self, entry: &LedgerEntry) -> bool {
        self.shared.found_gap(entry)
    }

    /// Every source that is known.
    #[must_use]
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Tells this log from others.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.id()
    }

    /// Everything before it survives a crash.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position { frame: self.shared.lock().durable, record: 0 }
    }

    /// Everything before it was taken over for good: it survives a crash, or, where the log keeps no lines on disk,
    /// every sink has it and the cursors say so on disk.
    #[must_use]
    pub fn safe(&self) -> u64 {
        let inner = self.shared.lock();
        inner.delivered.as_ref().map_or(inner.durable, Delivered::kept_until)
    }

    /// What was taken of a source so far, and the place of the log that must be [`safe`](Self::safe) for that to
    /// last. In a log that keeps nothing on disk nothing lasts, and there is none.
    #[must_use]
    pub fn standing(&self, key: &SourceKey) -> Option<Standing> {
        let id = self.sources.id_of(key)?;
        let inner = self.shared.lock();
        if self.shared.paths.is_none() && inner.delivered.is_none() {
            return None;
        }
        let source = inner.state.sources.get(&id)?;
        let (cursor, is_over) = (source.cursor.clone(), source.ended.is_some());
        Some(Standing { cursor, is_over, at: inner.written })
    }

    /// Why it failed, when it did.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.shared.lock().failed.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }
}
