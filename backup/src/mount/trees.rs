//! Snapshots' entries in memory: read when somebody first looks into a snapshot, and dropped when others need the room.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chores_common::object::ErrorKind;
use chores_common::shutdown::Shutdown;

use super::table::{Table, TableBuilder, TableError};
use crate::entry::Timestamp;
use crate::index::Index;
use crate::pack::PackId;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{Snapshot, SnapshotName};
use crate::tree::{TreeError, TreeReader};

/// Memory for the entries of all snapshots that are kept, in bytes.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// So many are kept whatever memory they take: two that are compared must not drive each other out at every question.
const KEPT_MIN: usize = 2;

/// Snapshots that are kept at once.
const KEPT_MAX: usize = 256;

/// How long an index counts as new where the index objects in the store are the same still: what is missing by it is not looked
/// for again before.
pub(super) const INDEX_AGE_MIN: Duration = Duration::from_secs(60);

/// How long lies between two such looks: what is damaged is missed by everybody who reads it.
const LOOKS_APART_MIN: Duration = Duration::from_secs(2);

/// Snapshots with packs that no index object tells of, which are kept in mind.
const ALONE_MAX: usize = 16;

/// Entries between two looks at the request to stop.
const ENTRIES_BETWEEN_LOOKS: usize = 1024;

/// Why a snapshot cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// Its document or the indexes cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The decoder could not be made.
    #[error("cannot read from the repository")]
    Read(#[source] ReadError),
    /// Its tree cannot be read.
    #[error("the snapshot cannot be read to its end")]
    Tree(#[from] TreeError<ReadError>),
    /// It does not fit.
    #[error("the snapshot cannot be shown")]
    Table(#[from] TableError),
    /// The request to stop was made.
    #[error("interrupted")]
    Interrupted,
}

/// A snapshot's entries, and the index by which they know their content.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) name: SnapshotName,
    pub(crate) table: Table,
    pub(crate) index: Arc<Index>,
}

/// Where entries come from, and those that are kept.
#[derive(Debug)]
pub(crate) struct Trees {
    repository: Repository,
    shutdown: Shutdown,
    /// Most recently used last. All go by one index, as long as nothing fails.
    kept: Mutex<VecDeque<(u32, Arc<Tree>)>>,
    /// [`KEPT_BYTES_MAX`].
    kept_bytes_max: u64,
    /// Also keeps it at one tree that is read at a time, since each takes memory beside those that are kept.
    pub(super) reading: Mutex<Reading>,
}

/// What trees are read by.
#[derive(Debug, Default)]
pub(super) struct Reading {
    index: Option<Arc<Index>>,
    /// Packs that it does not have although a snapshot needs them: they cannot be read.
    pub(super) unreadable: HashSet<PackId>,
    /// Snapshots with the packs of each that no index object tells of. They are asked for again with every index: two such snapshots
    /// must not have it read for each of them in turn.
    alone: VecDeque<Snapshot>,
    /// When an index was last asked for.
    pub(super) asked: Option<Instant>,
    /// The index objects that were there then.
    objects: Vec<String>,
    /// When they were last looked at again, behind something that is missing.
    looked: Option<Instant>,
}

impl Trees {
    pub(crate) fn new(repository: Repository, shutdown: Shutdown) -> Self {
        Self {
            repository,
            shutdown,
            kept: Mutex::default(),
            kept_bytes_max: KEPT_BYTES_MAX,
            reading: Mutex::default(),
        }
    }

    /// The entries of a snapshot, which has this number.
    pub(crate) fn tree(&self, number: u32, name: &SnapshotName) -> Result<Arc<Tree>, TreesError> {
        if let Some(tree) = self.kept(number) {
            return Ok(tree);
        }
        let mut reading = self.reading();
        // Another one may have read it meanwhile.
        if let Some(tree) = self.kept(number) {
            return Ok(tree);
        }
        let tree = Arc::new(self.read(&mut reading, name)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((number, Arc::clone(&tree)));
        let mut bytes: u64 = kept.iter().map(|(_, tree)| tree.table.memory()).sum();
        while kept.len() > KEPT_MIN
            && (bytes > self.kept_bytes_max || kept.len() > KEPT_MAX)
            && let Some((_, oldest)) = kept.pop_front()
        {
            bytes -= oldest.table.memory();
        }
        Ok(tree)
    }

    /// An index that was read behind another one, by which something is missing: a prune may have stored it anew. `None`:
    /// there is none, and it is too early for a new one, since none of its objects has come or gone.
    pub(crate) fn index_after(&self, old: &Arc<Index>, name: &SnapshotName) -> Option<Arc<Index>> {
        let known = {
            let mut reading = self.reading();
            if let Some(newer) = reading.newer(old) {
                return Some(newer);
            }
            if reading.asked.is_some_and(|asked| asked.elapsed() < INDEX_AGE_MIN) {
                if reading.looked.is_some_and(|looked| looked.elapsed() < LOOKS_APART_MIN) {
                    return None;
                }
                reading.looked = Some(Instant::now());
                Some(reading.objects.clone())
            } else {
                None
            }
        };
        // Nobody who reads has to wait for this look.
        let is_other = |known| self.repository.index_names().is_ok_and(|names| names != known);
        if known.is_some_and(|known| !is_other(known)) {
            return None;
        }
        let mut reading = self.reading();
        // Another one may have read it meanwhile.
        if let Some(newer) = reading.newer(old) {
            return Some(newer);
        }
        // What the snapshot needs was moved as well.
        let snapshot = self.snapshot_again(name).ok();
        self.read_index(&mut reading, snapshot.as_ref()).ok()
    }

    fn kept(&self, number: u32) -> Option<Arc<Tree>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|(kept, _)| *kept == number)?;
        let found = kept.remove(at)?;
        let tree = Arc::clone(&found.1);
        kept.push_back(found);
        Some(tree)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, reading: &mut Reading, name: &SnapshotName) -> Result<Tree, TreesError> {
        let mut snapshot = self.repository.snapshot(name)?;
        let mut known = reading.knowing(&snapshot.packs);
        if known.is_none() {
            snapshot = self.snapshot_again(name)?;
            known = reading.knowing(&snapshot.packs);
        }
        let (index, is_new) = match known {
            Some(index) => (index, false),
            None => (self.read_index(reading, Some(&snapshot))?, true),
        };
        match self.read_by(name, &snapshot, &index) {
            // A prune may have stored it anew since the index was read.
            Err(TreesError::Tree(TreeError::Piece(error))) if !is_new && is_gone(&error) => {
                let snapshot = self.snapshot_again(name)?;
                let index = self.read_index(reading, Some(&snapshot))?;
                self.read_by(name, &snapshot, &index)
            }
            read => read,
        }
    }

    /// A snapshot with the packs from which it is read now, wherever others have moved its content meanwhile.
    fn snapshot_again(&self, name: &SnapshotName) -> Result<Snapshot, RepositoryError> {
        self.repository.forget_moves();
        self.repository.snapshot(name)
    }

    fn read_by(
        &self,
        name: &SnapshotName,
        snapshot: &Snapshot,
        index: &Arc<Index>,
    ) -> Result<Tree, TreesError> {
        let pieces = ChunkReader::new(&self.repository, index).map_err(TreesError::Read)?;
        let mut entries = TreeReader::new(&snapshot.tree, pieces);
        let mut table = TableBuilder::new(index, time_of(snapshot))?;
        let (mut count, mut left_out) = (0_usize, 0_usize);
        while let Some(entry) = entries.next_entry()? {
            if count.is_multiple_of(ENTRIES_BETWEEN_LOOKS) && self.shutdown.is_requested() {
                return Err(TreesError::Interrupted);
            }
            count += 1;
            left_out += usize::from(!table.add(&entry)?);
        }
        if left_out > 0 {
            tracing::warn!(
                "{left_out} entries of {} have names that no file system takes and are left out",
                name.id.short()
            );
        }
        Ok(Tree { name: name.clone(), table: table.finish()?, index: Arc::clone(index) })
    }

    fn read_index(
        &self,
        reading: &mut Reading,
        snapshot: Option<&Snapshot>,
    ) -> Result<Arc<Index>, RepositoryError> {
        // First, so that not two are in memory: all that go by the old one are read again when they are needed.
        reading.index = None;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        reading.asked = Some(Instant::now());
        // Before they are read: what comes meanwhile is one that is not known.
        reading.objects = self.repository.index_names()?;
        let named = reading.alone.iter().chain(snapshot);
        let (index, unreadable, told) = self.repository.index_and_told(named)?;
        if let Some(error) = unreadable.values().next() {
            let (count, error) = (unreadable.len(), chores_common::exit::chain(error));
            tracing::warn!("{count} packs that a snapshot needs cannot be read, such as: {error}");
        }
        if let Some(mut alone) = snapshot.cloned() {
            alone.packs.retain(|pack| !told.contains(pack) && !unreadable.contains_key(pack));
            if !alone.packs.is_empty() {
                reading.alone.push_back(alone);
            }
            if reading.alone.len() > ALONE_MAX {
                reading.alone.pop_front();
            }
        }
        let index = Arc::new(index);
        reading.index = Some(Arc::clone(&index));
        reading.unreadable.extend(unreadable.into_keys());
        Ok(index)
    }
}

impl Reading {
    /// The index, where it is another one.
    fn newer(&self, old: &Arc<Index>) -> Option<Arc<Index>> {
        self.index.as_ref().filter(|index| !Arc::ptr_eq(index, old)).map(Arc::clone)
    }

    /// The index, where it has all of these packs that can be read.
    fn knowing(&self, packs: &[PackId]) -> Option<Arc<Index>> {
        let index = self.index.as_ref()?;
        let known: HashSet<_> = index.packs().iter().map(|pack| pack.id).collect();
        let knows = |pack: &PackId| known.contains(pack) || self.unreadable.contains(pack);
        packs.iter().all(knows).then(|| Arc::clone(index))
    }
}

/// Whether something is not where an index says.
pub(crate) fn is_gone(error: &ReadError) -> bool {
    match error {
        ReadError::Store(error) => error.kind() == ErrorKind::NotFound,
        ReadError::Missing(_) => true,
        _ => false,
    }
}

/// When a snapshot was made.
pub(crate) fn time_of(snapshot: &Snapshot) -> Timestamp {
    instant(snapshot.time)
}

/// A moment as files have it.
pub(crate) fn instant(time: jiff::Timestamp) -> Timestamp {
    let nanos = time.as_nanosecond();
    let second = 1_000_000_000;
    Timestamp {
        seconds: i64::try_from(nanos.div_euclid(second)).unwrap_or(0),
        nanos: u32::try_from(nanos.rem_euclid(second)).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
