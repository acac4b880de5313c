//! What no snapshot needs any more goes, while others write and without any lock.
//!
//! Each run marks what is unneeded, and deletes what was marked long enough ago and is unneeded still ([`plan`]). Why
//! that is safe beside writers is said in [`crate::create::commit`]: nothing here relies on how long anything takes.
//! No content is read for that, so a machine that cannot read the backups can do it. One that can also stores anew what
//! is needed of packs of which the rest is not ([`choose`]).

pub mod choose;
mod live;
mod output;
pub mod plan;
mod repack;
mod sweep;
mod young;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use chores_common::exit::chain;
use chores_common::object::{ErrorKind, ObjectMeta};
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::alive;
use crate::index::IndexedPack;
use crate::mark;
use crate::moved::{self, At, BYTES_MAX, Moves};
use crate::pack::PackId;
use crate::reader::ReadError;
use crate::repository::{IndexObject, Operation, Repository, RepositoryError};
use crate::snapshot::{Snapshot, SnapshotId, SnapshotName};
use choose::{RepackRules, Unused, choose, loads};
use plan::{Plan, Rules, Stock, StoredPack, plan};
use repack::Repack;

pub use output::{write_json, write_text};
pub use sweep::Swept;
pub use young::Young;

#[cfg(test)]
pub(crate) mod tests;

/// Packs that are deleted between two looks at the request to stop.
const BATCH: usize = 64;

/// Index objects are joined up to this many bytes.
const INDEX_TARGET_BYTES: usize = 16 << 20;

/// Lists of moves are joined when there are more.
const MOVE_OBJECTS_MAX: usize = 16;

/// How to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Grace and budget.
    pub rules: Rules,
    /// What is stored anew.
    pub repack: RepackRules,
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
    /// Not marked yet, since it is young.
    pub young: Young,
    /// Runs that are at work for long: what was marked since they began waits for them.
    pub runs: usize,
    /// Index objects that named what is gone, and were written anew without it.
    pub indexes_rewritten: u64,
    /// Whether packs were looked into.
    pub repacking: Repacking,
    /// Bytes in needed packs that nobody needs, before any was stored anew.
    pub unused: u64,
    /// Packs that were stored anew; the old ones go when nobody can refer to them any more.
    pub repacked: Sum,
    /// What they became; how many packs is not known before.
    pub rewritten: Sum,
    /// Packs that were not stored anew because something in them is damaged.
    pub damaged: u64,
    /// Index objects that cannot be read.
    pub damaged_indexes: u64,
    /// Snapshots whose trees cannot be read, so that nobody knows what they need of their packs.
    pub unread: u64,
    /// Due and locked.
    pub held: Sum,
    /// When the first of these locks ends.
    pub next_unlocked: Option<SystemTime>,
    /// Packs that the store did not let go.
    pub refused: u64,
    /// What became of old versions, where there are locks.
    pub swept: Swept,
}

impl PruneReport {
    /// Whether a person has to look: something is damaged, was written over, or does not go. What only waits is none of that.
    #[must_use]
    pub fn needs_a_look(&self) -> bool {
        let Swept { refused, unlisted, written_over, .. } = self.swept;
        let damaged = [self.damaged, self.damaged_indexes, self.unread, written_over];
        damaged.iter().chain(&[self.refused, refused, unlisted]).any(|count| *count > 0)
    }
}

/// Whether packs of which only a part is needed were looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repacking {
    /// They were.
    Done,
    /// Nobody asked for it, or there is no snapshot.
    #[default]
    Off,
    /// That needs the private key.
    NoIdentity,
    /// That needs the key file.
    NoKeyFile,
    /// What would be stored anew, the private key that was given would not read: it is that of a former recipient.
    OtherIdentity,
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
    /// Content cannot be read, and that is no damage.
    #[error("what snapshots need cannot be read, and nothing more was pruned")]
    Read(#[source] ReadError),
    /// The compressor failed.
    #[error("cannot compress")]
    Compress(#[source] std::io::Error),
    /// The store does not tell when it wrote an object.
    #[error("the store does not tell the time of its objects, and nothing can be pruned without")]
    NoClock,
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0} packs were deleted, the next prune goes on")]
    Interrupted(u64),
}

impl PruneError {
    /// The same, when so many packs were deleted before.
    fn after(self, deleted: u64) -> Self {
        match self {
            Self::Interrupted(_) => Self::Interrupted(deleted),
            error => error,
        }
    }
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
    let damaged_indexes = damaged_indexes(&index);
    let packs: BTreeMap<_, _> =
        repository.pack_objects()?.iter().map(|(id, object)| (*id, stored(object))).collect();
    let (snapshots, strangers) = repository.snapshot_keys()?;
    if let Some(key) = strangers.into_iter().next() {
        return Err(PruneError::Stranger(key));
    }
    let documents = documents(repository, &snapshots)?;
    let needed = needed(repository, &documents, &packs)?;
    if snapshots.is_empty() && !packs.is_empty() && !options.even_all {
        return Err(PruneError::NoSnapshot(packs.len()));
    }
    refuse_missing(repository, &documents, &needed.missing)?;

    let moved = packs.keys().filter_map(|id| Some((*id, needed.moves.last_moved(id)?)));
    let mut stock = Stock {
        now,
        moved: moved.collect(),
        packs,
        needed: needed.packs.clone(),
        marks,
        runs: runs.iter().map(|run| run.begun).collect(),
        locked: HashMap::new(),
    };
    let plan = plan_unlocked(repository, &mut stock, options.rules)?;
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
        young: young::young(&stock, &plan, options.rules.grace),
        held: Sum::of(&plan.held, &stock.packs),
        next_unlocked: plan.next_unlocked,
        runs: runs.len(),
        repacking: repacking(repository, options, &snapshots)?,
        damaged_indexes,
        ..PruneReport::default()
    };
    if !options.dry_run {
        progress.set_totals(report.deleted.packs, report.deleted.bytes);
        if !plan.mark.is_empty() || !plan.delete.is_empty() {
            repository.announce_marks()?;
        }
        let marked = write_marks(repository, &plan, &documents, &stock.packs)?;
        report.marked = Sum::of(&marked, &stock.packs);
        let going: HashSet<_> = plan.delete.iter().collect();
        report.indexes_rewritten = rewrite_index(repository, index, &|id| {
            stock.packs.contains_key(id) && !going.contains(id) && !needed.is_replaced(id)
        })?;
        let refused = delete(repository, &plan, &stock, progress, shutdown)?;
        report.refused = refused.len() as u64;
        report.deleted =
            Sum::of(plan.delete.iter().filter(|id| !refused.contains(*id)), &stock.packs);
        let stays = |mark: &&mark::Mark| mark.packs.is_disjoint(&refused);
        let done = |mark: &&mark::Mark| plan.done.contains(&mark.key);
        for mark in stock.marks.iter().filter(done).filter(stays) {
            repository.remove_mark(&mark.key)?;
        }
        alive::remove_silent(repository.store(), now).map_err(RepositoryError::from)?;
        tidy_moves(repository, &needed.moves)?;
        report.swept = sweep::sweep(repository, now, &needed.packs, shutdown)
            .map_err(|error| error.after(report.deleted.packs))?;
    } else {
        // Before another one is read.
        drop(index);
    }
    if report.repacking == Repacking::Done {
        let seen = (&needed, &plan.held);
        repack(repository, options, seen, &documents, &mut report, progress, shutdown)
            .map_err(|error| error.after(report.deleted.packs))?;
    }
    Ok(report)
}

/// How many index objects cannot be read. What they name is found elsewhere, so this hurts nobody yet.
fn damaged_indexes(index: &[IndexObject]) -> u64 {
    let damaged = index.iter().filter_map(|(key, read)| Some((key, read.as_ref().err()?)));
    damaged.inspect(|(key, error)| tracing::warn!("{key}: {}", chain(*error))).count() as u64
}

/// Whether this machine may look for packs of which only a part is needed.
fn repacking(
    repository: &Repository,
    options: &PruneOptions,
    snapshots: &[SnapshotName],
) -> Result<Repacking, PruneError> {
    if options.repack.max_unused == Unused::Unlimited || snapshots.is_empty() {
        return Ok(Repacking::Off);
    }
    if !repository.can_read() {
        return Ok(Repacking::NoIdentity);
    }
    match repository.permit(Operation::Write) {
        Ok(()) => Ok(Repacking::Done),
        Err(RepositoryError::NoKeyFile(_)) => Ok(Repacking::NoKeyFile),
        Err(RepositoryError::OtherIdentity(_)) => Ok(Repacking::OtherIdentity),
        Err(error) => Err(error.into()),
    }
}

/// What is to be done, with the locks of what would be deleted: of other packs nobody has to ask.
fn plan_unlocked(
    repository: &Repository,
    stock: &mut Stock,
    rules: Rules,
) -> Result<Plan, PruneError> {
    let mut asked = HashSet::new();
    loop {
        let plan = plan(stock, rules);
        if repository.lock().is_none() {
            return Ok(plan);
        }
        let unknown: Vec<_> = (plan.delete.iter())
            .filter(|id| !asked.contains(*id))
            .filter_map(|id| Some((*id, stock.packs.get(id)?.modified)))
            .collect();
        // What was held instead leaves room in the budget for others. Each is asked for once, so this ends.
        if unknown.is_empty() {
            return Ok(plan);
        }
        stock.locked.extend(repository.locked(&unknown, stock.now)?);
        asked.extend(unknown.into_iter().map(|(id, _)| id));
    }
}

/// What time it is to the store.
fn clock(repository: &Repository) -> Result<SystemTime, PruneError> {
    let told = repository.store().clock().map_err(RepositoryError::from)?;
    told.ok_or(PruneError::NoClock)
}

fn stored(object: &ObjectMeta) -> StoredPack {
    StoredPack { bytes: object.size, modified: object.modified }
}

/// These snapshots as they were written. Every one of them must be readable.
fn documents(
    repository: &Repository,
    names: &[SnapshotName],
) -> Result<Vec<(SnapshotName, Snapshot)>, PruneError> {
    let mut documents = Vec::with_capacity(names.len());
    for (name, read) in repository.documents_of(names) {
        match read {
            Ok(snapshot) => documents.push((name, snapshot)),
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
    Ok(documents)
}

/// What all snapshots need.
struct Needed {
    /// Packs that must stay.
    packs: HashSet<PackId>,
    /// Packs that are not there, nor is what they held.
    missing: HashSet<PackId>,
    moves: Moves,
}

impl Needed {
    /// Whether all that anybody needs of a pack is elsewhere.
    fn is_replaced(&self, id: &PackId) -> bool {
        !self.packs.contains(id) && self.moves.last_moved(id).is_some()
    }
}

/// What these snapshots need. `listed` are the packs that were there before; where content was moved, it is looked again, behind
/// the moves and the marks: see [`Moves::needs`].
fn needed<T>(
    repository: &Repository,
    documents: &[(SnapshotName, Snapshot)],
    listed: &BTreeMap<PackId, T>,
) -> Result<Needed, PruneError> {
    let moves = repository.moves()?;
    let (mut marked, mut stored) = (HashSet::new(), None);
    if !moves.is_empty() {
        marked = repository.marked_packs()?;
        stored = Some(repository.stored_packs()?);
    }
    let is_there = |id: &PackId| match &stored {
        Some(stored) => stored.contains_key(id),
        None => listed.contains_key(id),
    };
    let at = |id: &PackId| match (is_there(id), marked.contains(id)) {
        (false, _) => At::Gone,
        (true, true) => At::Marked,
        (true, false) => At::Stays,
    };
    let (mut packs, mut missing) = (HashSet::new(), HashSet::new());
    for (name, snapshot) in documents {
        let needs = moves.needs(name.id, &snapshot.packs, &at);
        packs.extend(needs.packs);
        missing.extend(needs.missing);
    }
    Ok(Needed { packs, missing, moves })
}

/// Copies of lost chunks may lie in packs that no snapshot names: while one is missing that is needed, all stay.
fn refuse_missing(
    repository: &Repository,
    documents: &[(SnapshotName, Snapshot)],
    missing: &HashSet<PackId>,
) -> Result<(), PruneError> {
    if missing.is_empty() {
        return Ok(());
    }
    // A backup may have been made since the listing, or one be forgotten, or taken back by its run that has missed the same.
    let now = repository.stored_packs()?;
    let there: HashSet<_> = repository.snapshot_names()?.into_iter().map(|name| name.id).collect();
    let left = documents.iter().filter(|(name, _)| there.contains(&name.id));
    let left: Vec<_> = left.cloned().collect();
    let still = needed(repository, &left, &now)?.missing;
    match missing.intersection(&still).count() {
        0 => Ok(()),
        missing => Err(PruneError::Missing(missing)),
    }
}

/// Removes lists of moves that concern nobody any more, and makes few of many.
fn tidy_moves(repository: &Repository, moves: &Moves) -> Result<(), PruneError> {
    if moves.objects().is_empty() {
        return Ok(());
    }
    // Another change of the document may have been written over it.
    repository.announce_moves()?;
    // Listed behind the moves: a snapshot that one of them names was there before it.
    let there = repository.snapshot_names()?.into_iter().map(|name| name.id).collect();
    let done = moves.done(&there);
    for key in &done {
        repository.remove_moves(key)?;
    }
    if !done.is_empty() {
        return Ok(());
    }
    if moves.objects().len() <= MOVE_OBJECTS_MAX {
        return Ok(());
    }
    let joined = moved::parts(moves.joined(&there), BYTES_MAX);
    // Of many long ones as many are left, and to write them again each time is of no use.
    if joined.is_empty() || joined.len() > moves.objects().len() / 2 {
        return Ok(());
    }
    let keys = joined.iter().map(|part| repository.put_moves(part));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    // One that had this name before may be what another prune is about to remove, because it has stored a longer one.
    let is_new = moves.objects().iter().all(|object| !keys.contains(&object.key));
    let now = repository.moves()?;
    if !is_new || !keys.iter().zip(&joined).all(|(key, part)| now.says(key, part)) {
        return Ok(());
    }
    for object in moves.objects() {
        repository.remove_moves(&object.key)?;
    }
    Ok(())
}

/// Stores anew what is needed of the worst packs, or only says of which.
fn repack(
    repository: &Repository,
    options: &PruneOptions,
    (needed, held): (&Needed, &BTreeSet<PackId>),
    documents: &[(SnapshotName, Snapshot)],
    report: &mut PruneReport,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<(), PruneError> {
    let mut objects = repository.index_objects()?;
    let marked = repository.marked_packs()?;
    let stored = repository.stored_packs()?;
    objects.packs.retain(|pack| stored.contains_key(&pack.id) && !marked.contains(&pack.id));
    let for_us: HashSet<_> = (objects.packs.iter())
        .filter(|pack| repository.is_for_us(pack))
        .map(|pack| pack.id)
        .collect();
    let mut followed = documents.to_vec();
    for (name, snapshot) in &mut followed {
        let is_there = |id: &PackId| stored.contains_key(id);
        snapshot.packs = needed.moves.followed(name.id, &snapshot.packs, &is_there);
    }
    let (index, _) =
        repository.complete_index(objects, followed.iter().map(|(_, snapshot)| snapshot));
    progress.set_totals(followed.len() as u64, 0);
    let beat = || {
        if !options.dry_run {
            repository.beat();
        }
    };
    let found = live::find(repository, &index, &followed, &beat, progress, shutdown)?;
    report.unread = followed.len().saturating_sub(found.read.len()) as u64;
    // What a tree that cannot be read needs may be anywhere in its packs.
    let unread = followed.iter().filter(|(name, _)| !found.read.contains(&name.id));
    let pinned: HashSet<_> = unread.flat_map(|(_, snapshot)| &snapshot.packs).collect();
    let is_needed =
        |id: &PackId| needed.packs.contains(id) && stored.contains_key(id) && !marked.contains(id);
    let needed_packs: Vec<_> = index.packs().iter().map(|pack| is_needed(&pack.id)).collect();
    let for_us = |id: &PackId| !repository.is_encrypted() || for_us.contains(id);
    let is_free = |id: &PackId| is_needed(id) && for_us(id) && !pinned.contains(id);
    let free: Vec<_> = index.packs().iter().map(|pack| is_free(&pack.id)).collect();
    let loads = loads(&index, &found.live, &needed_packs, &free);
    let stored_bytes = stored.values().sum::<u64>();
    let needed_bytes: u64 =
        stored.iter().filter(|(id, _)| is_needed(id)).map(|(_, bytes)| bytes).sum();
    report.unused = loads.iter().map(|load| load.bytes.saturating_sub(load.used)).sum();
    // What waits because of a lock would brake for ever; what was stored anew is there twice until then, and does.
    let is_plain = |id: &&PackId| needed.moves.last_moved(id).is_none();
    let held_bytes: u64 = held.iter().filter(is_plain).filter_map(|id| stored.get(id)).sum();
    let waiting_bytes = stored_bytes.saturating_sub(needed_bytes).saturating_sub(held_bytes);
    let chosen = choose(&loads, options.repack, waiting_bytes);
    if options.dry_run || chosen.is_empty() {
        let sum = |of: fn(&choose::Load) -> u64| chosen.iter().map(of).sum::<u64>();
        report.repacked = Sum { packs: chosen.len() as u64, bytes: sum(|load| load.bytes) };
        report.rewritten = Sum { packs: 0, bytes: sum(|load| load.used) };
        return Ok(());
    }
    repository.announce_moves()?;
    let (index, live, snapshots) = (&index, &found.live, &found.read);
    let done = Repack { repository, index, live, snapshots, stored_bytes, progress, shutdown }
        .run(&chosen)?;
    report.repacked = Sum { packs: done.packs, bytes: done.bytes };
    report.rewritten = Sum { packs: done.new_packs, bytes: done.new_bytes };
    report.damaged = done.damaged;
    report.indexes_rewritten += forget_replaced(repository, documents)?;
    Ok(())
}

/// Takes packs out of the indexes all of whose content is elsewhere now: who begins from now on does not refer to them.
fn forget_replaced(
    repository: &Repository,
    seen: &[(SnapshotName, Snapshot)],
) -> Result<u64, PruneError> {
    let index = repository.index_objects_by_key()?;
    let stored = repository.stored_packs()?;
    let known: BTreeSet<_> = seen.iter().map(|(name, _)| name.id).collect();
    let mut since = repository.snapshot_names()?;
    since.retain(|name| !known.contains(&name.id));
    let since = documents(repository, &since)?;
    let mut of_all = needed(repository, seen, &stored)?;
    of_all.packs.extend(needed(repository, &since, &stored)?.packs);
    let needed = of_all;
    rewrite_index(repository, index, &|id| stored.contains_key(id) && !needed.is_replaced(id))
}

/// Marks what the plan says, but for what is needed because of snapshots and moves that came since: these would keep marked
/// packs for ever.
fn write_marks(
    repository: &Repository,
    plan: &Plan,
    seen: &[(SnapshotName, Snapshot)],
    packs: &BTreeMap<PackId, StoredPack>,
) -> Result<Vec<PackId>, PruneError> {
    if plan.mark.is_empty() {
        return Ok(Vec::new());
    }
    let known: BTreeSet<_> = seen.iter().map(|(name, _)| name.id).collect();
    let mut since = repository.snapshot_names()?;
    since.retain(|name| !known.contains(&name.id));
    let since = documents(repository, &since)?;
    let mut needed_now = needed(repository, seen, packs)?.packs;
    needed_now.extend(needed(repository, &since, packs)?.packs);
    let marked: Vec<_> = plan.mark.iter().filter(|id| !needed_now.contains(*id)).copied().collect();
    for some in marked.chunks(mark::PACKS_MAX) {
        let (key, bytes) = mark::encode(some, jiff::Timestamp::now(), repository.key());
        repository.store().put(&key, bytes).map_err(RepositoryError::from)?;
    }
    Ok(marked)
}

/// Writes index objects anew that name what does not stay: writers would refer to it.
fn rewrite_index(
    repository: &Repository,
    index: Vec<IndexObject>,
    stays: &dyn Fn(&PackId) -> bool,
) -> Result<u64, PruneError> {
    let stays = |pack: &IndexedPack| stays(&pack.id);
    let mut old = Vec::new();
    // Apart by what sealed them.
    let mut kept: BTreeMap<_, BTreeMap<PackId, IndexedPack>> = BTreeMap::new();
    // Unreadable ones stay, and were counted.
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
) -> Result<BTreeSet<PackId>, PruneError> {
    let mut deleted = 0;
    let mut refused = BTreeSet::new();
    for some in plan.delete.chunks(BATCH) {
        if shutdown.is_requested() {
            return Err(PruneError::Interrupted(deleted));
        }
        refused.extend(repository.remove_packs(some)?);
        deleted += some.len() as u64;
        progress.add_files(some.len() as u64);
        progress.add_bytes(Sum::of(some, &stock.packs).bytes);
    }
    Ok(refused)
}
