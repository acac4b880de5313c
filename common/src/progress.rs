//! What a long run has done so far, for a terminal, a log or a machine.
//!
//! The working side is `Progress`: counters that any thread adds to without a lock. The showing
//! side is `Reporter`: one thread that reads them.

mod reporter;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use reporter::{Output, Reporter};
pub use text::size as size_text;

#[cfg(test)]
mod tests;

/// The counters of one run. Cloning is cheap; clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    files: AtomicU64,
    bytes: AtomicU64,
    bytes_stored: AtomicU64,
    /// 0 while unknown.
    files_total: AtomicU64,
    /// 0 while unknown.
    bytes_total: AtomicU64,
}

/// The counters at one moment. They are read one after the other, so they may be a little apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Files done.
    pub files: u64,
    /// Bytes of their content done, before deduplication and compression.
    pub bytes: u64,
    /// Bytes written to the store, or to the disk by a restore.
    pub bytes_stored: u64,
    /// Files to do, once known.
    pub files_total: Option<u64>,
    /// Bytes to do, once known.
    pub bytes_total: Option<u64>,
}

impl Progress {
    /// All counters at 0, the totals unknown.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many more files are done.
    pub fn add_files(&self, files: u64) {
        self.counters.files.fetch_add(files, Ordering::Relaxed);
    }

    /// So many more bytes of content are done.
    pub fn add_bytes(&self, bytes: u64) {
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more bytes are written.
    pub fn add_bytes_stored(&self, bytes: u64) {
        self.counters.bytes_stored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How much there is to do. May be called again when more is found.
    pub fn set_totals(&self, files: u64, bytes: u64) {
        self.counters.files_total.store(files, Ordering::Relaxed);
        self.counters.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let known = |counter: &AtomicU64| Some(read(counter)).filter(|total| *total > 0);
        Snapshot {
            files: read(&self.counters.files),
            bytes: read(&self.counters.bytes),
            bytes_stored: read(&self.counters.bytes_stored),
            files_total: known(&self.counters.files_total),
            bytes_total: known(&self.counters.bytes_total),
        }
    }
}

impl Snapshot {
    /// Bytes per second, on average since the start.
    pub fn rate(&self, elapsed: Duration) -> u64 {
        let milliseconds = elapsed.as_millis().max(1);
        u64::try_from(u128::from(self.bytes) * 1000 / milliseconds).unwrap_or(u64::MAX)
    }

    /// The time left at the average rate, when the total and a rate are known.
    pub fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.bytes_total?.saturating_sub(self.bytes);
        let rate = self.rate(elapsed);
        (rate > 0).then(|| Duration::from_secs(left / rate))
    }
}
