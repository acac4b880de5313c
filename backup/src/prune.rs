//! What no snapshot needs any more goes, while others write and without any lock.
//!
//! Each run marks what is unneeded, and deletes what was marked long enough ago and is unneeded still ([`plan`]). Why
//! that is safe beside writers is said in [`crate::create::commit`]: nothing here relies on how long anything takes.
//! No content is read, so a machine that cannot read the backups can do it.

mod output;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::SystemTime;

use chores_common::object::{ErrorKind, ObjectMeta};
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::alive;
use crate::index::IndexedPack;
use crate::mark;
use crate::pack::PackId;
use crate::repository::{IndexObject, Operation, Repository, RepositoryError};
use crate::snapshot::{SnapshotId, SnapshotName};
use plan::{Plan, Rules, Stock, StoredPack, plan};

pub use output::{write_json, write_text};

#[cfg(test)]
mod tests;

/// What is written to learn the store's time.
const CLOCK_KEY: &str = "marks/clock";

/// Packs that are deleted between two looks at the request to stop.
const BATCH: usize = 64;

/// Index objects are joined up to this many bytes.
const INDEX_TARGET_BYTES: usize = 16 << 20;

/// How to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Grace and budget.
    pub rules: Rules,
    /// Even where there is no snapshot at all, so that everything would go.
    pub even_all: bool,
    /// Only say what would be done; by this machine's clock.
    pub dry_run: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Snapshots that are there.
    pub snapshots: u64,
    /// Packs that were there, and their length in bytes.
    pub packs: Sum,
    /// Packs that a snapshot needs.
    pub needed: Sum,
    /// Newly marked.
    pub marked: Sum,
    /// Deleted.
    pub deleted: Sum,
    /// Marked before, and not due.
    pub waiting: Sum,
    /// Marked before, and needed by a snapshot.
    pub kept: Sum,
    /// When the first of the waiting ones is due.
    pub next_due: Option<SystemTime>,
    /// Runs that are at work for long: what was marked since they began waits for them.
    pub runs: usize,
    /// Index objects that named what is gone, and were written anew without it.
    pub indexes_rewritten: u64,
}

/// So many packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub packs: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Sum {
    fn of<'a>(
        ids: impl IntoIterator<Item = &'a PackId>,
        all: &BTreeMap<PackId, StoredPack>,
    ) -> Self {
        let mut sum = Self::default();
        for pack in ids.into_iter().filter_map(|id| all.get(id)) {
            sum.packs += 1;
            sum.bytes += pack.bytes;
        }
        sum
    }
}

/// Why nothing, or not all, was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A document cannot be read, and with it what it needs.
    #[error(
        "snapshot {short} cannot be read, so nobody knows what it needs, and nothing was pruned: if it is damaged, drop it \
         with `backup forget {short}`, if it is of a later version, use a later program",
        short = .0.short()
    )]
    Unreadable(SnapshotId, #[source] RepositoryError),
    /// It may be a snapshot under another name.
    #[error(
        "{0} is no name of a snapshot, so nobody knows what it needs, and nothing was pruned: move it away, or give it its \
         name back"
    )]
    Stranger(String),
    /// What a snapshot needs is not there.
    #[error(
        "{0} packs that snapshots need are not there, and nothing was pruned: what is left may hold copies of what is \
         lost; `backup check` names the damaged snapshots, `backup forget` drops them"
    )]
    Missing(usize),
    /// There are packs and no snapshot.
    #[error("there is no snapshot, so all {0} packs would go: say --even-all if that is meant")]
    NoSnapshot(usize),
    /// The store does not tell when it wrote an object.
    #[error("the store does not tell the time of its objects, and nothing can be pruned without")]
    NoClock,
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0} packs were deleted, the next prune goes on")]
    Interrupted(u64),
}

/// Marks what is unneeded, and deletes what was marked long ago.
pub fn prune(
    repository: &Repository,
    options: &PruneOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<PruneReport, PruneError> {
    repository.permit(Operation::Delete)?;
    // All in this order. The clock first: what it says is older than what is seen by it. Then marks, so that those that
    // are due were there before the snapshots were read. An index before the packs it names, so that what is not among
    // these is gone. And packs before snapshots, so that none is listed without the snapshot that came with it.
    let now = if options.dry_run { SystemTime::now() } else { clock(repository)? };
    let marks = repository.marks()?;
    let runs = alive::runs(repository.store(), now).map_err(RepositoryError::from)?;
    let index = repository.index_objects_by_key()?;
    let packs: BTreeMap<_, _> =
        repository.pack_objects()?.iter().map(|(id, object)| (*id, stored(object))).collect();
    let (snapshots, strangers) = repository.snapshot_keys()?;
    if let Some(key) = strangers.into_iter().next() {
        return Err(PruneError::Stranger(key));
    }
    let needed = needed(repository, &snapshots)?;
    if snapshots.is_empty() && !packs.is_empty() && !options.even_all {
        return Err(PruneError::NoSnapshot(packs.len()));
    }
    refuse_missing(repository, &needed, &packs)?;

    let stock =
        Stock { now, packs, needed, marks, runs: runs.iter().map(|run| run.begun).collect() };
    let plan = plan(&stock, options.rules);
    let mut report = PruneReport {
        dry_run: options.dry_run,
        snapshots: snapshots.len() as u64,
        packs: Sum::of(stock.packs.keys(), &stock.packs),
        needed: Sum::of(&stock.needed, &stock.packs),
        marked: Sum::of(&plan.mark, &stock.packs),
        deleted: Sum::of(&plan.delete, &stock.packs),
        waiting: Sum::of(&plan.waiting, &stock.packs),
        kept: Sum::of(&plan.kept, &stock.packs),
        next_due: plan.next_due,
        runs: runs.len(),
        indexes_rewritten: 0,
    };
    if options.dry_run {
        return Ok(report);
    }
    progress.set_totals(report.deleted.packs, report.deleted.bytes);
    if !plan.mark.is_empty() || !plan.delete.is_empty() {
        repository.announce_marks()?;
    }
    let marked = write_marks(repository, &plan, &snapshots)?;
    report.marked = Sum::of(&marked, &stock.packs);
    report.indexes_rewritten = rewrite_index(repository, index, &stock, &plan)?;
    delete(repository, &plan, &stock, progress, shutdown)?;
    for key in &plan.done {
        repository.remove_mark(key)?;
    }
    alive::remove_silent(repository.store(), now).map_err(RepositoryError::from)?;
    Ok(report)
}

/// What time it is to the store.
fn clock(repository: &Repository) -> Result<SystemTime, PruneError> {
    let store = repository.store();
    store
        .put(CLOCK_KEY, "the store's time is that of this object\n")
        .map_err(RepositoryError::from)?;
    let objects = store.list(CLOCK_KEY).map_err(RepositoryError::from)?;
    let told = objects.iter().find(|object| object.key == CLOCK_KEY).map(|object| object.modified);
    told.filter(|time| *time > SystemTime::UNIX_EPOCH).ok_or(PruneError::NoClock)
}

fn stored(object: &ObjectMeta) -> StoredPack {
    StoredPack { bytes: object.size, modified: object.modified }
}

/// The packs that these snapshots need. Every one of them must be readable.
fn needed(repository: &Repository, names: &[SnapshotName]) -> Result<HashSet<PackId>, PruneError> {
    let mut needed = HashSet::new();
    for (name, read) in repository.snapshots_of(names) {
        match read {
            Ok(snapshot) => needed.extend(snapshot.packs),
            // It was forgotten since the listing; a store that lists what it cannot give has not.
            Err(RepositoryError::Store(error))
                if error.kind() == ErrorKind::NotFound && !repository.is_listed(&name)? => {}
            Err(RepositoryError::Store(error))
                if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
            {
                return Err(RepositoryError::Store(error).into());
            }
            Err(error) => return Err(PruneError::Unreadable(name.id, error)),
        }
    }
    Ok(needed)
}

/// Copies of lost chunks may lie in packs that no snapshot names: while one is missing that is needed, all stay.
fn refuse_missing(
    repository: &Repository,
    needed: &HashSet<PackId>,
    packs: &BTreeMap<PackId, StoredPack>,
) -> Result<(), PruneError> {
    let is_missing = |id: &&PackId| !packs.contains_key(id);
    if !needed.iter().any(|id| is_missing(&id)) {
        return Ok(());
    }
    // A backup may have been made since the listing.
    let now = repository.stored_packs()?;
    let missing = needed.iter().filter(is_missing).filter(|id| !now.contains_key(id)).count();
    if missing == 0 { Ok(()) } else { Err(PruneError::Missing(missing)) }
}

/// Marks what the plan says, but for what snapshots need that came since: these would keep marked packs for ever.
fn write_marks(
    repository: &Repository,
    plan: &Plan,
    seen: &[SnapshotName],
) -> Result<Vec<PackId>, PruneError> {
    if plan.mark.is_empty() {
        return Ok(Vec::new());
    }
    let seen: BTreeSet<_> = seen.iter().map(|name| name.id).collect();
    let mut since = repository.snapshot_names()?;
    since.retain(|name| !seen.contains(&name.id));
    let needed = needed(repository, &since)?;
    let packs: Vec<_> = plan.mark.iter().filter(|id| !needed.contains(id)).copied().collect();
    for some in packs.chunks(mark::PACKS_MAX) {
        let (key, bytes) = mark::encode(some, jiff::Timestamp::now(), repository.key());
        repository.store().put(&key, bytes).map_err(RepositoryError::from)?;
    }
    Ok(packs)
}

/// Writes index objects anew that name what is gone or about to go: writers would refer to it.
fn rewrite_index(
    repository: &Repository,
    index: Vec<IndexObject>,
    stock: &Stock,
    plan: &Plan,
) -> Result<u64, PruneError> {
    let going: HashSet<_> = plan.delete.iter().collect();
    let stays =
        |pack: &IndexedPack| stock.packs.contains_key(&pack.id) && !going.contains(&pack.id);
    let mut old = Vec::new();
    // Apart by what sealed them.
    let mut kept: BTreeMap<_, BTreeMap<PackId, IndexedPack>> = BTreeMap::new();
    // Unreadable ones are for `check` to tell, and hurt nobody.
    for (key, packs) in index.into_iter().filter_map(|(key, read)| Some((key, read.ok()?))) {
        if packs.iter().all(stays) {
            continue;
        }
        old.push(key);
        for pack in packs.into_iter().filter(|pack| stays(pack)) {
            kept.entry(pack.sealed_by).or_default().insert(pack.id, pack);
        }
    }
    for (sealed_by, packs) in kept {
        let mut open = Vec::new();
        let mut open_bytes = 0;
        for pack in packs.into_values() {
            open_bytes += pack.index.encoded_bytes();
            open.push(pack);
            if open_bytes >= INDEX_TARGET_BYTES {
                repository.put_index_again(&open, sealed_by)?;
                open.clear();
                open_bytes = 0;
            }
        }
        if !open.is_empty() {
            repository.put_index_again(&open, sealed_by)?;
        }
    }
    for key in &old {
        repository.remove_index_object(key)?;
    }
    Ok(old.len() as u64)
}

fn delete(
    repository: &Repository,
    plan: &Plan,
    stock: &Stock,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<(), PruneError> {
    let mut deleted = 0;
    for some in plan.delete.chunks(BATCH) {
        if shutdown.is_requested() {
            return Err(PruneError::Interrupted(deleted));
        }
        repository.remove_packs(some)?;
        deleted += some.len() as u64;
        progress.add_files(some.len() as u64);
        progress.add_bytes(Sum::of(some, &stock.packs).bytes);
    }
    Ok(())
}
