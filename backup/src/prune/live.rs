//! What of all that is stored the trees of snapshots need.

use std::collections::{BTreeSet, HashSet};

use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::chunk::{ChunkId, InvalidId};
use crate::entry::{Entry, Extent, Kind, Line};
use crate::index::{ChunkSet, Index};
use crate::reader::{ChunkReader, ReadError};
use crate::repository::Repository;
use crate::snapshot::{Snapshot, SnapshotId, SnapshotName, TreeRoot};
use crate::tree::{DEPTH_MAX, TreeError, parse_ids};

use super::PruneError;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The chunks that are needed.
    pub(super) live: ChunkSet,
    /// Snapshots whose tree was read to its end: of the others it is not known what they need.
    pub(super) read: BTreeSet<SnapshotId>,
}

/// Reads the trees of all snapshots, and each piece of them once.
pub(super) fn find(
    repository: &Repository,
    index: &Index,
    snapshots: &[(SnapshotName, Snapshot)],
    beat: &dyn Fn(),
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<Found, PruneError> {
    let mut walk = Walk {
        index,
        reader: ChunkReader::new(repository, index).map_err(PruneError::Read)?,
        live: ChunkSet::none_of(index.chunk_count()),
        seen: HashSet::new(),
        shutdown,
    };
    let mut read = BTreeSet::new();
    for (name, snapshot) in snapshots {
        match walk.tree(&snapshot.tree) {
            Ok(()) => {
                read.insert(name.id);
            }
            Err(Stop::Interrupted) => return Err(PruneError::Interrupted(0)),
            Err(Stop::Tree(TreeError::Piece(error))) if !error.is_damage() => {
                return Err(PruneError::Read(error));
            }
            Err(Stop::Tree(error)) => {
                tracing::warn!(
                    "what snapshot {} needs is left where it is: {}",
                    name.id.short(),
                    chain(&error)
                );
                // Below what it shares with others something was left out.
                walk.seen.clear();
            }
        }
        progress.add_files(1);
        beat();
    }
    Ok(Found { live: walk.live, read })
}

enum Stop {
    Tree(TreeError<ReadError>),
    Interrupted,
}

struct Walk<'a> {
    index: &'a Index,
    reader: ChunkReader<'a>,
    live: ChunkSet,
    /// Pieces that were read, and how far above the lines.
    seen: HashSet<(u8, ChunkId)>,
    shutdown: &'a Shutdown,
}

impl Walk<'_> {
    fn tree(&mut self, root: &TreeRoot) -> Result<(), Stop> {
        let damaged = |what| Stop::Tree(TreeError::Format(what));
        if root.depth > DEPTH_MAX {
            return Err(damaged("it has more levels than any tree may"));
        }
        let mut open = vec![(root.depth, root.root)];
        while let Some((level, id)) = open.pop() {
            if !self.seen.insert((level, id)) {
                continue;
            }
            if self.shutdown.is_requested() {
                return Err(Stop::Interrupted);
            }
            self.add(&id)?;
            let piece = self.reader.chunk(&id).map_err(|e| Stop::Tree(TreeError::Piece(e)))?;
            let Some(below) = level.checked_sub(1) else {
                let ids = chunks_of(piece).map_err(Stop::Tree)?;
                ids.iter().try_for_each(|id| self.add(id))?;
                continue;
            };
            let ids = parse_ids(piece).map_err(|InvalidId| damaged("a list holds no ids"))?;
            // In the order in which they lie in their frames.
            open.extend(ids.into_iter().rev().map(|id| (below, id)));
        }
        Ok(())
    }

    fn add(&mut self, id: &ChunkId) -> Result<(), Stop> {
        let missing = || Stop::Tree(TreeError::Piece(ReadError::Missing(*id)));
        self.live.add(self.index.position(id).ok_or_else(missing)?);
        Ok(())
    }
}

/// The content of all files of a piece of lines.
fn chunks_of(piece: &[u8]) -> Result<Vec<ChunkId>, TreeError<ReadError>> {
    if piece.last().is_some_and(|last| *last != b'\n') {
        return Err(TreeError::Format("a piece ends inside a line"));
    }
    let mut found = Vec::new();
    let mut take = |extents: &[Extent]| {
        found.extend(extents.iter().filter_map(|extent| match extent {
            Extent::Chunk(id) => Some(*id),
            Extent::Hole(_) => None,
        }));
    };
    for line in piece.split_inclusive(|byte| *byte == b'\n') {
        match Line::parse(line).map_err(TreeError::Line)? {
            Line::Entry(Entry { kind: Kind::File(content), .. }) => take(&content.extents),
            Line::Entry(_) => {}
            Line::More(extents) => take(&extents),
        }
    }
    Ok(found)
}
