//! Which pieces of a file a read needs: pieces lie one behind the other, and only their lengths say where.

use std::ops::Range;

/// Of every so many pieces the offset of one is kept: 1/64 of what all would take, and as many steps at the most.
const STRIDE: usize = 64;

/// Where the pieces of one file lie in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Offset in bytes of every [`STRIDE`]-th piece.
    marks: Vec<u64>,
    /// How many pieces there are.
    count: usize,
    /// Their length together, in bytes.
    end: u64,
}

/// A part of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The number of the piece.
    pub(crate) piece: usize,
    /// Offset of the part in the file, in bytes.
    pub(crate) at: u64,
    /// Offset of the part in the piece, in bytes.
    pub(crate) from: u64,
    /// Length of the part in bytes, never 0.
    pub(crate) length: u64,
}

impl Layout {
    /// Pieces of these lengths, in file order.
    pub(crate) fn new(lengths: impl IntoIterator<Item = u64>) -> Self {
        let mut layout = Self::default();
        for length in lengths {
            if layout.count.is_multiple_of(STRIDE) {
                layout.marks.push(layout.end);
            }
            layout.count += 1;
            // What is longer than that is not as long as its file either.
            layout.end = layout.end.saturating_add(length);
        }
        layout
    }

    /// The length of all pieces together, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The parts that make up `range`, in file order, as far as there are pieces. `length_of` gives the lengths again that
    /// this was made from.
    pub(crate) fn parts(
        &self,
        range: Range<u64>,
        length_of: impl Fn(usize) -> u64,
    ) -> impl Iterator<Item = Part> {
        let first = self.marks.partition_point(|mark| *mark <= range.start).saturating_sub(1);
        let mut at = self.marks.get(first).copied().unwrap_or(0);
        let pieces = first * STRIDE..self.count;
        let whole = pieces.map(move |piece| {
            let start = at;
            at = at.saturating_add(length_of(piece));
            (piece, start, at)
        });
        let end = range.end;
        whole.take_while(move |(_, start, _)| *start < end).filter_map(
            move |(piece, start, after)| {
                let from = range.start.max(start);
                let length = after.min(end).checked_sub(from).filter(|length| *length > 0)?;
                Some(Part { piece, at: from, from: from - start, length })
            },
        )
    }

    /// Where data begins at or behind `offset` (lseek(2), `SEEK_DATA`); `None` where there is none.
    pub(crate) fn data(
        &self,
        offset: u64,
        length_of: impl Fn(usize) -> u64,
        is_hole: impl Fn(usize) -> bool,
    ) -> Option<u64> {
        let mut parts = self.parts(offset..self.end, length_of);
        parts.find(|part| !is_hole(part.piece)).map(|part| part.at)
    }

    /// Where a hole begins at or behind `offset`, of which there is one behind the end (`SEEK_HOLE`); `None` behind the end.
    pub(crate) fn hole(
        &self,
        offset: u64,
        length_of: impl Fn(usize) -> u64,
        is_hole: impl Fn(usize) -> bool,
    ) -> Option<u64> {
        let mut parts = self.parts(offset..self.end, length_of);
        let found = parts.find(|part| is_hole(part.piece)).map(|part| part.at);
        (offset < self.end).then(|| found.unwrap_or(self.end))
    }
}

#[cfg(test)]
mod tests;
