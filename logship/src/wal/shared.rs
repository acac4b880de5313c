//! What the threads of a log share, and where it is on disk.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chores_common::durable;

use super::delivered::{self, Delivered};
use super::sink_cursor::Role;
use super::state::LogState;
use super::{Frame, LogId, LogSettings, LogStats, Position, Pressure, WalError, recover};
use crate::intake::Sources;
use crate::ledger::{Ledger, LedgerEntry};

/// Bytes of the latest blocks that are held in memory, so that a reader near the end needs no disk.
const RECENT_BYTES_MAX: usize = 8 << 20;

/// Bytes that are held in memory by a log without a directory.
const MEMORY_BYTES_MAX: usize = 16 << 20;

/// How often a state directory that is taken is tried again, and how long it is waited in between.
const LOCK_ATTEMPTS_MAX: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Permissions of everything below the state directory: log lines are nobody else's.
const DIRECTORY_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;

/// Where things are below the state directory.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) state: PathBuf,
    pub(super) segments: PathBuf,
    pub(super) sinks: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) reserve: PathBuf,
}

impl Paths {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            segments: state.join("wal"),
            sinks: state.join("sinks"),
            lock: state.join("lock"),
            reserve: state.join("reserve"),
        }
    }
}

/// See [`super::Log`].
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: LogSettings,
    pub(super) paths: Option<Paths>,
    pub(super) ledger: Ledger,
    id: LogId,
    /// Held as long as the log is open; the kernel lets go of it when the process ends.
    _lock: Option<File>,
    inner: Mutex<Inner>,
    /// For readers: there is more, or there will be no more.
    pub(super) more: Condvar,
    /// For the writer: there is room again.
    pub(super) room: Condvar,
    /// For the committer: something is not durable, or a sink has moved on.
    pub(super) work: Condvar,
}

/// What changes.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: LogState,
    pub(super) recent: VecDeque<Frame>,
    recent_bytes: usize,
    /// Where the next frame begins.
    pub(super) written: u64,
    pub(super) durable: u64,
    /// Where the next segment begins at the earliest: no sink has seen a place behind it.
    pub(super) next_base: u64,
    /// Where each segment on disk begins and ends.
    pub(super) segments: BTreeMap<u64, u64>,
    /// Files with bytes that are not durable.
    pub(super) dirty: Vec<Arc<File>>,
    pub(super) is_directory_dirty: bool,
    pub(super) sinks: BTreeMap<String, SinkPlace>,
    pub(super) readers: BTreeMap<u64, ReaderPlace>,
    next_reader: u64,
    pub(super) pressure: Pressure,
    /// The sources have said everything.
    pub(super) is_drained: bool,
    /// Nothing is waited for any more.
    pub(super) is_giving_up: bool,
    /// The threads end as if the process had been killed.
    pub(super) is_abandoned: bool,
    /// Everything that will ever be written is written.
    pub(super) is_closed: bool,
    pub(super) has_sink_moved: bool,
    /// It is time to look for what can be removed or forgotten.
    pub(super) is_tidying_due: bool,
    pub(super) failed: Option<String>,
    /// Only in a log without a directory that keeps cursors.
    pub(super) delivered: Option<Delivered>,
}

/// Where a sink is.
#[derive(Debug, Clone, Copy)]
pub(super) struct SinkPlace {
    pub(super) role: Role,
    pub(super) position: Position,
}

/// Where a reader is; only a log without a directory needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReaderPlace {
    pub(super) role: Role,
    pub(super) at: u64,
}

impl Shared {
    pub(super) fn open(settings: LogSettings) -> Result<Self, WalError> {
        let paths = settings.directory.as_deref().map(Paths::new);
        let state = settings.directory.as_deref().or(settings.cursors.as_deref());
        let lock = state.map(|state| lock(&Paths::new(state))).transpose()?;
        let ledger = Ledger::open(state).map_err(|source| {
            let state = state.unwrap_or_else(|| Path::new(""));
            WalError::io("read the ledger in", state, source)
        })?;
        let mut delivered = None;
        let recovered = match (&paths, &settings.cursors) {
            (Some(paths), _) => {
                prepare(paths)?;
                recover::recover(paths, &ledger)?
            }
            (None, Some(state)) => {
                let known = Delivered::open(state)?;
                let state = known.state().clone();
                delivered = Some(known);
                recover::Recovered { state, ..recover::Recovered::empty(LogId::random()?) }
            }
            (None, None) => recover::Recovered::empty(LogId::random()?),
        };
        let shared = Self {
            id: recovered.id,
            paths,
            ledger,
            _lock: lock,
            inner: Mutex::new(Inner {
                state: recovered.state,
                recent: VecDeque::new(),
                recent_bytes: 0,
                written: recovered.end,
                durable: recovered.end,
                next_base: recovered.next_base,
                segments: recovered.segments,
                dirty: Vec::new(),
                is_directory_dirty: false,
                sinks: BTreeMap::new(),
                readers: BTreeMap::new(),
                next_reader: 0,
                pressure: Pressure::None,
                is_drained: false,
                is_giving_up: false,
                is_abandoned: false,
                is_closed: false,
                has_sink_moved: false,
                is_tidying_due: false,
                failed: None,
                delivered,
            }),
            settings,
            more: Condvar::new(),
            room: Condvar::new(),
            work: Condvar::new(),
        };
        shared.fill_reserve();
        Ok(shared)
    }

    pub(super) fn id(&self) -> LogId {
        self.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(
        &self,
        condition: &Condvar,
        inner: MutexGuard<'a, Inner>,
        time: Duration,
    ) -> MutexGuard<'a, Inner> {
        let waited = condition.wait_timeout(inner, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Tells the sources' side what was recovered.
    pub(super) fn restore(&self, sources: &Sources) {
        let inner = self.lock();
        sources.reserve(inner.state.next_source);
        for (id, source) in &inner.state.sources {
            sources.restore(*id, source.meta.as_ref().clone(), source.cursor.clone());
            if source.ended.is_some() {
                sources.end(*id);
            }
        }
    }

    /// The log cannot go on.
    pub(super) fn fail(&self, error: &WalError) {
        let mut inner = self.lock();
        let reason = chores_common::exit::chain(error);
        tracing::error!(error = %reason, "the log failed");
        inner.failed.get_or_insert(reason);
        self.notify_all();
    }

    pub(super) fn notify_all(&self) {
        self.more.notify_all();
        self.room.notify_all();
        self.work.notify_all();
    }

    pub(super) fn stats(&self) -> LogStats {
        let inner = self.lock();
        let on_disk = inner.bytes_on_disk();
        LogStats {
            bytes: if self.paths.is_some() { on_disk } else { inner.recent_bytes as u64 },
            segments: inner.segments.len(),
            written: Position { frame: inner.written, record: 0 },
            durable: Position { frame: inner.durable, record: 0 },
            pressure: inner.pressure,
            failed: inner.failed.clone(),
            sources: inner.state.sources.clone(),
            forgotten: inner.state.forgotten,
            sinks: inner.sinks.iter().map(|(name, sink)| (name.clone(), sink.position)).collect(),
        }
    }

    /// Keeps bytes aside for the places of the sinks. Without room for them, there is none to keep.
    pub(super) fn fill_reserve(&self) {
        let (Some(paths), 1..) = (&self.paths, self.settings.reserve_bytes) else { return };
        let filled = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&paths.reserve)
            .and_then(|file| {
                let flags = rustix::fs::FallocateFlags::empty();
                Ok(rustix::fs::fallocate(&file, flags, 0, self.settings.reserve_bytes)?)
            });
        if let Err(error) = filled {
            tracing::warn!(%error, "cannot keep room aside on the disk of the state directory");
            self.release_reserve();
        }
    }

    /// Gives the bytes that were kept aside to whoever needs them now.
    pub(super) fn release_reserve(&self) {
        if let Some(paths) = &self.paths
            && let Err(error) = std::fs::remove_file(&paths.reserve)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot free the room that was kept aside");
        }
    }

    /// A hole that a reader or a sink found; whether nobody found it before. The first to find it is the one that
    /// counts.
    pub(super) fn found_gap(&self, entry: &LedgerEntry) -> bool {
        let Some(at) = self.ledger.add(entry) else { return false };
        if entry.in_log {
            self.lock().state.count_damage(entry, at);
        }
        true
    }
}

impl Inner {
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|(base, end)| end.saturating_sub(*base)).sum()
    }

    /// Adds a frame to those in memory.
    pub(super) fn remember(&mut self, frame: Frame, is_in_memory_only: bool) {
        self.recent_bytes += frame.block.body().len();
        self.recent.push_back(frame);
        if is_in_memory_only {
            return;
        }
        while self.recent_bytes > RECENT_BYTES_MAX && self.recent.len() > 1 {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(frame) = self.recent.pop_front() {
            self.recent_bytes = self.recent_bytes.saturating_sub(frame.block.body().len());
        }
    }

    /// Drops the frames that nobody waits for from memory, and tells whether there is room for `bytes` more.
    /// Only for a log without a directory.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        let slowest = self.readers.values().map(|reader| reader.at).min().unwrap_or(0);
        while self.recent.front().is_some_and(|frame| frame.end <= slowest) {
            self.drop_oldest();
        }
        // Whoever is optional is waited for as long as there is room; without any reader, one is expected.
        let mandatory = self.readers.values().filter(|reader| reader.role == Role::Mandatory);
        let floor = if self.readers.is_empty() { 0 } else { u64::MAX };
        let floor = mandatory.map(|reader| reader.at).min().unwrap_or(floor);
        while self.recent_bytes + bytes > MEMORY_BYTES_MAX
            && self.recent.front().is_some_and(|frame| frame.end <= floor)
        {
            self.drop_oldest();
        }
        self.recent.is_empty() || self.recent_bytes + bytes <= MEMORY_BYTES_MAX
    }

    /// Every sink has everything before it: none means that there is no sink.
    pub(super) fn slowest_sink(&self) -> Option<u64> {
        self.sinks.values().map(|sink| sink.position.frame).min()
    }

    /// Whether the cursor of another frame may wait for the sinks.
    pub(super) fn has_cursor_room(&self) -> bool {
        self.delivered.as_ref().is_none_or(Delivered::has_room)
    }

    /// Takes over what the sinks have, in a log without a directory.
    pub(super) fn advance_delivered(&mut self) {
        let mandatory = self.sinks.values().filter(|sink| sink.role == Role::Mandatory);
        let floor = mandatory.map(|sink| sink.position.frame).min();
        if let Some(delivered) = &mut self.delivered {
            // Without a sink that must have everything, what was handed on is all that can be asked for.
            delivered.advance(floor.unwrap_or(if self.sinks.is_empty() { 0 } else { u64::MAX }));
        }
    }

    /// Writes down what the sinks have, now. Only for a log that is closed: it holds up everybody else.
    pub(super) fn keep_delivered(&mut self) {
        self.advance_delivered();
        if let Some((path, bytes)) = self.delivered.as_mut().and_then(Delivered::take)
            && delivered::write(&path, &bytes)
            && let Some(delivered) = &mut self.delivered
        {
            delivered.keep();
        }
    }

    pub(super) fn add_reader(&mut self, reader: ReaderPlace) -> u64 {
        let id = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(id, reader);
        id
    }
}

/// Makes the state directory, and locks it.
fn lock(paths: &Paths) -> Result<File, WalError> {
    durable::create_directories(&paths.state, DIRECTORY_MODE)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&paths.lock)
        .map_err(|source| WalError::io("open", &paths.lock, source))?;
    let take = || rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let is_taken = |taken: &Result<(), _>| *taken == Err(rustix::io::Errno::WOULDBLOCK);
    let mut taken = take();
    for _ in 0..LOCK_ATTEMPTS_MAX {
        if !is_taken(&taken) {
            break;
        }
        // Whoever asks whether it is taken (`is_in_use`) has it for a moment.
        std::thread::sleep(LOCK_PAUSE);
        taken = take();
    }
    match taken {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(WalError::InUse { path: paths.state.clone() });
        }
        Err(error) => return Err(WalError::io("lock", &paths.lock, error.into())),
    }
    remove_temporary(&paths.state);
    Ok(lock)
}

/// Makes what is missing below the state directory.
fn prepare(paths: &Paths) -> Result<(), WalError> {
    for directory in [&paths.segments, &paths.sinks] {
        durable::create_directories(directory, DIRECTORY_MODE)?;
    }
    remove_temporary(&paths.sinks);
    Ok(())
}

/// Removes what a crash left of files that are written whole.
fn remove_temporary(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_left = entry.file_name().to_str().is_some_and(durable::is_temporary);
        if is_left && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, "a temporary file is left behind");
        }
    }
}
