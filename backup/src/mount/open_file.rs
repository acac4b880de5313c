//! A file of a snapshot that somebody reads.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::ahead::Ahead;
use super::layout::{Layout, Part};
use super::table::Piece;
use super::trees::Tree;
use crate::chunk::ChunkId;
use crate::index::Index;

/// A file, and where its pieces lie in it. It does not hold the entries of its snapshot in memory: whoever asks it something
/// brings them.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The number of its snapshot.
    pub(crate) snapshot: u32,
    pub(crate) node: u32,
    /// Length in bytes.
    pub(crate) size: u64,
    /// As far as the lengths of its pieces are known.
    layout: Layout,
    /// The index by which `layout` was last found to be right.
    checked: Mutex<Weak<Index>>,
    ahead: Mutex<Ahead>,
}

impl OpenFile {
    /// The file with these numbers, which is `size` bytes long. `None`: its pieces do not add up to that.
    pub(crate) fn new(tree: &Tree, snapshot: u32, node: u32, size: u64) -> Option<Self> {
        let (layout, is_whole) = layout_of(tree, node);
        let is_sound = if is_whole { layout.end() == size } else { layout.end() <= size };
        let checked = Mutex::new(Arc::downgrade(&tree.index));
        is_sound.then(|| Self { snapshot, node, size, layout, checked, ahead: Mutex::default() })
    }

    /// Whether its pieces are as long by this tree as they were when it was opened: by another index one may have no length, and
    /// all behind it would be in the wrong place.
    pub(crate) fn fits(&self, tree: &Tree) -> bool {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let by = Arc::downgrade(&tree.index);
        if checked.ptr_eq(&by) {
            return true;
        }
        let fits = layout_of(tree, self.node).0 == self.layout;
        if fits {
            *checked = by;
        }
        fits
    }

    /// The parts that make up a range, as far as they are known.
    pub(crate) fn parts(&self, tree: &Tree, range: Range<u64>) -> impl Iterator<Item = Part> {
        self.layout.parts(range, move |piece| self.length(tree, piece))
    }

    /// A piece of it.
    pub(crate) fn piece(&self, tree: &Tree, piece: usize) -> Option<Piece> {
        tree.table.piece(&tree.index, self.node, piece)
    }

    /// The first chunk that no index knows, and the offset from which on nothing is known because of it.
    pub(crate) fn absent(&self, tree: &Tree) -> Option<(ChunkId, u64)> {
        let mut pieces = 0..tree.table.piece_count(self.node);
        let absent = pieces.find_map(|piece| match self.piece(tree, piece) {
            Some(Piece::Absent(id)) => Some(id),
            _ => None,
        });
        absent.map(|id| (id, self.layout.end()))
    }

    /// The chunks to be read ahead, now that somebody has read this range.
    pub(crate) fn ahead_of(&self, tree: &Tree, read: Range<u64>) -> Vec<ChunkId> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).after(read);
        let Some(ahead) = ahead else { return Vec::new() };
        let parts = self.parts(tree, ahead.start..ahead.end.min(self.size));
        let chunks = parts.filter_map(|part| match self.piece(tree, part.piece) {
            Some(Piece::Chunk(id, _)) => Some(id),
            _ => None,
        });
        chunks.collect()
    }

    /// Where data begins, at or behind `offset`.
    pub(crate) fn data(&self, tree: &Tree, offset: u64) -> Option<u64> {
        let length = |piece| self.length(tree, piece);
        self.layout.data(offset, length, |piece| self.is_hole(tree, piece))
    }

    /// Where a hole begins, at or behind `offset`; its end counts as one.
    pub(crate) fn hole(&self, tree: &Tree, offset: u64) -> Option<u64> {
        let length = |piece| self.length(tree, piece);
        self.layout.hole(offset, length, |piece| self.is_hole(tree, piece))
    }

    fn length(&self, tree: &Tree, piece: usize) -> u64 {
        match self.piece(tree, piece) {
            Some(Piece::Chunk(_, length) | Piece::Hole(length)) => length,
            Some(Piece::Absent(_)) | None => 0,
        }
    }

    fn is_hole(&self, tree: &Tree, piece: usize) -> bool {
        matches!(self.piece(tree, piece), Some(Piece::Hole(_)))
    }
}

/// Where the pieces of a file lie, up to the first that no index knows, and whether that is all of them.
fn layout_of(tree: &Tree, node: u32) -> (Layout, bool) {
    let mut is_whole = true;
    let pieces = 0..tree.table.piece_count(node);
    let lengths = pieces.map_while(|piece| match tree.table.piece(&tree.index, node, piece) {
        Some(Piece::Chunk(_, length) | Piece::Hole(length)) => Some(length),
        Some(Piece::Absent(_)) | None => {
            is_whole = false;
            None
        }
    });
    (Layout::new(lengths), is_whole)
}
