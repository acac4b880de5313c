//! One regular file to segments of chunks, by one thread or several at once.
//!
//! A segment is read and cut under the file's own lock, which is short work; naming, compressing and
//! storing it happen outside. So one huge file keeps every thread busy, and a small one costs nothing extra.

use std::sync::{Mutex, PoisonError};

use crate::chunk::Cutter;
use crate::entry::Extent;
use crate::source_file::{OpenSource, SourceError};

/// How much of a file is read at once, in bytes. One reused buffer of this size reads two to three times
/// faster than a growing one, and larger ones gain nothing.
const SEGMENT_BYTES: usize = 1 << 20;

/// A file that is being read. Exactly the size it had when it was opened is read: what grows later belongs
/// to the next backup, what is missing is recorded as a hole.
#[derive(Debug)]
pub(super) struct FileReader {
    source: OpenSource,
    size: u64,
    whole: bool,
    state: Mutex<ReadState>,
}

#[derive(Debug)]
struct ReadState {
    position: u64,
    /// End of the range of data `position` is in; equal to it between ranges.
    range_end: u64,
    /// Read but not cut yet, because the next chunk may go on behind it.
    carry: Vec<u8>,
    next_order: usize,
    ended: bool,
    cut_short: bool,
}

/// What one call of [`FileReader::next_segment`] gives, in file order: a hole, chunks, a hole.
#[derive(Debug)]
pub(super) struct Segment {
    /// Position among the segments of the file.
    pub(super) order: usize,
    hole_before: u64,
    /// Lengths of the chunks at the start of the buffer.
    pub(super) chunks: Vec<usize>,
    hole_after: u64,
}

impl Segment {
    /// The extents of this segment, given those of its chunks.
    pub(super) fn extents(&self, chunks: impl IntoIterator<Item = Extent>) -> Vec<Extent> {
        let hole = |length| (length > 0).then_some(Extent::Hole(length));
        hole(self.hole_before).into_iter().chain(chunks).chain(hole(self.hole_after)).collect()
    }
}

/// A reused buffer of the size [`FileReader::next_segment`] needs.
pub(super) fn buffer(cutter: &Cutter) -> Vec<u8> {
    vec![0; SEGMENT_BYTES + cutter.max_bytes()]
}

impl FileReader {
    pub(super) fn new(source: OpenSource, cutter: &Cutter) -> Self {
        let size = source.stat().size;
        let state = ReadState {
            position: 0,
            range_end: 0,
            carry: Vec::new(),
            next_order: 0,
            ended: size == 0,
            cut_short: false,
        };
        Self { whole: cutter.is_whole(size), size, source, state: Mutex::new(state) }
    }

    pub(super) fn source(&self) -> &OpenSource {
        &self.source
    }

    /// Whether nothing is left to read.
    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether what was read is a mixture: the file was shortened, or has other times now.
    pub(super) fn is_torn(&self) -> bool {
        let before = self.source.stat();
        let same = self.source.stat_now().is_ok_and(|now| {
            (now.size, now.mtime, now.ctime) == (before.size, before.mtime, before.ctime)
        });
        !same || self.lock().cut_short
    }

    /// Reads on into `buffer` (of [`buffer`]) and finds the chunks in it.
    pub(super) fn next_segment(
        &self,
        cutter: &Cutter,
        buffer: &mut [u8],
    ) -> Result<Option<Segment>, SourceError> {
        let mut state = self.lock();
        if state.ended {
            return Ok(None);
        }
        let mut segment =
            Segment { order: state.next_order, hole_before: 0, chunks: Vec::new(), hole_after: 0 };
        state.next_order += 1;
        if state.position == state.range_end {
            let Some((start, length)) = self.source.data_range_from(state.position, self.size)
            else {
                segment.hole_before = self.size - state.position;
                state.ended = true;
                return Ok(Some(segment));
            };
            segment.hole_before = start - state.position;
            state.position = start;
            state.range_end = start + length;
        }
        let carried = state.carry.len();
        let left = usize::try_from(state.range_end - state.position).unwrap_or(usize::MAX);
        let wanted = left.min(SEGMENT_BYTES);
        let Some((head, tail)) = buffer.split_at_mut_checked(carried) else { return Ok(None) };
        head.copy_from_slice(&state.carry);
        state.carry.clear();
        let room = tail.get_mut(..wanted).unwrap_or_default();
        let read = match self.source.read_at(room, state.position) {
            Ok(read) => read,
            Err(error) => {
                state.ended = true;
                return Err(error);
            }
        };
        state.position += read as u64;
        if read < wanted {
            segment.hole_after = self.size - state.position;
            state.cut_short = true;
            state.ended = true;
        } else if state.position == self.size {
            state.ended = true;
        }
        let range_ends = state.ended || state.position == state.range_end;
        let mut rest = buffer.get(..carried + read).unwrap_or_default();
        while let Some(length) = if self.whole {
            (!rest.is_empty()).then_some(rest.len())
        } else {
            cutter.next_cut(rest, range_ends)
        } {
            segment.chunks.push(length);
            rest = rest.get(length..).unwrap_or_default();
        }
        state.carry.extend_from_slice(rest);
        Ok(Some(segment))
    }

    /// Stops reading; other threads find nothing left.
    pub(super) fn abandon(&self) {
        self.lock().ended = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ReadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
