//! Files that come as streams, of lengths nobody knows: into packs and a tree of their own.
//!
//! One thread cuts, names and compresses; the program that gives the stream has the other processors. The tree
//! holds one folder. It can be the whole of a snapshot, or a part of one that a run makes later.

use std::thread;

use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use super::assemble::write_lines;
use super::packer::{Failure, Packer, Stow};
use super::{CreateError, start_uploads};
use crate::chunk::{CHUNK_BYTES_MAX, Cutter};
use crate::entry::{Entry, Extent, FileContent, Kind, PathBytes, Timestamp, tree_order};
use crate::pack::{PackId, PackKind};
use crate::repository::{Operation, Repository};
use crate::snapshot::{Stats, TreeRoot};
use crate::tree::TreeWriter;

#[cfg(test)]
mod tests;

/// Bytes that are cut together: above every length that is not cut at all.
const PENDING_BYTES: usize = CHUNK_BYTES_MAX + 1;

/// Modes of what nobody else needs to read.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How to store.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that upload.
    pub uploads: usize,
    /// Time of all entries.
    pub time: jiff::Timestamp,
}

/// What was stored; nothing refers to it until a snapshot does.
#[derive(Clone, Debug)]
pub struct StoredTree {
    /// Where its tree begins.
    pub tree: TreeRoot,
    /// Every pack it needs, sorted.
    pub packs: Vec<PackId>,
    /// Counts, without the time.
    pub stats: Stats,
    /// What is in the tree.
    pub entries: Vec<Entry>,
}

/// Takes the content of one file after the other.
#[derive(Debug)]
pub struct FileStore<'packer, 'run> {
    folder: PathBytes,
    mtime: Timestamp,
    cutter: &'run Cutter,
    failure: &'packer Failure,
    progress: &'run Progress,
    stow: Stow<'packer, 'run>,
    pending: Vec<u8>,
    length: u64,
    extents: Vec<Extent>,
    files: Vec<Entry>,
}

impl FileStore<'_, '_> {
    /// Adds to the file that is open.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CreateError> {
        if self.is_stopped() {
            return Err(CreateError::Stopped);
        }
        self.length += bytes.len() as u64;
        self.progress.add_bytes(bytes.len() as u64);
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PENDING_BYTES { self.cut(false) } else { Ok(()) }
    }

    /// Whether the run has failed or is to stop: nothing more is taken.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.failure.is_set()
    }

    /// Closes the file and gives it a name; returns its length. `torn`: it is not whole. A name that another
    /// file has is refused: no reader would take the tree.
    pub fn end(&mut self, name: &str, torn: bool) -> Result<u64, CreateError> {
        let path = [self.folder.as_slice(), b"/", name.as_bytes()].concat();
        if self.files.iter().any(|file| file.path == path) {
            return Err(CreateError::Twice(name.to_owned()));
        }
        if self.extents.is_empty() && self.cutter.is_whole(self.length) {
            if !self.pending.is_empty() {
                self.extents.push(Extent::Chunk(self.stow.store(&self.pending)?));
            }
            self.pending.clear();
        } else {
            self.cut(true)?;
        }
        let size = std::mem::take(&mut self.length);
        let extents = std::mem::take(&mut self.extents);
        let content = FileContent { size, extents, torn };
        self.files.push(entry(path, Kind::File(content), FILE_MODE, self.mtime));
        self.progress.add_files(1);
        Ok(size)
    }

    fn cut(&mut self, at_end: bool) -> Result<(), CreateError> {
        let mut rest = self.pending.as_slice();
        while let Some(length) = self.cutter.next_cut(rest, at_end) {
            let (chunk, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.extents.push(Extent::Chunk(self.stow.store(chunk)?));
            rest = after;
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        Ok(())
    }

    /// Writes the tree.
    fn finish(
        mut self,
        mut tree_stow: Stow<'_, '_>,
    ) -> Result<(TreeRoot, Stats, Vec<Entry>), CreateError> {
        self.files.sort_by(|left, right| tree_order(&left.path, &right.path));
        let folder = entry(self.folder, Kind::Directory, FOLDER_MODE, self.mtime);
        let bytes = self.files.iter().map(Entry::size).sum();
        let files = self.files.len() as u64;
        let mut tree = TreeWriter::default();
        let mut lines = Vec::new();
        let mut entries = vec![folder];
        entries.append(&mut self.files);
        for entry in &entries {
            lines.clear();
            let written = entry.write_lines(&mut lines, |_| ());
            written.map_err(|error| CreateError::Entry(entry.display_path(), error))?;
            tree.begin_entry();
            write_lines(&mut tree, &mut tree_stow, &entry.path, &lines)?;
        }
        let root = tree.finish(&mut tree_stow)?;
        tree_stow.finish()?;
        self.stow.finish()?;
        let stats = Stats { files, directories: 1, bytes, bytes_read: bytes, ..Stats::default() };
        Ok((root, stats, entries))
    }
}

fn entry(path: PathBytes, kind: Kind, mode: u32, mtime: Timestamp) -> Entry {
    Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), hardlink_of: None }
}

/// Stores what `write` gives as files of the folder at the absolute path `folder`. Its value is returned with
/// what was stored; where it fails, what it has given stays in the repository and nothing refers to it.
pub fn store_streams<T>(
    repository: &Repository,
    options: &StreamOptions,
    folder: &str,
    progress: &Progress,
    shutdown: &Shutdown,
    write: impl FnOnce(&mut FileStore<'_, '_>) -> Result<T, CreateError>,
) -> Result<(T, StoredTree), CreateError> {
    repository.permit(Operation::Write)?;
    let (index, _) = repository.index_for_writing()?;
    let packer = Packer::new(repository, &index, options.level, false, progress, shutdown);
    let stored = thread::scope(|scope| {
        start_uploads(scope, &packer, options.uploads);
        let _close = packer.close_on_drop();
        let stored = packer.stow(PackKind::Data).and_then(|stow| {
            let mut files = FileStore {
                folder: folder.trim_start_matches('/').as_bytes().to_vec(),
                mtime: Timestamp { seconds: options.time.as_second(), nanos: 0 },
                cutter: repository.cutter(),
                failure: packer.failure(),
                progress,
                stow,
                pending: Vec::new(),
                length: 0,
                extents: Vec::new(),
                files: Vec::new(),
            };
            let value = write(&mut files)?;
            let (tree, stats, entries) = files.finish(packer.stow(PackKind::Tree)?)?;
            Ok((value, tree, stats, entries))
        });
        let stored = stored.map_err(|error| packer.failure().set(error)).ok();
        packer.close();
        stored
    });
    let added = packer.finish()?;
    let (value, tree, stats, entries) = stored.ok_or(CreateError::Stopped)?;
    let stats = Stats {
        chunks_added: added.chunks,
        bytes_added: added.bytes,
        bytes_stored: added.bytes_stored,
        ..stats
    };
    Ok((value, StoredTree { tree, packs: added.packs, stats, entries }))
}
