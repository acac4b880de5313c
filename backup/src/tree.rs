//! Entry lines to chunks and back.
//!
//! All lines of a snapshot, in tree order, are one text. It is cut at line ends into small
//! content-defined chunks, so a changed file rewrites a few KiB of tree; their ids, one hex line each, are
//! again such a text, and so on until one chunk is left: the root.

use crate::chunk::{ChunkId, InvalidId};
use crate::entry::{Entry, EntryError, Kind, LINE_BYTES_MAX, Line, tree_order};
use crate::snapshot::TreeRoot;

/// A tree chunk is not cut before it has this many bytes.
const PIECE_BYTES_MIN: usize = 4 << 10;

/// A tree chunk is cut when it reaches this many bytes; a single longer line is a chunk of its own.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// Between these bounds one line in sixteen ends a chunk, chosen by what does not change when only the
/// metadata of a path does.
const CUT_MASK: u64 = 0xf << 60;

/// Most levels of id lists a reader follows: 120^8 pieces are more than any store holds.
pub const DEPTH_MAX: u8 = 8;

/// Longest list line: 32 digits and the newline.
const ID_LINE_BYTES: usize = 33;

/// Where pieces of a tree go.
pub trait PieceSink {
    /// Why a piece could not be taken.
    type Error;

    /// Takes one piece and names it.
    fn piece(&mut self, content: &[u8]) -> Result<ChunkId, Self::Error>;
}

/// Where pieces of a tree come from.
pub trait PieceSource {
    /// Why a piece could not be had.
    type Error;

    /// Replaces the content of `into` by the piece called `id`.
    fn piece(&mut self, id: &ChunkId, into: &mut Vec<u8>) -> Result<(), Self::Error>;
}

/// Cuts lines into pieces, level over level.
#[derive(Debug, Default)]
pub struct TreeWriter {
    /// From the entry lines upwards; each level is the list of the pieces of the one before.
    levels: Vec<Level>,
    entries: u64,
}

#[derive(Debug, Default)]
struct Level {
    pending: Vec<u8>,
    pieces: u64,
    last: Option<ChunkId>,
}

impl TreeWriter {
    /// Counts one entry; its lines follow by [`Self::line`].
    pub fn begin_entry(&mut self) {
        self.entries += 1;
    }

    /// Appends a line (newline included, at most [`LINE_BYTES_MAX`]); `cut_key` are the bytes that decide
    /// whether a piece may end behind it: the path, or the first id of a `more` line.
    pub fn line<S: PieceSink>(
        &mut self,
        line: &[u8],
        cut_key: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        self.append(0, line, cut_key, sink)
    }

    /// Writes what is pending and returns the root.
    pub fn finish<S: PieceSink>(mut self, sink: &mut S) -> Result<TreeRoot, S::Error> {
        let mut depth = 0;
        loop {
            let (pieces, pending) = self
                .levels
                .get(depth)
                .map_or((0, false), |level| (level.pieces, !level.pending.is_empty()));
            if pieces == 0 || pending {
                self.cut(depth, sink)?;
            }
            match self.levels.get(depth) {
                // One piece holds the whole level; the list above it, of one id, is not needed.
                Some(Level { pieces: 1, last: Some(root), .. }) => {
                    let depth = u8::try_from(depth).unwrap_or(u8::MAX);
                    return Ok(TreeRoot { root: *root, depth, entries: self.entries });
                }
                _ => depth += 1,
            }
        }
    }

    fn append<S: PieceSink>(
        &mut self,
        level: usize,
        line: &[u8],
        cut_key: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let pending = self.pending_of(level);
        if !pending.is_empty() && pending.len() + line.len() > LINE_BYTES_MAX {
            self.cut(level, sink)?;
        }
        let pending = self.pending_of(level);
        pending.extend_from_slice(line);
        let full = pending.len() >= PIECE_BYTES_MAX;
        if full || (pending.len() >= PIECE_BYTES_MIN && is_cut(cut_key)) {
            self.cut(level, sink)?;
        }
        Ok(())
    }

    fn pending_of(&mut self, level: usize) -> &mut Vec<u8> {
        &mut self.level(level).pending
    }

    #[expect(clippy::indexing_slicing, reason = "the levels up to this one were made just before")]
    fn level(&mut self, level: usize) -> &mut Level {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Level::default);
        }
        &mut self.levels[level]
    }

    fn cut<S: PieceSink>(&mut self, level: usize, sink: &mut S) -> Result<(), S::Error> {
        let content = std::mem::take(self.pending_of(level));
        let id = sink.piece(&content)?;
        let this = self.level(level);
        this.pieces += 1;
        this.last = Some(id);
        this.pending = content;
        this.pending.clear();
        self.append(level + 1, format!("{id}\n").as_bytes(), &id.0, sink)
    }
}

fn is_cut(key: &[u8]) -> bool {
    // FNV-1a; its high bits are well mixed, and whoever reads the tree never needs to know.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) & CUT_MASK == 0
}

/// Why a tree cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E: std::error::Error + 'static> {
    /// A piece could not be had.
    #[error("a piece of the tree cannot be read")]
    Piece(#[source] E),
    /// A line is not an entry.
    #[error("the tree is damaged")]
    Line(#[source] EntryError),
    /// The lines contradict each other or the snapshot.
    #[error("the tree is damaged: {0}")]
    Format(&'static str),
}

/// Reads the entries of a tree in order. Ends after the first error.
#[derive(Debug)]
pub struct TreeReader<S> {
    source: S,
    /// Ids still to be visited, one list a level.
    lists: Vec<std::vec::IntoIter<ChunkId>>,
    depth: usize,
    piece: Vec<u8>,
    /// How much of `piece` has been parsed.
    parsed: usize,
    /// The entry whose `more` lines may still follow.
    open: Option<Entry>,
    /// The last path, and whether it is a directory.
    last: Option<(Vec<u8>, bool)>,
    entries_left: u64,
    state: ReadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Reading,
    TooDeep,
    Ended,
}

impl<S: PieceSource> TreeReader<S>
where
    S::Error: std::error::Error + 'static,
{
    /// Starts at `root`.
    #[must_use]
    pub fn new(root: &TreeRoot, source: S) -> Self {
        Self {
            source,
            lists: vec![vec![root.root].into_iter()],
            depth: usize::from(root.depth.min(DEPTH_MAX)),
            piece: Vec::new(),
            parsed: 0,
            open: None,
            last: None,
            entries_left: root.entries,
            state: if root.depth > DEPTH_MAX { ReadState::TooDeep } else { ReadState::Reading },
        }
    }

    /// The next entry with its whole content list, `None` behind the last.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TreeError<S::Error>> {
        let next = match self.state {
            ReadState::Reading => self.read_entry(),
            ReadState::TooDeep => Err(TreeError::Format("it has more levels than any tree may")),
            ReadState::Ended => Ok(None),
        };
        if !matches!(next, Ok(Some(_))) {
            self.state = ReadState::Ended;
        }
        next
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, TreeError<S::Error>> {
        loop {
            let Some(line) = self.next_line()? else {
                if self.entries_left > 0 {
                    return Err(TreeError::Format("entries are missing at its end"));
                }
                break;
            };
            match line {
                Line::Entry(entry) => {
                    self.admit(&entry)?;
                    if let Some(whole) = self.open.replace(entry) {
                        return Ok(Some(whole));
                    }
                }
                Line::More(more) => match &mut self.open {
                    Some(Entry { kind: Kind::File(content), .. }) => content.extents.extend(more),
                    _ => return Err(TreeError::Format("content follows what is no file")),
                },
            }
        }
        Ok(self.open.take())
    }

    /// Paths must rise, lie below nothing but directories, and be linked to earlier ones only: otherwise
    /// a crafted tree could write through what it made before.
    fn admit(&mut self, entry: &Entry) -> Result<(), TreeError<S::Error>> {
        if let Some((last, is_directory)) = &self.last {
            if !tree_order(last, &entry.path).is_lt() {
                return Err(TreeError::Format("its paths are not in order"));
            }
            let below = entry.path.strip_prefix(last.as_slice());
            let is_below = below.is_some_and(|rest| last.is_empty() || rest.starts_with(b"/"));
            if is_below && !is_directory {
                return Err(TreeError::Format("a path lies below what is no directory"));
            }
        }
        let is_directory = entry.kind == Kind::Directory;
        let links_forward = entry
            .hardlink_of
            .as_deref()
            .is_some_and(|first| is_directory || !tree_order(first, &entry.path).is_lt());
        if links_forward {
            return Err(TreeError::Format("a further name comes before its first"));
        }
        self.entries_left = self
            .entries_left
            .checked_sub(1)
            .ok_or(TreeError::Format("it has more entries than its snapshot says"))?;
        self.last = Some((entry.path.clone(), is_directory));
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<Line>, TreeError<S::Error>> {
        loop {
            let rest = self.piece.get(self.parsed..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.get(..end).unwrap_or_default();
                let parsed = Line::parse(line).map_err(TreeError::Line)?;
                self.parsed += end + 1;
                return Ok(Some(parsed));
            }
            if !rest.is_empty() {
                return Err(TreeError::Format("a piece ends inside a line"));
            }
            if !self.next_piece()? {
                return Ok(None);
            }
        }
    }

    /// Loads the next piece of entry lines; false behind the last.
    fn next_piece(&mut self) -> Result<bool, TreeError<S::Error>> {
        while let Some(list) = self.lists.last_mut() {
            let Some(id) = list.next() else {
                self.lists.pop();
                continue;
            };
            self.parsed = 0;
            self.source.piece(&id, &mut self.piece).map_err(TreeError::Piece)?;
            // Or a few lists that repeat one id could keep a reader busy for ever.
            if self.piece.is_empty() && self.depth > 0 {
                return Err(TreeError::Format("a piece of a longer list is empty"));
            }
            if self.lists.len() > self.depth {
                return Ok(true);
            }
            let ids = parse_ids(&self.piece)
                .map_err(|InvalidId| TreeError::Format("a list holds no ids"))?;
            self.lists.push(ids.into_iter());
        }
        self.piece.clear();
        self.parsed = 0;
        Ok(false)
    }
}

/// The ids of a list piece, one a line.
pub fn parse_ids(piece: &[u8]) -> Result<Vec<ChunkId>, InvalidId> {
    if !piece.len().is_multiple_of(ID_LINE_BYTES) {
        return Err(InvalidId);
    }
    let lines = piece.as_chunks::<ID_LINE_BYTES>().0.iter();
    lines
        .map(|line| match line.split_last() {
            Some((b'\n', digits)) => std::str::from_utf8(digits).map_err(|_| InvalidId)?.parse(),
            _ => Err(InvalidId),
        })
        .collect()
}

#[cfg(test)]
mod tests;
