//! How far every source was read and delivered, for a log without a directory: one small file, written whole,
//! in the place of everything else.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chores_common::durable;
use serde::{Deserialize, Serialize};

use super::WalError;
use super::shared::FILE_MODE;
use super::state::{LogState, SourceState};
use crate::source::SourceId;

/// The file below the state directory.
const FILE: &str = "cursors.json";

/// The version of the file.
const VERSION: u32 = 1;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Frames that wait for the sinks at the most: five minutes of one in ten milliseconds, since a sink may collect
/// for so long before it keeps its place.
const WAITING_MAX: usize = 1 << 15;

/// The file is written this often at the most, unless the log is closed.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct CursorFile {
    version: u32,
    state: LogState,
}

/// What waits for the sinks, and what they have.
#[derive(Debug)]
pub(super) struct Delivered {
    path: PathBuf,
    /// Where each frame ends, and what was known of its source behind it.
    waiting: VecDeque<(u64, SourceId, SourceState)>,
    state: LogState,
    is_changed: bool,
    written: Option<Instant>,
    /// Every sink has everything before it.
    floor: u64,
    /// The same when the file was last made, and when it was last written.
    taken: u64,
    kept: u64,
}

impl Delivered {
    /// What an earlier process left in the state directory.
    pub(super) fn open(state: &Path) -> Result<Self, WalError> {
        let path = state.join(FILE);
        let failed = |source| WalError::io("read", &path, source);
        let state = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => LogState::default(),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => {
                let bytes = std::fs::read(&path).map_err(failed)?;
                let file: CursorFile =
                    serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
                if file.version != VERSION {
                    return Err(WalError::Version { path, version: file.version });
                }
                file.state
            }
        };
        let waiting = VecDeque::new();
        let (floor, taken, kept) = (0, 0, 0);
        Ok(Self { path, waiting, state, is_changed: false, written: None, floor, taken, kept })
    }

    pub(super) fn state(&self) -> &LogState {
        &self.state
    }

    /// Whether another frame may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// A frame that ends at `end` was handed on.
    pub(super) fn push(&mut self, end: u64, id: SourceId, source: SourceState) {
        self.waiting.push_back((end, id, source));
    }

    /// The file says everything of what lies before it.
    pub(super) fn kept_until(&self) -> u64 {
        self.kept
    }

    /// What [`take`](Self::take) gave is on disk.
    pub(super) fn keep(&mut self) {
        self.kept = self.taken;
    }

    /// Every sink has everything before `floor`.
    pub(super) fn advance(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.is_changed |= self.taken < self.floor;
        while let Some((_, id, source)) = self.waiting.pop_front_if(|(end, ..)| *end <= floor) {
            self.state.next_source = self.state.next_source.max(id.0.saturating_add(1));
            self.state.sources.insert(id, source);
            self.is_changed = true;
        }
    }

    /// The source is forgotten.
    pub(super) fn forget(&mut self, id: SourceId) {
        self.state.forget(id);
        self.is_changed = true;
    }

    /// When the file is to be written next, seen from `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.is_changed.then(|| self.written.map_or(now, |written| written + WRITTEN_EVERY))
    }

    /// What the file is to hold, and where it is; nothing when it holds that already.
    pub(super) fn take(&mut self) -> Option<(PathBuf, Vec<u8>)> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        self.written = Some(Instant::now());
        self.taken = self.floor;
        let file = CursorFile { version: VERSION, state: self.state.clone() };
        let bytes = serde_json::to_vec(&file).unwrap_or_default();
        Some((self.path.clone(), bytes))
    }
}

/// Writes the file; whether it is on disk. A full disk is no reason to stop: what is not written is read and delivered again.
pub(super) fn write(path: &Path, bytes: &[u8]) -> bool {
    let written = durable::write(path, bytes, FILE_MODE);
    if let Err(error) = &written {
        let error = chores_common::exit::chain(error);
        tracing::warn!(%error, "how far the sources were read is not kept");
    }
    written.is_ok()
}
