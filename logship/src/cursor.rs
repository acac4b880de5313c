//! How far a source was read. A cursor is written in the same frame as the lines before it, so "durable" and
//! "read" are one write.

pub mod api;

use serde::{Deserialize, Serialize};

use crate::record::Stream;

pub use api::ApiCursor;

/// How far a source was read, and what proves at the next start that it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cursor", rename_all = "lowercase")]
pub enum Cursor {
    /// A log file.
    File(FileCursor),
    /// The engine's own files of a container.
    Direct(DirectCursor),
    /// The engine's log API.
    Api(Box<ApiCursor>),
}

impl Cursor {
    /// Takes over what a later frame says. File positions replace each other; the memory of the API grows
    /// by what the frame adds to it.
    pub fn advance(&mut self, update: Self) {
        match (self, update) {
            (Self::Api(known), Self::Api(update)) => known.advance(*update),
            (known, update) => *known = update,
        }
    }
}

/// A file among all that ever were: an inode is used again, its birth time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileIdentity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `stx_btime` in nanoseconds since 1970; `None` where the file system has none.
    pub born: Option<i64>,
}

/// Hashes (XXH3, 64 bits) of what a file holds around its beginning and before an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContentProof {
    /// Bytes from the start that `head` is of: the smaller of 1 KiB and the offset.
    pub head_len: u32,
    /// Their hash.
    pub head: u64,
    /// Bytes before the offset that `tail` is of: the smaller of 4 KiB and the offset.
    pub tail_len: u32,
    /// Their hash.
    pub tail: u64,
}

/// Everything before `offset` was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCursor {
    /// Which file.
    pub file: FileIdentity,
    /// Bytes.
    pub offset: u64,
    /// Bytes that were taken from its beginning since it was made, by our own rotation: places before that are the
    /// sum of both.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: u64,
    /// What was there.
    pub proof: ContentProof,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Everything in files older than `at.file`, and everything before `at.offset` in it, was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectCursor {
    /// The file being read.
    pub at: FileCursor,
    /// The last line of each stream, in the order of the files, so that the API can go on from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<LastLine>,
}

/// The last message taken from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLine {
    /// Which stream.
    pub stream: Stream,
    /// The engine's time of it.
    pub ts: i64,
    /// XXH3 (64 bits) of its bytes as the engine gives them, line end included.
    pub hash: u64,
}
