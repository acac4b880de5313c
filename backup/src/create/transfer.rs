//! The content and the tree of a snapshot of another repository: read there, and stored here under this one's names.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::thread;

use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use super::assemble::write_lines;
use super::packer::{Packer, Stow};
use super::{CreateError, StoredTree, start_uploads};
use crate::ahead::{self, AheadError, Step};
use crate::chunk::ChunkId;
use crate::entry::{Entry, Extent, FileContent, Kind};
use crate::index::Index;
use crate::pack::PackKind;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::{Operation, Repository};
use crate::snapshot::{Stats, TreeRoot};
use crate::tree::{TreeError, TreeReader, TreeWriter};

/// What chunks of the other repository are called here. Kept between snapshots, so that what they share is read once: 32 bytes
/// and a little for each chunk.
#[derive(Debug, Default)]
pub struct Names(HashMap<ChunkId, ChunkId>);

/// How to store.
#[derive(Clone, Copy, Debug)]
pub struct TransferOptions {
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that upload.
    pub uploads: usize,
}

/// Why a snapshot could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Its tree cannot be read.
    #[error("the snapshot cannot be read to its end")]
    Tree(#[from] TreeError<ReadError>),
    /// Content cannot be read.
    #[error("{path} cannot be read")]
    Content {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The decoder could not be made.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] CreateError),
    /// SIGINT or SIGTERM.
    #[error("interrupted: what was stored is kept for the next run, no snapshot was made")]
    Interrupted,
}

impl TransferError {
    /// Whether it concerns this snapshot only: another one may be whole.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Tree(TreeError::Piece(error)) | Self::Content { source: error, .. } => {
                error.is_damage()
            }
            Self::Tree(TreeError::Line(_) | TreeError::Format(_)) => true,
            Self::Read(_) | Self::Store(_) | Self::Interrupted => false,
        }
    }
}

/// Stores in `to` what the tree at `root` of `from` holds. Nothing refers to it until a snapshot does.
pub fn transfer(
    from: (&Repository, &Index),
    root: &TreeRoot,
    to: &Repository,
    names: &mut Names,
    options: TransferOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<StoredTree, TransferError> {
    to.permit(Operation::Write).map_err(CreateError::from)?;
    let (index, _) = to.index_for_writing().map_err(CreateError::from)?;
    let packer = Packer::new(to, &index, options.level, false, progress, shutdown);
    let stored = thread::scope(|scope| {
        start_uploads(scope, &packer, options.uploads);
        let _close = packer.close_on_drop();
        let stored = read_and_stow(from, root, &packer, names, progress, shutdown);
        let stored = stored.inspect_err(|_| packer.failure().set(CreateError::Stopped));
        packer.close();
        stored
    });
    let added = packer.finish();
    let (tree, stats) = match stored {
        // Another thread failed first, and knows why.
        Err(TransferError::Store(CreateError::Stopped)) => {
            return Err(added.err().unwrap_or(CreateError::Stopped).into());
        }
        stored => stored?,
    };
    let added = added?;
    let stats = Stats {
        chunks_added: added.chunks,
        bytes_added: added.bytes,
        bytes_stored: added.bytes_stored,
        ..stats
    };
    Ok(StoredTree { tree, packs: added.packs, stats, entries: Vec::new() })
}

fn read_and_stow(
    (from, index): (&Repository, &Index),
    root: &TreeRoot,
    packer: &Packer<'_>,
    names: &mut Names,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<(TreeRoot, Stats), TransferError> {
    let mut source = TreeReader::new(root, ChunkReader::new(from, index)?);
    let taken = RefCell::new(Taken { names, waiting: VecDeque::new() });
    let mut writer = Writer {
        stow: packer.stow(PackKind::Data)?,
        tree_stow: packer.stow(PackKind::Tree)?,
        tree: TreeWriter::default(),
        lines: Vec::new(),
        open: None,
        wanted: VecDeque::new(),
        stats: Stats::default(),
        progress,
    };
    let next_entry = || -> Result<Option<Entry>, TransferError> {
        let Some(entry) = source.next_entry()? else { return Ok(None) };
        let mut taken = taken.borrow_mut();
        let unknown = taken.unknown(&entry, packer);
        taken.waiting.push_back(entry);
        Ok(Some(unknown))
    };
    let read = ahead::read_in_order(from, index, shutdown, next_entry, |step| {
        writer.take(step, &mut taken.borrow_mut())
    });
    match read {
        Ok(()) => {
            writer.end_entry(&taken.borrow())?;
            writer.finish()
        }
        Err(AheadError::Caller(error)) => Err(error),
        Err(AheadError::Interrupted) => Err(TransferError::Interrupted),
        Err(AheadError::Content(source)) => {
            let path = writer.open.map(|entry| entry.display_path()).unwrap_or_default();
            Err(TransferError::Content { path, source })
        }
    }
}

/// Entries that were read and are not written yet.
struct Taken<'n> {
    names: &'n mut Names,
    waiting: VecDeque<Entry>,
}

impl Taken<'_> {
    /// The entry with those chunks only that are not known here, each once.
    fn unknown(&self, entry: &Entry, packer: &Packer<'_>) -> Entry {
        let mut unknown = entry.clone();
        if let Kind::File(content) = &mut unknown.kind {
            let mut seen = std::collections::HashSet::new();
            content.extents.retain(|extent| match extent {
                Extent::Hole(_) => false,
                Extent::Chunk(id) => !self.is_known(id, packer) && seen.insert(*id),
            });
        }
        unknown
    }

    /// Whether the chunk has a name here, and is stored or on its way.
    fn is_known(&self, id: &ChunkId, packer: &Packer<'_>) -> bool {
        self.names.0.get(id).is_some_and(|name| packer.has(name) || packer.has_taken(name))
    }
}

struct Writer<'packer, 'run> {
    stow: Stow<'packer, 'run>,
    tree_stow: Stow<'packer, 'run>,
    tree: TreeWriter,
    lines: Vec<u8>,
    /// The entry whose content comes now.
    open: Option<Entry>,
    /// Its chunks that come, as they are called there.
    wanted: VecDeque<ChunkId>,
    stats: Stats,
    progress: &'run Progress,
}

impl Writer<'_, '_> {
    fn take(&mut self, step: Step<'_>, taken: &mut Taken<'_>) -> Result<(), TransferError> {
        match step {
            Step::Entry(unknown) => {
                self.end_entry(taken)?;
                self.open = taken.waiting.pop_front();
                self.wanted = chunks(unknown).collect();
                Ok(())
            }
            Step::Chunk(content) => {
                let name = self.stow.store(content)?;
                self.progress.add_bytes(content.len() as u64);
                if let Some(id) = self.wanted.pop_front() {
                    taken.names.0.insert(id, name);
                }
                Ok(())
            }
            // Holes are in the entry itself.
            Step::Hole(_) => Ok(()),
        }
    }

    /// Writes the open entry, all of whose chunks are stored now.
    fn end_entry(&mut self, taken: &Taken<'_>) -> Result<(), TransferError> {
        let Some(mut entry) = self.open.take() else { return Ok(()) };
        if let Kind::File(FileContent { extents, .. }) = &mut entry.kind {
            for extent in extents {
                if let Extent::Chunk(id) = extent {
                    let name = taken.names.0.get(id).copied();
                    *id = name.ok_or_else(|| TransferError::Content {
                        path: String::new(),
                        source: ReadError::Missing(*id),
                    })?;
                }
            }
        }
        match entry.kind {
            Kind::File(_) => self.stats.files += 1,
            Kind::Directory => self.stats.directories += 1,
            _ => self.stats.others += 1,
        }
        self.stats.bytes += entry.size();
        self.progress.add_files(1);
        self.lines.clear();
        let written = entry.write_lines(&mut self.lines, |_| ());
        written.map_err(|error| CreateError::Entry(entry.display_path(), error))?;
        self.tree.begin_entry();
        Ok(write_lines(&mut self.tree, &mut self.tree_stow, &entry.path, &self.lines)?)
    }

    fn finish(mut self) -> Result<(TreeRoot, Stats), TransferError> {
        let root = self.tree.finish(&mut self.tree_stow)?;
        self.tree_stow.finish()?;
        self.stow.finish()?;
        Ok((root, self.stats))
    }
}

fn chunks(entry: &Entry) -> impl Iterator<Item = ChunkId> + '_ {
    let extents = match &entry.kind {
        Kind::File(content) => content.extents.as_slice(),
        _ => &[],
    };
    extents.iter().filter_map(|extent| match extent {
        Extent::Chunk(id) => Some(*id),
        Extent::Hole(_) => None,
    })
}
