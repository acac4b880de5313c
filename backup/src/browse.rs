//! What a repository holds, for people and for machines: the commands that only read.
//!
//! Each writes to any `Write` (give it a buffer), as text or, with `json`, as JSON. Names come from whoever
//! filled the volume and from whoever wrote the snapshot, so text has control characters and bytes that
//! are not UTF-8 escaped: printed names cannot drive a terminal.

mod cat;
mod diff;
mod find;
mod list;
mod snapshots;
mod stats;
pub(crate) mod text;

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use crate::entry::{Entry, tree_order};
use crate::exclude::ExcludeError;
use crate::index::Index;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::{Repository, RepositoryError};
use crate::restore::select::{SelectError, Selection, is_inside, nothing_at};
use crate::snapshot::Snapshot;
use crate::tree::{TreeError, TreeReader};

pub use cat::{CatReport, cat};
pub use diff::{DiffOptions, DiffReport, Sum, diff};
pub use find::{FindOptions, FindReport, VERSIONS_MAX, find};
pub use list::{ListOptions, ls};
pub use snapshots::{SnapshotsOptions, SnapshotsReport, snapshots};
pub use stats::{KindStats, RepositoryStats, stats};

/// Most names of one directory that are kept.
const NAMES_MAX: usize = 100_000;

/// Why a question has no, or no whole, answer.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The snapshot does not have what was asked for.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The decoder could not be made.
    #[error("cannot read from the repository")]
    Read(#[source] ReadError),
    /// The tree cannot be read.
    #[error("the snapshot cannot be read to its end")]
    Tree(#[from] TreeError<ReadError>),
    /// Only files have content.
    #[error("{path} is a {kind}: only files have content, `backup ls` lists a directory")]
    NotAFile {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Content is damaged or not to be had; what was before it is written.
    #[error("{path} cannot be read on behind its first {offset} bytes")]
    Content {
        /// The file.
        path: String,
        /// How many bytes were sound.
        offset: u64,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A file's pieces contradict its size.
    #[error("{0} is damaged: its pieces do not add up to its size")]
    Length(String),
    /// A pattern is unusable.
    #[error(transparent)]
    Pattern(#[from] ExcludeError),
    /// The answer would not fit into memory.
    #[error("more than {VERSIONS_MAX} versions fit: use a narrower pattern or name one snapshot")]
    TooMany,
    /// The output does not take the answer.
    #[error("cannot write the output")]
    Write(#[from] io::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl BrowseError {
    /// Whether what is stored is at fault, and not who brings it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Tree(TreeError::Piece(error))
            | Self::Read(error)
            | Self::Content { source: error, .. } => error.is_damage(),
            Self::Tree(TreeError::Line(_) | TreeError::Format(_)) | Self::Length(_) => true,
            _ => false,
        }
    }

    /// Whether the reader of the output went away, as `head` does: no reason to complain.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes `value` as one line of JSON.
fn write_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), BrowseError> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

fn index_of(repository: &Repository, snapshot: &Snapshot) -> Result<Index, BrowseError> {
    Ok(repository.index_for_reading([snapshot])?.0)
}

/// The names of what is directly in the directory at `path` (without its leading `/`); bytes that are not UTF-8
/// replaced.
pub(crate) fn names_in(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<BTreeSet<String>, BrowseError> {
    let index = index_of(repository, snapshot)?;
    let selection = Selection { paths: vec![path.to_vec()], ..Selection::default() };
    let mut entries = Entries::new(repository, &index, snapshot, selection)?;
    let mut names = BTreeSet::new();
    while let Some(entry) = entries.next()? {
        let below = entry.path.strip_prefix(path).unwrap_or_default();
        let name = below.strip_prefix(b"/").unwrap_or(below);
        if !name.is_empty() && !name.contains(&b'/') && names.len() < NAMES_MAX {
            names.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// The chosen entries of one snapshot, in tree order. Content is not read.
struct Entries<'a> {
    tree: TreeReader<ChunkReader<'a>>,
    selection: Selection,
    /// For each path of the selection, whether the snapshot has something there.
    found: Vec<bool>,
}

impl<'a> Entries<'a> {
    fn new(
        repository: &'a Repository,
        index: &'a Index,
        snapshot: &Snapshot,
        selection: Selection,
    ) -> Result<Self, BrowseError> {
        let reader = ChunkReader::new(repository, index).map_err(BrowseError::Read)?;
        let found = vec![false; selection.paths.len()];
        Ok(Self { tree: TreeReader::new(&snapshot.tree, reader), selection, found })
    }

    fn next(&mut self) -> Result<Option<Entry>, BrowseError> {
        while let Some(entry) = self.tree.next_entry()? {
            if self.selection.holds(&entry.path) {
                for (path, found) in self.selection.paths.iter().zip(&mut self.found) {
                    *found |= is_inside(&entry.path, path);
                }
                return Ok(Some(entry));
            }
            if self.is_behind_all(&entry.path) {
                break;
            }
        }
        Ok(None)
    }

    /// Nothing that is chosen can follow `path`, which is not chosen.
    fn is_behind_all(&self, path: &[u8]) -> bool {
        self.selection.paths.iter().all(|chosen| tree_order(chosen, path).is_lt())
            && !self.selection.paths.is_empty()
    }

    /// Fails when there is nothing at one of the chosen paths.
    fn complete(self) -> Result<(), BrowseError> {
        let missing = self.selection.paths.into_iter().zip(self.found);
        let missing: Vec<_> = missing.filter(|(_, found)| !found).map(|(path, _)| path).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(nothing_at(&Selection { paths: missing, ..Selection::default() }).into())
    }
}

#[cfg(test)]
pub(crate) mod tests;
