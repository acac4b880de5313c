//! The write-ahead log: one copy of every record, many readers. `docs/logship-wal.md` has every byte.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::source::{SourceId, SourceMeta};

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
