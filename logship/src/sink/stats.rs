//! What a sink did so far, for metrics and for whoever asks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of one sink. Written by its thread, read by anybody.
#[derive(Debug, Default)]
pub struct SinkStats {
    records: AtomicU64,
    bytes: AtomicU64,
    deliveries: AtomicU64,
    retries: AtomicU64,
    failures: AtomicU64,
    dropped: AtomicU64,
    gaps: AtomicU64,
    skipped: AtomicU64,
    delivered_ts: AtomicI64,
    lag_bytes: AtomicU64,
    failing: Mutex<Option<Failing>>,
}

/// What a sink suffers from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when, in nanoseconds since 1970.
    pub since: i64,
    /// The last failure, one sentence.
    pub error: String,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkReport {
    /// Records delivered, those that were dropped not among them.
    pub records: u64,
    /// Bytes sent, as they were on the wire.
    pub bytes: u64,
    /// Batches delivered.
    pub deliveries: u64,
    /// Attempts after the first of a batch.
    pub retries: u64,
    /// Failed attempts.
    pub failures: u64,
    /// Records the peer refused for good, given up because the settings allow it.
    pub dropped: u64,
    /// Holes in what it got: what the peer refused, and what was taken away because the sink fell behind its bound.
    pub gaps: u64,
    /// Records it did not get because it fell behind its bound, as far as they could be counted.
    pub skipped: u64,
    /// Time of the youngest record delivered, in nanoseconds since 1970; 0 before the first.
    pub delivered_ts: i64,
    /// Bytes of the log that are not delivered yet.
    pub lag_bytes: u64,
    /// Whether the last attempt failed, and how.
    pub failing: Option<Failing>,
}

impl SinkStats {
    /// All counters.
    #[must_use]
    pub fn report(&self) -> SinkReport {
        SinkReport {
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            deliveries: self.deliveries.load(Relaxed),
            retries: self.retries.load(Relaxed),
            failures: self.failures.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            delivered_ts: self.delivered_ts.load(Relaxed),
            lag_bytes: self.lag_bytes.load(Relaxed),
            failing: self.lock().clone(),
        }
    }

    /// A batch arrived.
    pub fn delivered(&self, records: u64, bytes: u64, ts: i64) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.deliveries.fetch_add(1, Relaxed);
        self.delivered_ts.fetch_max(ts, Relaxed);
    }

    /// Records were given up.
    pub fn dropped(&self, records: u64) {
        self.dropped.fetch_add(records, Relaxed);
    }

    /// The ledger has holes that are this sink's alone.
    pub fn gaps(&self, gaps: u64) {
        self.gaps.fetch_add(gaps, Relaxed);
    }

    /// Records were taken away before they were delivered.
    pub fn skipped(&self, records: u64) {
        self.skipped.fetch_add(records, Relaxed);
    }

    /// Another attempt begins.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// How much is still to come.
    pub fn lag(&self, bytes: u64) {
        self.lag_bytes.store(bytes, Relaxed);
    }

    /// An attempt failed; whether the one before it had not.
    #[must_use]
    pub fn failed(&self, now: i64, error: String) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let mut failing = self.lock();
        let is_new = failing.is_none();
        let since = failing.as_ref().map_or(now, |failing| failing.since);
        *failing = Some(Failing { since, error });
        is_new
    }

    /// An attempt succeeded; what it suffered from until then.
    pub fn works(&self) -> Option<Failing> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
