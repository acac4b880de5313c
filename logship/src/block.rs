//! Records of one source that travel together: their text in one piece, and columns beside it.
//!
//! ```text
//! count u32 | layout u8 | flags u8 | zero u16 | lengths_len u32 | times_len u32 | text_len u32
//! lengths   a varint a record: bytes of its line, the line end not counted
//! times     LAYOUT_TIMES: a zigzag varint a record, nanoseconds since the record before (the first: since base)
//! flags     LAYOUT_FLAGS: a byte a record; otherwise the one of the header is everybody's
//! text      every line, each followed by a line feed
//! ```
//!
//! Numbers are little-endian; varints are LEB128. A sink that writes plain lines writes the text as it is.

use bytes::Bytes;

use crate::record::{Flags, Record};

#[cfg(test)]
mod tests;

/// A block is handed on when its text has this many bytes.
pub const BLOCK_TEXT_BYTES: usize = 256 << 10;

/// No block has more text than this, in bytes: a full one plus the longest record.
pub const BLOCK_TEXT_BYTES_MAX: usize = 8 << 20;

/// No block has more records than this.
pub const BLOCK_RECORDS_MAX: u32 = 1 << 20;

const HEADER_BYTES: usize = 20;
const LAYOUT_TIMES: u8 = 1;
const LAYOUT_FLAGS: u8 = 1 << 1;
const LAYOUT_UTF8: u8 = 1 << 2;
const LAYOUT_KNOWN: u8 = LAYOUT_TIMES | LAYOUT_FLAGS | LAYOUT_UTF8;

/// Bytes that are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the block is damaged: {0}")]
pub struct BlockError(&'static str);

/// Collects records into a block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    base_ts: i64,
    last_ts: i64,
    count: u32,
    first_flags: Flags,
    lengths: Vec<u8>,
    times: Vec<u8>,
    flags: Vec<u8>,
    has_times: bool,
    has_flags: bool,
    text: Vec<u8>,
}

impl BlockBuilder {
    /// Nothing was pushed since the last [`finish`](Self::finish).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of text so far.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Whether it is time to hand the block on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.text.len() >= BLOCK_TEXT_BYTES || self.count >= BLOCK_RECORDS_MAX / 2
    }

    /// One record; `line` without its line end.
    pub fn push(&mut self, ts: i64, flags: Flags, line: &[u8]) {
        self.note(ts, flags, 1);
        put_varint(&mut self.lengths, line.len() as u64);
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    /// Whole lines, each with its line feed, all of one time: what a file is read in. `bytes` ends with a
    /// line feed; what does not is left out by the caller.
    pub fn push_lines(&mut self, ts: i64, flags: Flags, bytes: &[u8]) {
        let before = self.lengths.len();
        let mut start = 0;
        let mut count = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            put_varint(&mut self.lengths, (end - start) as u64);
            start = end + 1;
            count += 1;
        }
        if count == 0 {
            self.lengths.truncate(before);
            return;
        }
        self.note(ts, flags, count);
        self.text.extend_from_slice(bytes.get(..start).unwrap_or_default());
    }

    /// Keeps times and flags of `count` more records; columns begin where the second value appears.
    fn note(&mut self, ts: i64, flags: Flags, count: u32) {
        if self.count == 0 {
            self.base_ts = ts;
            self.last_ts = ts;
            self.first_flags = flags;
        }
        if !self.has_times && ts != self.base_ts {
            self.has_times = true;
            self.times.resize(self.count as usize, 0);
        }
        if self.has_times {
            put_varint(&mut self.times, zigzag(ts.wrapping_sub(self.last_ts)));
            self.times.resize(self.times.len() + count as usize - 1, 0);
        }
        self.last_ts = ts;
        if !self.has_flags && flags != self.first_flags {
            self.has_flags = true;
            self.flags.resize(self.count as usize, self.first_flags.to_byte());
        }
        if self.has_flags {
            self.flags.resize(self.flags.len() + count as usize, flags.to_byte());
        }
        self.count += count;
    }

    /// The block of what was pushed; the builder is empty then and keeps its memory. `None` when nothing was.
    pub fn finish(&mut self) -> Option<Block> {
        if self.count == 0 {
            return None;
        }
        let is_utf8 = std::str::from_utf8(&self.text).is_ok();
        let layout = [
            (self.has_times, LAYOUT_TIMES),
            (self.has_flags, LAYOUT_FLAGS),
            (is_utf8, LAYOUT_UTF8),
        ];
        let layout = layout.iter().filter(|(set, _)| *set).fold(0, |sum, (_, bit)| sum | bit);
        let columns = self.lengths.len() + self.times.len() + self.flags.len();
        let mut body = Vec::with_capacity(HEADER_BYTES + columns + self.text.len());
        body.extend_from_slice(&self.count.to_le_bytes());
        body.extend_from_slice(&[layout, self.first_flags.to_byte(), 0, 0]);
        for column in [&self.lengths, &self.times, &self.text] {
            body.extend_from_slice(&u32::try_from(column.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        for column in [&mut self.lengths, &mut self.times, &mut self.flags, &mut self.text] {
            body.extend_from_slice(column);
            column.clear();
        }
        let block = Block { body: body.into(), base_ts: self.base_ts, last_ts: self.last_ts };
        self.count = 0;
        self.has_times = false;
        self.has_flags = false;
        Some(block)
    }
}

/// Records of one source in the order of their numbers. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    body: Bytes,
    base_ts: i64,
    last_ts: i64,
}

/// The parts of a body.
struct Parts<'a> {
    count: u32,
    layout: u8,
    common_flags: u8,
    lengths: &'a [u8],
    times: &'a [u8],
    flags: &'a [u8],
    text: &'a [u8],
}

impl Block {
    /// Reads a body, as [`body`](Self::body) gave it, and proves that every record of it can be read.
    pub fn decode(body: Bytes, base_ts: i64) -> Result<Self, BlockError> {
        let parts = split(&body)?;
        if parts.count == 0 || parts.count > BLOCK_RECORDS_MAX {
            return Err(BlockError("its number of records is out of range"));
        }
        let last_ts = prove(&parts, base_ts)?;
        Ok(Self { body, base_ts, last_ts })
    }

    /// The block as bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Time of the first record: not part of the body.
    #[must_use]
    pub fn base_ts(&self) -> i64 {
        self.base_ts
    }

    /// Time of the last record.
    #[must_use]
    pub fn last_ts(&self) -> i64 {
        self.last_ts
    }

    /// Number of records, at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        split(&self.body).map_or(0, |parts| parts.count)
    }

    /// Whether all of the text is UTF-8, so that no line has to be looked at.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        split(&self.body).is_ok_and(|parts| parts.layout & LAYOUT_UTF8 != 0)
    }

    /// Whether a record among them is a control record.
    #[must_use]
    pub fn has_control(&self) -> bool {
        let is_control = |byte: u8| Flags::from_byte(byte).is_some_and(Flags::is_control);
        split(&self.body).is_ok_and(|parts| match parts.layout & LAYOUT_FLAGS {
            0 => is_control(parts.common_flags),
            _ => parts.flags.iter().copied().any(is_control),
        })
    }

    /// Records whose flags are `wanted`.
    #[must_use]
    pub fn count_flags(&self, wanted: fn(Flags) -> bool) -> u32 {
        let is_wanted = |byte: u8| Flags::from_byte(byte).is_some_and(wanted);
        split(&self.body).map_or(0, |parts| match parts.layout & LAYOUT_FLAGS {
            0 if is_wanted(parts.common_flags) => parts.count,
            0 => 0,
            _ => parts.flags.iter().map(|byte| u32::from(is_wanted(*byte))).sum(),
        })
    }

    /// The flags of every record, when all have the same.
    #[must_use]
    pub fn uniform_flags(&self) -> Option<Flags> {
        let parts = split(&self.body).ok()?;
        match parts.layout & LAYOUT_FLAGS {
            0 => Flags::from_byte(parts.common_flags),
            _ => None,
        }
    }

    /// Every line followed by a line feed, control records included.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        split(&self.body).map_or(&[], |parts| parts.text)
    }

    /// The records in order.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        match split(&self.body) {
            Ok(parts) => Records { left: parts.count, ts: self.base_ts, parts },
            Err(_) => Records { left: 0, ts: 0, parts: EMPTY },
        }
    }
}

const EMPTY: Parts<'static> =
    Parts { count: 0, layout: 0, common_flags: 0, lengths: &[], times: &[], flags: &[], text: &[] };

/// Iterates over the records of a block.
pub struct Records<'a> {
    left: u32,
    ts: i64,
    parts: Parts<'a>,
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let parts = &mut self.parts;
        let length = usize::try_from(take_varint(&mut parts.lengths)?).ok()?;
        if parts.layout & LAYOUT_TIMES != 0 {
            self.ts = self.ts.wrapping_add(unzigzag(take_varint(&mut parts.times)?));
        }
        let flags = match parts.layout & LAYOUT_FLAGS {
            0 => parts.common_flags,
            _ => {
                let (first, rest) = parts.flags.split_first()?;
                parts.flags = rest;
                *first
            }
        };
        let line = parts.text.get(..length)?;
        parts.text = parts.text.get(length + 1..)?;
        Some(Record { ts: self.ts, flags: Flags::from_byte(flags)?, line })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

fn split(body: &[u8]) -> Result<Parts<'_>, BlockError> {
    const SHORT: BlockError = BlockError("it is shorter than it says");
    let (header, rest) = body.split_first_chunk::<HEADER_BYTES>().ok_or(SHORT)?;
    let number = |at: usize| -> Result<usize, BlockError> {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or(SHORT)?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| SHORT)
    };
    let [_, _, _, _, layout, common_flags, zero, zero_too, ..] = *header;
    if layout & !LAYOUT_KNOWN != 0 || zero != 0 || zero_too != 0 {
        return Err(BlockError("its layout is unknown"));
    }
    let count = number(0)?;
    let flags_len = if layout & LAYOUT_FLAGS == 0 { 0 } else { count };
    let mut rest = rest;
    let mut take = |length: usize| -> Result<&[u8], BlockError> {
        let (part, after) = rest.split_at_checked(length).ok_or(SHORT)?;
        rest = after;
        Ok(part)
    };
    let lengths = take(number(8)?)?;
    let times = take(number(12)?)?;
    let flags = take(flags_len)?;
    let text = take(number(16)?)?;
    if !rest.is_empty() {
        return Err(BlockError("there is more than it says"));
    }
    let count = u32::try_from(count).map_err(|_| SHORT)?;
    Ok(Parts { count, layout, common_flags, lengths, times, flags, text })
}

/// The time of the last record, after every column was found to be whole.
fn prove(parts: &Parts<'_>, base_ts: i64) -> Result<i64, BlockError> {
    let mut lengths = parts.lengths;
    let mut at = 0_usize;
    for _ in 0..parts.count {
        let length = take_varint(&mut lengths).ok_or(BlockError("a length is missing"))?;
        let length = usize::try_from(length).map_err(|_| BlockError("a length is too large"))?;
        at = at.checked_add(length).ok_or(BlockError("a length is too large"))?;
        if parts.text.get(at) != Some(&b'\n') {
            return Err(BlockError("a line does not end where it must"));
        }
        at += 1;
    }
    if at != parts.text.len() || !lengths.is_empty() {
        return Err(BlockError("lengths and text do not fit together"));
    }
    let mut ts = base_ts;
    let mut times = parts.times;
    if parts.layout & LAYOUT_TIMES != 0 {
        for _ in 0..parts.count {
            let delta = take_varint(&mut times).ok_or(BlockError("a time is missing"))?;
            ts = ts.wrapping_add(unzigzag(delta));
        }
    }
    if !times.is_empty() {
        return Err(BlockError("there are more times than records"));
    }
    let flags = parts.flags.iter().chain([&parts.common_flags]);
    if flags.copied().any(|byte| Flags::from_byte(byte).is_none()) {
        return Err(BlockError("a flag is unknown"));
    }
    if parts.layout & LAYOUT_UTF8 != 0 && std::str::from_utf8(parts.text).is_err() {
        return Err(BlockError("its text is not the UTF-8 it says it is"));
    }
    Ok(ts)
}

/// Small negative numbers as small ones.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// LEB128, as protocol buffers have it too.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The same read again; `None` when it ends too early or has too many bits.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
