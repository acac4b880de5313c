//! One message in a log file of the engine, in whichever format.

use std::ops::Range;

use crate::record::Stream;

use super::json_file::JsonFile;
use super::local::Local;

/// Longest message in a file, in bytes of the file: the engine cuts lines into pieces of 16 KiB, of which
/// escapes make six times as much.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// A message: a line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Nanoseconds since 1970. All pieces of a line have the time of the first one.
    pub ts: i64,
    /// Standard output or error.
    pub stream: Stream,
    /// Without the line feed.
    pub line: &'a [u8],
    /// Whether the line ends with it.
    pub ends_line: bool,
}

/// What is at the beginning of some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// A message, and the bytes it takes.
    Entry(Entry<'a>, usize),
    /// Bytes, at least one, that are no message.
    Corrupt(usize),
    /// The beginning of a message, or nothing.
    More,
}

/// How the engine writes a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line of JSON a message (driver `json-file`).
    JsonFile,
    /// Protocol buffers between their lengths (driver `local`, and the cache beside the drivers that cannot be
    /// read).
    Local,
}

/// Reads messages of a format.
#[derive(Debug)]
pub enum Decoder {
    /// See [`Format::JsonFile`].
    JsonFile(JsonFile),
    /// See [`Format::Local`].
    Local(Local),
}

impl Decoder {
    /// A decoder for `format`.
    #[must_use]
    pub fn new(format: Format) -> Self {
        match format {
            Format::JsonFile => Self::JsonFile(JsonFile::default()),
            Format::Local => Self::Local(Local),
        }
    }

    /// What `bytes` begin with. `is_end`: there will never be more of them.
    pub fn step<'a>(&'a mut self, bytes: &'a [u8], is_end: bool) -> Step<'a> {
        match self {
            Self::JsonFile(decoder) => decoder.step(bytes, is_end),
            Self::Local(decoder) => decoder.step(bytes, is_end),
        }
    }
}

/// What of `bytes` has the index range `range`; nothing when it is out of range.
pub(super) fn part(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}
