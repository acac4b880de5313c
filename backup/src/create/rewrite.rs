//! Packs of which the sources need little: what they need of them is stored again, so that they go with their snapshots.
//!
//! Only where content cannot be read: elsewhere a prune stores anew what is needed of a pack. Here nobody can but whoever reads
//! the sources. How much of a pack they need is told by the cache: what it names is what they were the last time.

use std::collections::{BTreeSet, HashMap};

use chores_common::exit::chain;

use crate::cache::{CacheReader, Record};
use crate::index::{ChunkSet, Index, KnownPack, Place};
use crate::pack::PackKind;
use crate::repository::{Repository, RepositoryError};

#[cfg(test)]
mod tests;

/// Less of a pack than this is little, in percent of its bytes.
const LITTLE_PERCENT: u64 = 40;

/// In percent of what the sources need: so much is stored again in one run at the most.
const REWRITTEN_PERCENT: u64 = 5;

/// In percent of the length of all files: files of so many bytes are read only for that in one run at the most. A file of which one
/// piece lies in such a pack is read as a whole.
const READ_PERCENT: u64 = 10;

const PERCENT: u64 = 100;

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
}

/// Whose sources they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
}

/// What becomes of the packs. `cache` opens that of the last run, which is read twice.
pub(super) fn fates(
    repository: &Repository,
    index: &Index,
    job: Job<'_>,
    cache: impl Fn() -> Option<CacheReader>,
) -> Fates {
    if !repository.is_encrypted() || repository.can_read() {
        return Fates::default();
    }
    let Some(mut reader) = cache() else { return Fates::default() };
    let used = ChunkSet::none_of(index.chunk_count());
    let mut use_of = Use { used, files_bytes: 0, reads: Vec::new() };
    reader.each(|record| {
        let chunks = record.ids().filter_map(|id| index.position(&id));
        chunks.for_each(|chunk| use_of.used.add(chunk));
        use_of.files_bytes += record.size();
    });
    let mut avoided = avoided(index, &use_of.used);
    if !avoided.contains(&true) {
        return Fates::default();
    }
    let Some(others) = of_others(repository, job, index, &avoided) else {
        return Fates::default();
    };
    for number in others {
        if let Some(is_avoided) = avoided.get_mut(number) {
            *is_avoided = false;
        }
    }
    use_of.reads = vec![0; index.packs().len()];
    if let Some(mut reader) = cache() {
        reader.each(|record| use_of.count_reads(index, &avoided, record));
    }
    decide(index, &use_of, &avoided)
}

/// What the sources were the last time.
#[derive(Debug)]
struct Use {
    /// Their chunks.
    used: ChunkSet,
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

/// Which of these packs snapshots of others need, by their numbers: what shares them would be stored twice for nothing. `None` where
/// that is not known.
fn of_others(
    repository: &Repository,
    job: Job<'_>,
    index: &Index,
    avoided: &[bool],
) -> Option<BTreeSet<usize>> {
    let numbers: HashMap<_, _> =
        (index.numbered_packs().map(|(number, pack)| (pack.id, number.as_usize())))
            .filter(|(_, number)| avoided.get(*number) == Some(&true))
            .collect();
    // No more of a document is kept: it lists every pack of its snapshot.
    let read = repository.snapshots_as(|snapshot| {
        let is_ours = snapshot.name == job.name && snapshot.host == job.host;
        let packs = if is_ours { Vec::new() } else { snapshot.packs };
        packs.iter().filter_map(|pack| numbers.get(pack).copied()).collect::<Vec<_>>()
    });
    let warn = |error: &RepositoryError| {
        tracing::warn!(
            "no old pack is left in this run, since a snapshot cannot be read: {}",
            chain(error)
        );
    };
    let mut all = BTreeSet::new();
    for packs in read.inspect_err(warn).ok()? {
        all.extend(packs.inspect_err(warn).ok()?);
    }
    Some(all)
}

/// Of which packs little is used, by their numbers.
fn avoided(index: &Index, used: &ChunkSet) -> Vec<bool> {
    let is_little = |(pack, used): (&KnownPack, u64)| {
        pack.kind == PackKind::Data && used > 0 && used * PERCENT < pack.bytes * LITTLE_PERCENT
    };
    index.packs().iter().zip(bytes_used(index, used)).map(is_little).collect()
}

/// How much of each pack is used, in bytes.
fn bytes_used(index: &Index, used: &ChunkSet) -> Vec<u64> {
    let mut bytes_used = vec![0_u64; index.packs().len()];
    for (_, _, place) in index.places().filter(|(chunk, ..)| used.has(*chunk)) {
        if let Some(bytes) = bytes_used.get_mut(place.pack.as_usize()) {
            *bytes += stored_bytes(index, place);
        }
    }
    bytes_used
}

/// Which of the packs that are avoided are left.
fn decide(index: &Index, use_of: &Use, avoided: &[bool]) -> Fates {
    let mut fates: Vec<_> =
        avoided.iter().map(|avoided| if *avoided { Fate::Avoided } else { Fate::Used }).collect();
    let is_avoided = |place: &Place| avoided.get(place.pack.as_usize()) == Some(&true);
    // What would have to be stored again for each.
    let mut costs = vec![0_u64; index.packs().len()];
    let mut total = 0;
    for (chunk, (id, place)) in index.chunks().iter().enumerate() {
        if !use_of.used.has(chunk) {
            continue;
        }
        let bytes = stored_bytes(index, place);
        total += bytes;
        if is_avoided(place)
            && index.copies(id).all(|copy| is_avoided(&copy))
            && let Some(cost) = costs.get_mut(place.pack.as_usize())
        {
            *cost += bytes;
        }
    }
    let again_bytes_max = total / PERCENT * REWRITTEN_PERCENT;
    let mut left = again_bytes_max;
    let mut reads_left = use_of.files_bytes / PERCENT * READ_PERCENT;
    let mut worst: Vec<_> = (index.numbered_packs().zip(bytes_used(index, &use_of.used)))
        .map(|((number, pack), used)| (used * PERCENT / pack.bytes.max(1), pack.id, number))
        .filter(|(_, _, number)| avoided.get(number.as_usize()) == Some(&true))
        .collect();
    worst.sort_unstable();
    for (_, _, number) in worst {
        let cost = costs.get(number.as_usize()).copied().unwrap_or_default();
        let reads = use_of.reads.get(number.as_usize()).copied().unwrap_or_default();
        if cost <= left
            && reads <= reads_left
            && let Some(fate) = fates.get_mut(number.as_usize())
        {
            left -= cost;
            reads_left -= reads;
            *fate = Fate::Left;
        }
    }
    if !fates.contains(&Fate::Left) {
        return Fates::default();
    }
    Fates { of_packs: fates, again_bytes_max }
}

/// A chunk's part of its compressed frame.
pub(super) fn stored_bytes(index: &Index, place: &Place) -> u64 {
    let pack = index.pack(place.pack);
    pack.and_then(|pack| pack.frames.get(place.frame as usize)).map_or(0, |frame| {
        u64::from(frame.stored) * u64::from(place.length) / u64::from(frame.content).max(1)
    })
}
