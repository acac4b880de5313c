//! Results in tree order to the tree, the next cache and the counts.

use std::collections::HashMap;
use std::io;

use crossbeam_channel::Receiver;

use super::CreateError;
use super::packer::{Failure, Stow};
use super::worker::{Done, Worker};
use crate::cache::{CacheWriter, Record};
use crate::chunk::ChunkId;
use crate::entry::{Entry, EntryError, Extent, Kind, Line};
use crate::snapshot::{Stats, TreeRoot, WARNINGS_MAX};
use crate::tree::TreeWriter;
use crate::walk::{FileType, Found, Stat};

/// What the walk passes on, in tree order.
#[derive(Debug)]
pub(super) enum Item {
    /// Records of the last run that are still true, one behind the other.
    Unchanged(Vec<u8>),
    /// Paths some thread reads; the results come here.
    Read(Receiver<Vec<Done>>),
    /// Entries whose content is stored already.
    Stored(Vec<Entry>),
    /// A further name of a file that came before, with the record of its first name where that was
    /// unchanged.
    Linked { found: Found, record: Option<Vec<u8>> },
    /// Something a person should know.
    Warning(String),
}

/// Builds a snapshot's tree on one thread.
#[derive(Debug)]
pub(super) struct Assembler<'packer, 'run> {
    tree: TreeWriter,
    stow: Stow<'packer, 'run>,
    /// Reads further names of files whose first name could not be read.
    spare: Worker<'run, 'packer>,
    cache: Option<CacheWriter>,
    /// Another pass follows.
    is_hot: bool,
    failure: &'run Failure,
    linked: HashMap<(u64, u64), Linked>,
    lines: Vec<u8>,
    assembled: Assembled,
}

/// A file with several names, kept until the last of them has come.
#[derive(Debug)]
struct Linked {
    entry: Entry,
    /// Whether all of it could be read, so that the cache may have it.
    sound: bool,
    names_left: u64,
}

/// What the tree thread knows in the end.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    pub(super) stats: Stats,
    pub(super) warnings: Vec<String>,
    pub(super) warning_count: u64,
}

impl Assembled {
    /// Something a person should know.
    pub(super) fn warn(&mut self, warning: String) {
        tracing::warn!("{warning}");
        self.warning_count += 1;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }
}

impl<'packer, 'run> Assembler<'packer, 'run> {
    pub(super) fn new(
        stow: Stow<'packer, 'run>,
        spare: Worker<'run, 'packer>,
        cache: Option<CacheWriter>,
        is_hot: bool,
        failure: &'run Failure,
    ) -> Self {
        Self {
            tree: TreeWriter::default(),
            stow,
            spare,
            cache,
            is_hot,
            failure,
            linked: HashMap::new(),
            lines: Vec::new(),
            assembled: Assembled::default(),
        }
    }

    /// Takes items until the walk ends. After a failure it only empties the channel.
    pub(super) fn run(
        mut self,
        items: &Receiver<Item>,
    ) -> Option<(TreeRoot, Assembled, Option<CacheWriter>)> {
        for item in items {
            if self.failure.is_set() {
                continue;
            }
            if let Err(error) = self.item(item) {
                self.failure.set(error);
            }
        }
        if self.failure.is_set() {
            return None;
        }
        let finished = self.tree.finish(&mut self.stow).and_then(|root| {
            self.stow.finish()?;
            self.spare.stow.finish()?;
            Ok(root)
        });
        match finished {
            Ok(root) => Some((root, self.assembled, self.cache)),
            Err(error) => {
                self.failure.set(error);
                None
            }
        }
    }

    fn item(&mut self, item: Item) -> Result<(), CreateError> {
        match item {
            Item::Unchanged(records) => self.unchanged(&records),
            Item::Read(results) => {
                // A closed channel means that its thread has failed and said so.
                for done in results.recv().unwrap_or_default() {
                    self.done(done)?;
                }
                Ok(())
            }
            Item::Stored(entries) => entries.iter().try_for_each(|entry| self.stored(entry)),
            Item::Linked { found, record } => self.linked(found, record.as_deref()),
            Item::Warning(warning) => {
                self.warn(warning);
                Ok(())
            }
        }
    }

    fn unchanged(&mut self, mut records: &[u8]) -> Result<(), CreateError> {
        while let Some((record, rest)) = Record::split(records) {
            records = rest;
            self.count(record.file_type(), record.size());
            if record.file_type() == FileType::File {
                self.assembled.stats.files_unchanged += 1;
            }
            self.tree.begin_entry();
            write_lines(&mut self.tree, &mut self.stow, record.path(), record.lines())?;
            self.cached(|cache| cache.copy(&record));
        }
        Ok(())
    }

    fn stored(&mut self, entry: &Entry) -> Result<(), CreateError> {
        let kind = match &entry.kind {
            Kind::File(content) => {
                let ids = chunk_ids(&content.extents);
                if let Some(id) = ids.iter().find(|id| !self.stow.has_anywhere(id)) {
                    return Err(CreateError::Dump(
                        entry.display_path(),
                        format!("its chunk {id} is not in the repository").into(),
                    ));
                }
                FileType::File
            }
            _ => FileType::Directory,
        };
        self.lines.clear();
        let written = entry.write_lines(&mut self.lines, |_| ());
        written.map_err(|error| CreateError::Entry(entry.display_path(), error))?;
        self.count(kind, entry.size());
        self.assembled.stats.bytes_read += entry.size();
        self.tree.begin_entry();
        write_lines(&mut self.tree, &mut self.stow, &entry.path, &self.lines)
    }

    fn done(&mut self, done: Done) -> Result<(), CreateError> {
        let Done { found, entry, warnings, is_recorded } = done;
        // A flaw would be forgotten if the next run took the path from the cache; a record is what it was.
        let sound = is_recorded || warnings.is_empty();
        warnings.into_iter().for_each(|warning| self.warn(warning));
        let Some(entry) = entry else { return Ok(()) };
        let stat = found.stat;
        if is_recorded {
            self.assembled.stats.files_unchanged += 1;
        } else {
            self.assembled.stats.bytes_read += data_bytes(&entry);
        }
        let written = self.entry(&entry, &stat, sound)?;
        if written && stat.links > 1 && stat.kind != FileType::Directory {
            let linked = Linked { entry, sound, names_left: stat.links - 1 };
            self.linked.insert((stat.device, stat.inode), linked);
        }
        Ok(())
    }

    fn linked(&mut self, found: Found, record: Option<&[u8]>) -> Result<(), CreateError> {
        let first = match record {
            Some(record) => recorded_entry(record).map(|entry| (entry, true)),
            None => self.first_name(&found.stat),
        };
        let Some((entry, sound)) = first else {
            // The first name vanished, was replaced or could not be read. This one may still be there.
            let done = self.spare.path(found)?;
            return self.done(done);
        };
        let first = entry.path.clone();
        let entry = Entry { path: found.path, hardlink_of: Some(first), ..entry };
        self.entry(&entry, &found.stat, sound).map(drop)
    }

    /// The entry of the first name of this file, forgotten when this was its last name.
    fn first_name(&mut self, stat: &Stat) -> Option<(Entry, bool)> {
        let key = (stat.device, stat.inode);
        let linked = self.linked.get_mut(&key)?;
        linked.names_left = linked.names_left.saturating_sub(1);
        let sound = linked.sound;
        let entry = if linked.names_left == 0 {
            self.linked.remove(&key)?.entry
        } else {
            linked.entry.clone()
        };
        Some((entry, sound))
    }

    /// Writes an entry into the tree, and into the cache where `sound`; false when it is left out.
    fn entry(&mut self, entry: &Entry, stat: &Stat, sound: bool) -> Result<bool, CreateError> {
        self.lines.clear();
        match entry.write_lines(&mut self.lines, |_| ()) {
            Ok(()) => (),
            Err(EntryError::TooLong) => return self.too_long(entry, stat),
            Err(error) => return Err(CreateError::Entry(entry.display_path(), error)),
        }
        self.count(stat.kind, entry.size());
        self.tree.begin_entry();
        write_lines(&mut self.tree, &mut self.stow, &entry.path, &self.lines)?;
        let (ids, torn) = match &entry.kind {
            Kind::File(content) => (chunk_ids(&content.extents), content.torn),
            _ => (Vec::new(), false),
        };
        let lines = std::mem::take(&mut self.lines);
        self.cached(|cache| {
            if sound && !torn {
                cache.add(&entry.path, stat, &ids, &lines)
            } else {
                cache.add_changing(&entry.path, stat, &ids)
            }
        });
        self.lines = lines;
        Ok(true)
    }

    /// A directory is saved without its attributes, because what is in it needs it; the rest is left out.
    fn too_long(&mut self, entry: &Entry, stat: &Stat) -> Result<bool, CreateError> {
        let path = entry.display_path();
        if entry.kind == Kind::Directory && !entry.xattrs.is_empty() {
            self.warn(format!(
                "{path} is saved without its attributes: with its path they are longer than a line may be"
            ));
            return self.entry(&Entry { xattrs: Vec::new(), ..entry.clone() }, stat, false);
        }
        self.warn(format!(
            "{path} is left out: its path and attributes are longer than a line may be"
        ));
        Ok(false)
    }

    fn count(&mut self, kind: FileType, size: u64) {
        let stats = &mut self.assembled.stats;
        match kind {
            FileType::File => {
                stats.files += 1;
                stats.bytes += size;
            }
            FileType::Directory => stats.directories += 1,
            _ => stats.others += 1,
        }
    }

    fn warn(&mut self, warning: String) {
        // What the first of two passes meets, the second one meets again if it is still so.
        if self.is_hot {
            tracing::debug!("{warning}");
        } else {
            self.assembled.warn(warning);
        }
    }

    /// A cache that cannot be written costs the next run a full read; it does not cost this backup.
    fn cached(&mut self, write: impl FnOnce(&mut CacheWriter) -> io::Result<()>) {
        if let Some(cache) = &mut self.cache
            && let Err(error) = write(cache)
        {
            tracing::warn!(
                "the cache cannot be written, so the next run will read everything: {error}"
            );
            self.cache = None;
        }
    }
}

/// Passes an entry's lines to the tree. What decides where a piece may end must not change with the
/// metadata: the path, or the start of a `more` line, which is its first chunk id.
pub(super) fn write_lines(
    tree: &mut TreeWriter,
    stow: &mut Stow<'_, '_>,
    path: &[u8],
    lines: &[u8],
) -> Result<(), CreateError> {
    const MORE_KEY_BYTES: usize = 48;
    for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let cut_key = if number == 0 { path } else { line.get(..MORE_KEY_BYTES).unwrap_or(line) };
        tree.line(line, cut_key, stow)?;
    }
    Ok(())
}

/// The entry that a record of the last run holds.
pub(super) fn recorded_entry(record: &[u8]) -> Option<Entry> {
    let (record, _) = Record::split(record)?;
    let mut lines = record.lines().split_inclusive(|byte| *byte == b'\n').map(Line::parse);
    let Ok(Line::Entry(mut entry)) = lines.next()? else { return None };
    for line in lines {
        match (line, &mut entry.kind) {
            (Ok(Line::More(more)), Kind::File(content)) => content.extents.extend(more),
            _ => return None,
        }
    }
    Some(entry)
}

/// Bytes of an entry's content that are no hole.
fn data_bytes(entry: &Entry) -> u64 {
    let Kind::File(content) = &entry.kind else { return 0 };
    let holes = content.extents.iter().map(|extent| match extent {
        Extent::Hole(length) => *length,
        Extent::Chunk(_) => 0,
    });
    content.size.saturating_sub(holes.sum())
}

fn chunk_ids(extents: &[Extent]) -> Vec<ChunkId> {
    let ids = extents.iter().filter_map(|extent| match extent {
        Extent::Chunk(id) => Some(*id),
        Extent::Hole(_) => None,
    });
    ids.collect()
}
