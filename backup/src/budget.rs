//! What `--memory` has room for: every buffer that may be alive at once is counted here.
//!
//! What grows with the repository is not: 32 bytes for each chunk of the index, beyond the first million.

use crate::pack::{FRAME_BYTES_MAX, PACK_SLACK_BYTES, PACK_TARGET_BYTES};

#[cfg(test)]
mod tests;

/// The least that works, in bytes.
pub const BYTES_MIN: u64 = 64 << 20;

/// What everything but packs takes, in bytes: the program, the tree, the walk, caches, and the index of a million chunks.
const BASE_BYTES: u64 = 40 << 20;

/// What of it is there however little is stored.
const BASE_BYTES_MIN: u64 = 24 << 20;

/// A thread that compresses, in bytes: its read buffer, two frames in the making and as they are stored, the compressor's context.
const BYTES_OF_COMPRESSING: u64 = 6 << 20;

/// The packs that are being filled, in bytes: see `create/packer`.
const BYTES_OF_OPEN_PACKS: u64 = 22 << 20;

/// A pack that is on its way, or whose memory is kept for the next one, in bytes. It is encrypted where it lies.
const BYTES_PER_PACK: u64 = (PACK_TARGET_BYTES + PACK_SLACK_BYTES) as u64;

/// Packs on their way at once at the most.
const UPLOADS_MAX: u64 = 8;

/// What a thread of a restore has fetched, in bytes, and a decoded frame.
const BYTES_OF_FETCH: u64 = 5 << 20;

/// How much memory there is, and how many threads there would be without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
    threads: usize,
}

impl Budget {
    /// Of what reads and stores nothing.
    pub const LEAST: Self = Self { bytes: BYTES_MIN, threads: 1 };

    /// `None`: it is less than [`BYTES_MIN`].
    #[must_use]
    pub fn new(bytes: u64, threads: usize) -> Option<Self> {
        (bytes >= BYTES_MIN).then_some(Self { bytes, threads })
    }

    /// Threads that read and compress.
    #[must_use]
    pub fn compressing(self) -> usize {
        let others = BASE_BYTES + BYTES_OF_OPEN_PACKS + BYTES_PER_PACK;
        self.threads_of(others, BYTES_OF_COMPRESSING)
    }

    /// Packs on their way at once.
    #[must_use]
    pub fn uploads(self) -> usize {
        let compressing = BYTES_OF_COMPRESSING * self.compressing() as u64;
        let left = self.bytes.saturating_sub(BASE_BYTES + BYTES_OF_OPEN_PACKS + compressing);
        usize_of((left / BYTES_PER_PACK).clamp(1, UPLOADS_MAX))
    }

    /// Threads that read parts of packs. What is encrypted is in memory as it is stored too.
    #[must_use]
    pub fn reading(self, is_encrypted: bool) -> usize {
        let each = copies(is_encrypted) * BYTES_OF_FETCH + FRAME_BYTES_MAX as u64;
        self.threads_of(BASE_BYTES, each)
    }

    /// Threads that read whole packs.
    #[must_use]
    pub fn reading_packs(self, is_encrypted: bool) -> usize {
        let each = copies(is_encrypted) * BYTES_PER_PACK + FRAME_BYTES_MAX as u64;
        self.threads_of(BASE_BYTES_MIN, each)
    }

    /// Threads that have room beside `others`, with `each` bytes for each; one at least, and no more than there are.
    fn threads_of(self, others: u64, each: u64) -> usize {
        let room = self.bytes.saturating_sub(others) / each;
        usize_of(room.max(1)).min(self.threads)
    }
}

/// How often what was fetched is in memory.
fn copies(is_encrypted: bool) -> u64 {
    1 + u64::from(is_encrypted)
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
