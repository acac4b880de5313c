//! The walk to items: what has not changed is taken from the cache, neighbours are read together, large
//! files on their own. Everything keeps the order of the tree.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use chores_common::exit::chain;
use crossbeam_channel::{Sender, bounded};

use super::CreateError;
use super::assemble::{Item, recorded_entry};
use super::packer::{Lane, Packer};
use super::queue::{Task, TaskQueue};
use super::worker::Wanted;
use crate::cache::CacheReader;
use crate::entry::{Entry, PathBytes, display_path, tree_order};
use crate::walk::{Event, FileType, Found, SourceRoot};

/// Paths read by one thread in one go.
const BATCH_PATHS_MAX: usize = 256;

/// Content read by one thread in one go, in bytes: about what makes a frame.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Unchanged records passed on in one go, in bytes.
const RECORDS_BYTES_MAX: usize = 256 << 10;

/// Longest record that is handed along with a path to read, in bytes: that of a file of about 20 GB. One with a longer record is not
/// read only for the packs it lies in.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Files with several names whose first name is remembered until the last has come. Beyond it, names are
/// saved as files of their own, and said so.
const LINKED_FILES_MAX: usize = 4 << 20;

/// A dump that was stored before.
#[derive(Debug)]
pub(super) struct DumpedEntries {
    pub(super) folder: PathBytes,
    pub(super) entries: Vec<Entry>,
    pub(super) warnings: Vec<String>,
}

/// Turns a walk's events into items and tasks.
#[derive(Debug)]
pub(super) struct Sequencer<'run, 'packer> {
    roots: &'run [SourceRoot],
    /// How many paths each root had.
    paths_met: Vec<u64>,
    cache: Option<CacheReader>,
    /// Those whose place in the tree has not come.
    dumps: VecDeque<DumpedEntries>,
    packer: &'packer Packer<'run>,
    queue: &'run TaskQueue,
    items: Sender<Item>,
    batch: Vec<Wanted>,
    batch_bytes: u64,
    /// What was changed at this second or later before it was changed again does not stay for long.
    hot_from: i64,
    records: Vec<u8>,
    first_names: HashMap<(u64, u64), FirstName>,
    links_forgotten: bool,
}

#[derive(Debug)]
struct FirstName {
    path: PathBytes,
    /// Its record, where it was unchanged.
    record: Option<Vec<u8>>,
    names_left: u64,
}

/// What the last run tells of a path.
#[derive(Debug)]
enum Recorded {
    /// Nothing, or it has changed since.
    Nothing,
    /// Its size and times are the same, and not all that was stored of it may be referred to.
    Unreferred(Vec<u8>),
    /// It is unchanged, and the run refers to all of it from now on.
    Unchanged(Vec<u8>),
}

impl Recorded {
    fn unchanged(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Unchanged(record) => Some(record),
            Self::Nothing | Self::Unreferred(_) => None,
        }
    }
}

impl<'run, 'packer> Sequencer<'run, 'packer> {
    pub(super) fn new(
        roots: &'run [SourceRoot],
        cache: Option<CacheReader>,
        hot_from: i64,
        dumps: VecDeque<DumpedEntries>,
        packer: &'packer Packer<'run>,
        queue: &'run TaskQueue,
        items: Sender<Item>,
    ) -> Self {
        Self {
            roots,
            paths_met: vec![0; roots.len()],
            cache,
            dumps,
            packer,
            queue,
            items,
            batch: Vec::new(),
            batch_bytes: 0,
            hot_from,
            records: Vec::new(),
            first_names: HashMap::new(),
            links_forgotten: false,
        }
    }

    /// Takes one event of the walk; `Break` ends it.
    pub(super) fn event(&mut self, event: Event) -> ControlFlow<()> {
        if self.packer.failure().is_set() {
            return ControlFlow::Break(());
        }
        match event {
            Event::Found(found) => {
                self.dumps_before(Some(&found.path));
                if let Some(paths) = self.paths_met.get_mut(found.root) {
                    *paths += 1;
                }
                self.found(found);
            }
            Event::Skipped(skipped) => {
                tracing::info!("{} {}", display_path(&skipped.path), skipped.reason);
            }
            Event::Warning(warning) => {
                let path = display_path(&warning.path);
                self.item(Item::Warning(format!("{path} {}", chain(&warning.problem))));
            }
        }
        ControlFlow::Continue(())
    }

    /// Passes on what is still held back. Called once, when the walk has ended.
    pub(super) fn finish(mut self) {
        self.dumps_before(None);
        let empty: Vec<_> = (self.roots.iter().zip(&self.paths_met))
            .filter(|(root, paths)| root.is_directory() && **paths <= 1)
            .map(|(root, _)| display_path(root.path()))
            .collect();
        for path in empty {
            self.item(Item::Warning(format!("{path} is empty: is its volume mounted?")));
        }
        self.flush();
    }

    /// Passes on the dumps that stand before `path` in the tree, or all that are left.
    fn dumps_before(&mut self, path: Option<&[u8]>) {
        let is_due = |dump: &mut DumpedEntries| {
            path.is_none_or(|path| tree_order(&dump.folder, path).is_lt())
        };
        while let Some(dump) = self.dumps.pop_front_if(is_due) {
            dump.warnings.into_iter().for_each(|warning| self.item(Item::Warning(warning)));
            self.item(Item::Stored(dump.entries));
        }
    }

    fn found(&mut self, mut found: Found) {
        if found.stat.links > 1 && found.stat.kind != FileType::Directory {
            let key = (found.stat.device, found.stat.inode);
            if self.first_names.contains_key(&key) {
                self.later_name(found);
                return;
            }
            if self.first_names.len() >= LINKED_FILES_MAX {
                self.forget_links();
                found.stat.links = 1;
            } else {
                let recorded = self.recorded(&found, None);
                let first = FirstName {
                    path: found.path.clone(),
                    record: recorded.unchanged().cloned(),
                    names_left: found.stat.links - 1,
                };
                self.first_names.insert(key, first);
                self.record_or_read(recorded, found);
                return;
            }
        }
        let recorded = self.recorded(&found, None);
        self.record_or_read(recorded, found);
    }

    /// For how long what a path is now may stay: as long as what it was before it changed, or as it has stayed, where it did not
    /// and is stored again. Of the first run nobody knows more than when it was changed; of a path that is new since, nothing.
    fn lane(&mut self, found: &Found) -> Lane {
        let modified = match &mut self.cache {
            Some(cache) => cache.find(&found.path).map(|record| record.modified()),
            None => Some(found.stat.mtime.seconds),
        };
        let is_hot = modified.is_some_and(|modified| modified >= self.hot_from);
        if is_hot { Lane::Hot } else { Lane::Cold }
    }

    fn later_name(&mut self, found: Found) {
        let key = (found.stat.device, found.stat.inode);
        let Some(first) = self.first_names.get_mut(&key) else { return };
        first.names_left = first.names_left.saturating_sub(1);
        let last = first.names_left == 0;
        let (path, record_of_first) = (first.path.clone(), first.record.clone());
        if last {
            self.first_names.remove(&key);
        }
        match self.recorded(&found, Some(&path)) {
            // The record is only true as long as the first name is what it says.
            Recorded::Unchanged(record) if record_of_first.is_some() => self.record(&record),
            _ => self.item(Item::Linked { found, record: record_of_first }),
        }
    }

    fn forget_links(&mut self) {
        if !std::mem::replace(&mut self.links_forgotten, true) {
            self.item(Item::Warning(format!(
                "more than {LINKED_FILES_MAX} files have several names: further ones are saved as separate files"
            )));
        }
    }

    /// What the last run tells of a path.
    fn recorded(&mut self, found: &Found, first_name: Option<&[u8]>) -> Recorded {
        let record = self.cache.as_mut().and_then(|cache| cache.find(&found.path));
        let Some(record) = record.filter(|record| record.is_unchanged(&found.stat)) else {
            return Recorded::Nothing;
        };
        let raw = record.raw();
        if found.stat.links > 1 && found.stat.kind != FileType::Directory {
            let is_same = |entry: &Entry| entry.hardlink_of.as_deref() == first_name;
            if !recorded_entry(raw).as_ref().is_some_and(is_same) {
                return Recorded::Nothing;
            }
        }
        let is_long = raw.len() > RECORD_BYTES_MAX;
        if record.ids().all(|id| self.packer.has(&id))
            || (is_long && record.ids().all(|id| self.packer.has_anywhere(&id)))
        {
            Recorded::Unchanged(raw.to_vec())
        } else if is_long {
            Recorded::Nothing
        } else {
            Recorded::Unreferred(raw.to_vec())
        }
    }

    fn record_or_read(&mut self, recorded: Recorded, found: Found) {
        match recorded {
            Recorded::Unchanged(record) => self.record(&record),
            Recorded::Unreferred(record) => self.read(found, Some(record)),
            Recorded::Nothing => self.read(found, None),
        }
    }

    fn record(&mut self, record: &[u8]) {
        self.flush_batch();
        self.records.extend_from_slice(record);
        if self.records.len() >= RECORDS_BYTES_MAX {
            self.flush_records();
        }
    }

    fn read(&mut self, found: Found, record: Option<Vec<u8>>) {
        let lane = self.lane(&found);
        self.flush_records();
        let size = if found.stat.kind == FileType::File { found.stat.size } else { 0 };
        if size > BATCH_BYTES_MAX {
            self.flush_batch();
            let (done, results) = bounded(1);
            self.queue.push(Task::Large { wanted: Wanted { found, lane, record }, done });
            self.send(Item::Read(results));
            return;
        }
        self.batch.push(Wanted { found, lane, record });
        self.batch_bytes += size;
        if self.batch.len() >= BATCH_PATHS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.flush_batch();
        }
    }

    fn item(&mut self, item: Item) {
        self.flush();
        self.send(item);
    }

    fn flush(&mut self) {
        self.flush_records();
        self.flush_batch();
    }

    fn flush_records(&mut self) {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.send(Item::Unchanged(records));
        }
    }

    fn flush_batch(&mut self) {
        if !self.batch.is_empty() {
            let wanted = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            let (done, results) = bounded(1);
            self.queue.push(Task::Batch { wanted, done });
            self.send(Item::Read(results));
        }
    }

    fn send(&self, item: Item) {
        // The tree thread takes items until this sender is gone, whatever happens.
        if self.items.send(item).is_err() {
            self.packer.failure().set(CreateError::Stopped);
        }
    }
}
