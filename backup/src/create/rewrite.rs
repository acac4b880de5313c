//! Packs of which the sources need little: what they need of them is stored again, so that they go.
//!
//! Only where content cannot be read: elsewhere a prune stores anew what is needed of a pack. Here nobody can but whoever reads
//! the sources. How much of a pack they need is told by the cache: what it names is what they were the last time. What snapshots
//! need beside that is told by the [`History`] of the job. So there are three reasons to leave a pack:
//!
//! 1. All that any snapshot needs of it is in the sources as well. Then it is said of these snapshots where it is now
//!    ([`crate::moved`]), and the pack goes.
//! 2. The snapshot will stay when those before it go, as the last of its week or month. What changes nearly every day lies in many
//!    packs then, of each of which it would keep a little for months: it gets packs of its own.
//! 3. Nothing is known of some snapshot. Then the pack goes with its snapshots, all of which are of before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chores_common::exit::chain;
use jiff::tz::TimeZone;

use super::history::{History, Known};
use crate::cache::{CacheReader, Record};
use crate::chunk::ChunkId;
use crate::index::{ChunkSet, Index, KnownPack, Place};
use crate::moved::Move;
use crate::pack::{PackId, PackKind, is_salt};
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::SnapshotId;
use crate::walk::SourceRoot;

#[cfg(test)]
mod tests;

/// Of a pack of which the sources need less than this, in percent of its content, nothing is referred to that another has too.
const AVOIDED_PERCENT: u64 = 75;

/// Where less of a pack than this is needed by anybody, in percent of its content, it is left for that.
const NEEDED_PERCENT: u64 = 75;

/// The same of what the last snapshot of a week or month needs of what was changed shortly before.
const YOUNG_PERCENT: u64 = 50;

/// The same of packs of which it is not known what snapshots need.
const LITTLE_PERCENT: u64 = 40;

/// In percent of what the sources need: so much is stored again in one run at the most, and as much once more in the last run of a
/// week or month.
const REWRITTEN_PERCENT: u64 = 5;

/// In percent of what the sources need: packs that were left for others may wait for a prune with so many bytes.
const WAITING_PERCENT: u64 = 15;

/// In percent of the length of all files: files of so many bytes are read only for that in one run at the most. A file of which one
/// piece lies in such a pack is read as a whole.
const READ_PERCENT: u64 = 10;

const PERCENT: u64 = 100;

/// Files that are looked at before the walk, in the last run of a week or month: whether what was young is still what it was.
const LOOKS_MAX: usize = 1 << 16;

/// Packs of which one move tells, as in a round of a prune: a document with more could get too long to be read.
const MOVE_PACKS: usize = 64;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// A run that comes less often than this, in seconds, tells nothing by being the last of its week …
const WEEKLY_SECONDS: i64 = 4 * DAY_SECONDS;

/// … or of its month.
const MONTHLY_SECONDS: i64 = 16 * DAY_SECONDS;

/// Chunks that the index had before, with the packs where they were stored again.
pub(super) type Again = HashMap<ChunkId, PackId>;

/// What a run makes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is referred to.
    Used,
    /// It is referred to for what is in no other.
    Avoided,
    /// It is not referred to: what is in no other is stored again, but for dumps, which nobody can read again.
    Left,
}

/// What a run makes of the packs of the index.
#[derive(Debug, Default)]
pub(super) struct Fates {
    /// By the packs' numbers; of all packs beyond the last it is [`Fate::Used`].
    pub(super) of_packs: Vec<Fate>,
    /// So many bytes may be stored again because their packs are left.
    pub(super) again_bytes_max: u64,
    /// What the run refers to is to be added to the history.
    pub(super) is_remembered: bool,
    /// What can be said when all of it is stored.
    pub(super) moving: Moving,
}

/// Packs that nobody needs any more when what is needed of them is stored again.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The snapshots of which it is known what they need.
    snapshots: BTreeSet<SnapshotId>,
    /// For each pack all that they need of it.
    packs: BTreeMap<PackId, Vec<ChunkId>>,
}

impl Moving {
    /// What can be said, of [`MOVE_PACKS`] in one: of packs of which all was stored again. A file may have changed before it was read.
    pub(super) fn done(&self, again: &Again) -> Vec<Move> {
        let into = |chunks: &[ChunkId]| -> Option<BTreeSet<_>> {
            chunks.iter().map(|id| again.get(id).copied()).collect()
        };
        let done = |(pack, chunks): (&PackId, &Vec<ChunkId>)| Some((*pack, into(chunks)?));
        let packs: Vec<_> = self.packs.iter().filter_map(done).collect();
        let one = |packs: &[(PackId, BTreeSet<PackId>)]| Move {
            snapshots: self.snapshots.clone(),
            packs: packs.iter().cloned().collect(),
        };
        packs.chunks(MOVE_PACKS).map(one).collect()
    }
}

/// Whose sources they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
    pub(super) roots: &'a [SourceRoot],
    /// Start of the run, in seconds.
    pub(super) time: i64,
    /// What was changed from this second on is young.
    pub(super) young_from: i64,
    /// Whether something may be stored again.
    pub(super) stores_again: bool,
    /// Whether something may be written into the repository at all.
    pub(super) is_dry: bool,
}

/// What becomes of the packs. `cache` opens that of the last run, which is read twice.
pub(super) fn fates(
    repository: &Repository,
    index: &Index,
    job: Job<'_>,
    cache: impl Fn() -> Option<CacheReader>,
    history: Option<&History>,
) -> Fates {
    if !repository.is_encrypted() || repository.can_read() {
        return Fates::default();
    }
    let is_remembered = history.is_some();
    let decided = cache().and_then(|reader| {
        let look = Look { repository, index, job, history };
        let warn = |error: &RepositoryError| {
            tracing::warn!("no old pack is left in this run: {}", chain(error));
        };
        look.decide(reader, cache).inspect_err(warn).ok()
    });
    Fates { is_remembered, ..decided.unwrap_or_default() }
}

/// Everything that is asked before it is decided.
struct Look<'a> {
    repository: &'a Repository,
    index: &'a Index,
    job: Job<'a>,
    history: Option<&'a History>,
}

impl Look<'_> {
    fn decide(
        &self,
        reader: CacheReader,
        cache: impl Fn() -> Option<CacheReader>,
    ) -> Result<Fates, RepositoryError> {
        let (index, job) = (self.index, self.job);
        let there = self.repository.snapshot_names()?.into_iter().map(|name| name.id).collect();
        let known = match self.history {
            Some(history) => history.read(&there, index),
            None => Known { runs: Vec::new(), needed: ChunkSet::none_of(0) },
        };
        let is_last = known.runs.last().is_some_and(|last| ends_period(last.time, job.time));
        let mut use_of = self.use_of(reader, is_last);
        let mut avoided = avoided(index, &use_of.used);
        if !avoided.contains(&true) {
            return Ok(Fates::default());
        }
        let snapshots: BTreeSet<_> = known.runs.iter().map(|run| run.snapshot).collect();
        let standing = self.standing(&avoided, &snapshots)?;
        for (avoided, others) in avoided.iter_mut().zip(&standing.is_of_others) {
            *avoided &= !others;
        }
        use_of.reads = vec![0; index.packs().len()];
        if job.stores_again
            && let Some(mut reader) = cache()
        {
            reader.each(|record| use_of.count_reads(index, &avoided, record));
        }
        let moves = self.repository.moves()?;
        let is_moved = |id: &PackId| moves.last_moved(id).is_some();
        let waiting = if moves.is_empty() {
            0
        } else {
            let stored = self.repository.stored_packs()?;
            stored.iter().filter(|(id, _)| is_moved(id)).map(|(_, bytes)| bytes).sum()
        };
        let mut needed = known.needed;
        needed.join(&use_of.used);
        let choice = Choice {
            index,
            avoided,
            needed,
            is_unknown: standing.is_unknown,
            is_moved: index.packs().iter().map(|pack| is_moved(&pack.id)).collect(),
            is_last,
            stores_again: job.stores_again,
            waiting,
        };
        Ok(choice.decide(&use_of, snapshots, || self.may_move()))
    }

    /// What the sources were the last time. Of what was young it is looked what it is now, where that matters.
    fn use_of(&self, mut reader: CacheReader, is_last: bool) -> Use {
        let none = || ChunkSet::none_of(self.index.chunk_count());
        let (mut used, mut young) = (none(), none());
        let (mut files_bytes, mut looks) = (0, 0);
        reader.each(|record| {
            files_bytes += record.size();
            let is_young = record.modified() >= self.job.young_from;
            if is_last && is_young && looks < LOOKS_MAX && !record.is_read_again() {
                looks += 1;
                let stat = self.job.roots.iter().find_map(|root| root.stat_of(record.path()));
                if stat.is_none_or(|stat| !record.is_unchanged(&stat)) {
                    return;
                }
            }
            for chunk in record.ids().filter_map(|id| self.index.position(&id)) {
                used.add(chunk);
                if is_young {
                    young.add(chunk);
                }
            }
        });
        Use { used, young, files_bytes, reads: Vec::new() }
    }

    /// Who needs these packs. What others need, they would have twice.
    fn standing(
        &self,
        avoided: &[bool],
        known: &BTreeSet<SnapshotId>,
    ) -> Result<Standing, RepositoryError> {
        let packs = self.index.numbered_packs();
        let numbers: HashMap<_, _> = packs
            .map(|(number, pack)| (pack.id, number.as_usize()))
            .filter(|(_, number)| avoided.get(*number) == Some(&true))
            .collect();
        // No more of a document is kept: it lists every pack of its snapshot.
        let read = self.repository.snapshots_as(|name, snapshot| {
            let is_ours = snapshot.name == self.job.name && snapshot.host == self.job.host;
            let is_known = known.contains(&name.id);
            let packs = if is_known { Vec::new() } else { snapshot.packs };
            let packs = packs.iter().filter_map(|pack| numbers.get(pack).copied());
            (is_ours, packs.collect::<Vec<_>>())
        })?;
        let all = || vec![false; self.index.packs().len()];
        let mut standing = Standing { is_of_others: all(), is_unknown: all() };
        for of_snapshot in read {
            let (is_ours, packs) = of_snapshot?;
            for number in packs {
                if let Some(is_unknown) = standing.is_unknown.get_mut(number) {
                    *is_unknown = true;
                }
                if let Some(is_of_others) = standing.is_of_others.get_mut(number) {
                    *is_of_others |= !is_ours;
                }
            }
        }
        Ok(standing)
    }

    /// Whether moves can be written here: else nothing is stored again for their sake.
    fn may_move(&self) -> bool {
        if self.job.is_dry {
            return false;
        }
        let announced = self.repository.permit(Operation::Delete);
        let announced = announced.and_then(|()| self.repository.announce_moves());
        if let Err(error) = &announced {
            tracing::debug!("nothing is moved: {}", chain(error));
        }
        announced.is_ok()
    }
}

/// Who needs packs, by their numbers.
struct Standing {
    /// A snapshot of another name or host.
    is_of_others: Vec<bool>,
    /// A snapshot of which nothing is known.
    is_unknown: Vec<bool>,
}

/// Whether a run is expected to be the last of its week or month, by how long ago the last one was: rules of retention keep its
/// snapshot when those before it go. In UTC, as they have it.
fn ends_period(last: i64, now: i64) -> bool {
    let interval = now.saturating_sub(last);
    if interval <= 0 || interval > MONTHLY_SECONDS {
        return false;
    }
    let date = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(time.to_zoned(TimeZone::UTC).date())
    };
    let (Some(today), Some(next)) = (date(now), date(now.saturating_add(interval))) else {
        return false;
    };
    let week = |date: jiff::civil::Date| (date.iso_week_date().year(), date.iso_week_date().week());
    let ends_week = interval <= WEEKLY_SECONDS && week(today) != week(next);
    ends_week || (today.year(), today.month()) != (next.year(), next.month())
}

/// What the sources were the last time.
#[derive(Debug)]
struct Use {
    /// Their chunks.
    used: ChunkSet,
    /// Those of files that were changed shortly before.
    young: ChunkSet,
    /// Length of their files in bytes.
    files_bytes: u64,
    /// For each pack: bytes of files that are read only because it is left.
    reads: Vec<u64>,
}

impl Use {
    /// Counts a file for every pack that it would have to be read for.
    fn count_reads(&mut self, index: &Index, avoided: &[bool], record: &Record<'_>) {
        if record.is_read_again() {
            return;
        }
        let is_avoided = |place: &Place| avoided.get(place.pack.as_usize()) == Some(&true);
        let places = record.ids().filter_map(|id| Some((id, index.find(&id)?)));
        let only = places.filter(|(id, place)| {
            is_avoided(place) && index.copies(id).all(|copy| is_avoided(&copy))
        });
        let packs: BTreeSet<_> = only.map(|(_, place)| place.pack.as_usize()).collect();
        for pack in packs {
            if let Some(reads) = self.reads.get_mut(pack) {
                *reads = reads.saturating_add(record.size());
            }
        }
    }
}

/// Of which packs the sources use little, by their numbers.
fn avoided(index: &Index, used: &ChunkSet) -> Vec<bool> {
    let is_little = |(pack, (used, all)): (&KnownPack, (u64, u64))| {
        pack.kind == PackKind::Data && used > 0 && is_below(used, all, AVOIDED_PERCENT)
    };
    let shares = bytes_of(index, used).into_iter().zip(bytes_of_all(index));
    index.packs().iter().zip(shares).map(is_little).collect()
}

fn is_below(part: u64, all: u64, percent: u64) -> bool {
    part.saturating_mul(PERCENT) < all.saturating_mul(percent)
}

/// How much of each pack these chunks are, in bytes.
fn bytes_of(index: &Index, chunks: &ChunkSet) -> Vec<u64> {
    bytes_where(index, |chunk, _| chunks.has(chunk))
}

/// How much all chunks of each pack are, in bytes. A pack is longer, and one of a few small files by far: all of it may be needed.
fn bytes_of_all(index: &Index) -> Vec<u64> {
    bytes_where(index, |_, place| !is_salt(place.length))
}

fn bytes_where(index: &Index, is_meant: impl Fn(usize, &Place) -> bool) -> Vec<u64> {
    let mut bytes = vec![0_u64; index.packs().len()];
    for (_, _, place) in index.places().filter(|(chunk, _, place)| is_meant(*chunk, place)) {
        if let Some(bytes) = bytes.get_mut(place.pack.as_usize()) {
            *bytes += stored_bytes(index, place);
        }
    }
    bytes
}

/// What is known of the packs, by their numbers.
struct Choice<'a> {
    index: &'a Index,
    /// Little of it is used, and that by nobody else.
    avoided: Vec<bool>,
    /// What the sources or any known snapshot may need.
    needed: ChunkSet,
    is_unknown: Vec<bool>,
    /// It was left for others before.
    is_moved: Vec<bool>,
    /// The run is the last of its week or month.
    is_last: bool,
    stores_again: bool,
    /// Bytes of packs that were left for others and are there still.
    waiting: u64,
}

/// A pack that may be left.
struct Candidate {
    number: usize,
    id: PackId,
    /// Its length in bytes.
    bytes: u64,
    /// How much its chunks are.
    all: u64,
    /// How much of it the sources use, in bytes.
    used: u64,
    /// What of it is young.
    young: u64,
    /// How much of it anybody may need.
    needed: u64,
    /// What would have to be stored again.
    cost: u64,
    reads: u64,
}

/// What may be left yet.
struct Room {
    bytes: u64,
    reads: u64,
    fates: Vec<Fate>,
}

impl Room {
    fn leave(&mut self, pack: &Candidate) -> bool {
        let Some(fate) = self.fates.get_mut(pack.number) else { return false };
        if *fate != Fate::Avoided || pack.cost > self.bytes || pack.reads > self.reads {
            return false;
        }
        self.bytes -= pack.cost;
        self.reads -= pack.reads;
        *fate = Fate::Left;
        true
    }
}

impl Choice<'_> {
    /// Which packs are left: of each kind those first of which the least is needed. `snapshots` are those that are known, `may_move`
    /// is asked once when it matters.
    fn decide(
        &self,
        use_of: &Use,
        snapshots: BTreeSet<SnapshotId>,
        may_move: impl FnOnce() -> bool,
    ) -> Fates {
        let fate = |avoided: &bool| if *avoided { Fate::Avoided } else { Fate::Used };
        let mut fates: Vec<_> = self.avoided.iter().map(fate).collect();
        let candidates = self.candidates(use_of);
        let mut by_use: Vec<_> = candidates.iter().collect();
        by_use.sort_by_key(|pack| (pack.used * PERCENT / pack.all.max(1), pack.id));
        self.leave_doubles(&by_use, use_of, &mut fates);
        if !self.stores_again {
            return Fates { of_packs: fates, ..Fates::default() };
        }
        let total = self.total(use_of);
        let bytes = total / PERCENT * REWRITTEN_PERCENT;
        let reads = use_of.files_bytes / PERCENT * READ_PERCENT;
        let mut room = Room { bytes, reads, fates };
        let mut moving = Moving { snapshots, packs: BTreeMap::new() };
        let mut again_bytes_max = bytes;
        let mut movable = self.movable(&candidates, use_of);
        if !movable.is_empty() && may_move() {
            let mut waiting = self.waiting;
            let waiting_max = total / PERCENT * WAITING_PERCENT;
            movable.sort_by_key(|(pack, _)| (pack.needed * PERCENT / pack.all.max(1), pack.id));
            for (pack, chunks) in movable {
                let is_alone = chunks.iter().all(|id| self.is_only_in(id, pack, &room.fates));
                if is_alone && waiting + pack.bytes <= waiting_max && room.leave(pack) {
                    waiting += pack.bytes;
                    moving.packs.insert(pack.id, chunks);
                }
            }
        }
        let is = |set: &[bool], pack: &Candidate| set.get(pack.number) == Some(&true);
        let is_stranger = |pack: &&&Candidate| {
            is(&self.is_unknown, pack) && is_below(pack.used, pack.all, LITTLE_PERCENT)
        };
        for pack in by_use.iter().filter(is_stranger) {
            room.leave(pack);
        }
        if self.is_last {
            room.bytes += bytes;
            again_bytes_max += bytes;
            let is_young = |pack: &&&Candidate| {
                is_below(pack.used, pack.all, YOUNG_PERCENT) && pack.young * 2 > pack.used
            };
            for pack in by_use.iter().filter(is_young) {
                room.leave(pack);
            }
        }
        if !room.fates.contains(&Fate::Left) {
            again_bytes_max = 0;
        }
        Fates { of_packs: room.fates, again_bytes_max, moving, ..Fates::default() }
    }

    fn candidates(&self, use_of: &Use) -> Vec<Candidate> {
        let all = bytes_of_all(self.index);
        let used = bytes_of(self.index, &use_of.used);
        let young = bytes_of(self.index, &use_of.young);
        let needed = bytes_of(self.index, &self.needed);
        let mut costs = vec![0_u64; used.len()];
        for (_, id, place) in self.avoided_places(&use_of.used) {
            if self.places(id).all(|place| self.is_avoided(&place))
                && let Some(cost) = costs.get_mut(place.pack.as_usize())
            {
                *cost += stored_bytes(self.index, place);
            }
        }
        let of = |all: &[u64], number: usize| all.get(number).copied().unwrap_or_default();
        let candidate = |(number, pack): (usize, &KnownPack)| Candidate {
            number,
            id: pack.id,
            bytes: pack.bytes,
            all: of(&all, number),
            used: of(&used, number),
            young: of(&young, number),
            needed: of(&needed, number),
            cost: of(&costs, number),
            reads: of(&use_of.reads, number),
        };
        let packs = self.index.packs().iter().enumerate();
        packs
            .filter(|(number, _)| self.avoided.get(*number) == Some(&true))
            .map(candidate)
            .collect()
    }

    /// Places of these chunks in packs that are avoided.
    fn avoided_places<'b>(
        &'b self,
        chunks: &'b ChunkSet,
    ) -> impl Iterator<Item = (usize, &'b ChunkId, &'b Place)> {
        let places = self.index.places();
        places.filter(|(chunk, _, place)| self.is_avoided(place) && chunks.has(*chunk))
    }

    fn is_avoided(&self, place: &Place) -> bool {
        self.avoided.get(place.pack.as_usize()) == Some(&true)
    }

    /// What the sources need, in bytes.
    fn total(&self, use_of: &Use) -> u64 {
        let chunks = self.index.chunks().iter().enumerate();
        let used = chunks.filter(|(chunk, _)| use_of.used.has(*chunk));
        used.map(|(_, (_, place))| stored_bytes(self.index, place)).sum()
    }

    /// Packs of which the sources have all that anybody needs, each with that.
    fn movable<'a>(
        &self,
        candidates: &'a [Candidate],
        use_of: &Use,
    ) -> Vec<(&'a Candidate, Vec<ChunkId>)> {
        let is = |set: &[bool], pack: &Candidate| set.get(pack.number) == Some(&true);
        let worth = candidates.iter().filter(|pack| {
            let is_ours = !is(&self.is_unknown, pack) && !is(&self.is_moved, pack);
            is_ours && is_below(pack.needed, pack.all, NEEDED_PERCENT)
        });
        let mut chunks = self.chunks_of(worth, &self.needed);
        chunks.retain(|(_, chunks)| chunks.iter().all(|(chunk, _)| use_of.used.has(*chunk)));
        let ids = |chunks: Vec<(usize, ChunkId)>| chunks.into_iter().map(|(_, id)| id).collect();
        chunks.into_iter().map(|(pack, chunks)| (pack, ids(chunks))).collect()
    }

    /// Those chunks of each of these packs that are in `set`, with their numbers in the index.
    fn chunks_of<'a>(
        &self,
        packs: impl Iterator<Item = &'a Candidate>,
        set: &ChunkSet,
    ) -> Vec<(&'a Candidate, Vec<(usize, ChunkId)>)> {
        let mut of_packs: Vec<_> = packs.map(|pack| (pack, Vec::new())).collect();
        let places = of_packs.iter().enumerate();
        let places: HashMap<_, _> = places.map(|(at, (pack, _))| (pack.number, at)).collect();
        for (chunk, id, place) in self.index.places().filter(|(chunk, ..)| set.has(*chunk)) {
            let at = places.get(&place.pack.as_usize());
            if let Some((_, chunks)) = at.and_then(|at| of_packs.get_mut(*at)) {
                chunks.push((chunk, *id));
            }
        }
        of_packs
    }

    /// Packs of which all that the sources use lies in others too, of which they use more: that costs nothing.
    fn leave_doubles(&self, by_use: &[&Candidate], use_of: &Use, fates: &mut [Fate]) {
        let mut shared = vec![0_u64; fates.len()];
        for (_, id, place) in self.avoided_places(&use_of.used) {
            if self.index.copies(id).next().is_some()
                && let Some(shared) = shared.get_mut(place.pack.as_usize())
            {
                *shared += stored_bytes(self.index, place);
            }
        }
        let is_shared = |pack: &&Candidate| shared.get(pack.number) == Some(&pack.used);
        let doubles = by_use.iter().copied().filter(is_shared);
        for (pack, chunks) in self.chunks_of(doubles, &use_of.used) {
            let is_elsewhere = |place: Place| {
                let number = place.pack.as_usize();
                number != pack.number && fates.get(number).is_some_and(|fate| *fate != Fate::Left)
            };
            let is_left = chunks.iter().all(|(_, id)| self.places(id).any(is_elsewhere));
            if is_left && let Some(fate) = fates.get_mut(pack.number) {
                *fate = Fate::Left;
            }
        }
    }

    /// Everywhere where the chunk is.
    fn places<'b>(&'b self, id: &'b ChunkId) -> impl Iterator<Item = Place> + 'b {
        self.index.find(id).into_iter().chain(self.index.copies(id))
    }

    /// Whether the chunk is in no pack but this one and those that are left: content that is elsewhere is not stored again, and
    /// moves are into new packs only.
    fn is_only_in(&self, id: &ChunkId, pack: &Candidate, fates: &[Fate]) -> bool {
        self.places(id).all(|place| {
            let number = place.pack.as_usize();
            number == pack.number || fates.get(number) == Some(&Fate::Left)
        })
    }
}

/// A chunk's part of its compressed frame.
pub(super) fn stored_bytes(index: &Index, place: &Place) -> u64 {
    let pack = index.pack(place.pack);
    pack.and_then(|pack| pack.frames.get(place.frame as usize)).map_or(0, |frame| {
        u64::from(frame.stored) * u64::from(place.length) / u64::from(frame.content).max(1)
    })
}
