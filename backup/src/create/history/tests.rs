use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::index::IndexedPack;
use crate::pack::{ChunkPlace, FramePlace, PackId, PackIndex, PackKind};
use crate::repository::tests::TestRepository;

fn key() -> CacheKey {
    TestRepository::encrypted().repository.cache_key().unwrap()
}

fn chunk(number: u16) -> ChunkId {
    let [high, low] = number.to_be_bytes();
    let mut id = [0; ID_BYTES];
    // Neighbours are in blocks far apart.
    (id[0], id[1]) = (low, high);
    ChunkId(id)
}

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId(ChunkId([number; ID_BYTES]))
}

/// An index of so many chunks.
fn index(count: u16) -> Index {
    let place = |number| ChunkPlace { id: chunk(number), frame: 0, offset: 0, length: 20 };
    let index = PackIndex {
        kind: PackKind::Data,
        frames: vec![FramePlace { start: 0, stored: 20, content: 20 }],
        chunks: (0..count).map(place).collect(),
    };
    let id = PackId(ChunkId([1; ID_BYTES]));
    let pack = IndexedPack { id, bytes: 1, index, sealed_by: None };
    Index::new([pack], &HashSet::new())
}

fn sorted(chunks: impl IntoIterator<Item = u16>) -> Vec<ChunkId> {
    let chunks: BTreeSet<_> = chunks.into_iter().map(chunk).collect();
    chunks.into_iter().collect()
}

/// The chunks below `count` that are needed.
fn needed(history: &History, there: &BTreeSet<SnapshotId>, count: u16) -> BTreeSet<u16> {
    let index = index(count);
    let known = history.read(there, &index);
    (0..count).filter(|n| known.needed.has(index.position(&chunk(*n)).unwrap())).collect()
}

fn add(history: &History, number: u8, chunks: &[ChunkId], there: &BTreeSet<SnapshotId>) {
    let run = (snapshot(number), i64::from(number));
    history.add(run, chunks.iter().copied(), there).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_snapshot_refers_to_is_needed_for_as_long_as_it_is_there_and_what_only_gone_ones_had_is_not(
        runs in prop::collection::vec((prop::collection::btree_set(0_u16..60, 0..40), prop::collection::vec(any::<prop::sample::Index>(), 0..3)), 1..12),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let history = History::beside(&temp.path().join("a.cache"), key());
        let (mut there, mut all) = (BTreeSet::new(), BTreeMap::new());
        for ((chunks, forgotten), number) in runs.into_iter().zip(1..) {
            there.insert(snapshot(number));
            add(&history, number, &sorted(chunks.iter().copied()), &there);
            all.insert(snapshot(number), chunks);
            for one in forgotten {
                if there.len() > 1 {
                    let one = *one.get(&there.iter().copied().collect::<Vec<_>>());
                    there.remove(&one);
                }
            }
            let found = needed(&history, &there, 60);
            let of_snapshots: BTreeSet<_> = there.iter().flat_map(|one| &all[one]).copied().collect();
            prop_assert!(of_snapshots.is_subset(&found), "{of_snapshots:?} {found:?}");
            // Between two runs that had it one may not have had it.
            let hull: BTreeSet<_> = (0..60).filter(|chunk| {
                let had: Vec<_> = all.iter().filter(|(_, chunks)| chunks.contains(chunk)).map(|(one, _)| *one).collect();
                had.first().zip(had.last()).is_some_and(|(first, last)| there.range(first..=last).next().is_some())
            }).collect();
            prop_assert!(found.is_subset(&hull), "{found:?} {hull:?}");
        }
    }
}

#[test]
fn runs_are_remembered_in_order_and_those_of_others_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let history = History::beside(&temp.path().join("a.cache"), key());
    let there = |numbers: &[u8]| numbers.iter().map(|number| snapshot(*number)).collect();
    for number in 1..=3 {
        add(&history, number, &sorted([number.into()]), &there(&[1, 2, 3, 7]));
    }
    let known = history.read(&there(&[7, 3, 1]), &index(10));
    let runs: Vec<_> = known.runs.iter().map(|run| (run.snapshot, run.time)).collect();
    assert_eq!(runs, [(snapshot(1), 1), (snapshot(3), 3)]);
}

#[test]
fn what_spans_many_blocks_is_read_as_it_was_written() {
    let temp = tempfile::tempdir().unwrap();
    let history = History::beside(&temp.path().join("a.cache"), key());
    let there = [snapshot(1), snapshot(2)].into();
    add(&history, 1, &sorted(0..20_000), &there);
    add(&history, 2, &sorted((0..30_000).filter(|number| number % 3 == 0)), &there);
    let expected: BTreeSet<_> = (0..30_000).filter(|n| *n < 20_000 || n % 3 == 0).collect();
    assert_eq!(needed(&history, &there, 30_000), expected);
    let second = [snapshot(2)].into();
    let expected: BTreeSet<_> = (0..30_000).filter(|number| number % 3 == 0).collect();
    assert_eq!(needed(&history, &second, 30_000), expected);
}

#[test]
fn of_a_torn_damaged_or_foreign_one_nothing_counts_and_a_new_one_begins() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.history");
    let key = key();
    let history = History::beside(&temp.path().join("a.cache"), key);
    let there = [snapshot(1), snapshot(2)].into();
    add(&history, 1, &sorted(0..20_000), &there);
    let sound = std::fs::read(&path).unwrap();
    let known = || history.read(&there, &index(10)).runs.len();
    assert_eq!(known(), 1);
    for length in [0, 11, 12, 40, sound.len() / 2, sound.len() - 60, sound.len() - 1] {
        std::fs::write(&path, &sound[..length]).unwrap();
        assert_eq!(known(), 0, "{length} bytes");
    }
    for at in (0..sound.len()).step_by(sound.len() / 50) {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(known(), 0, "byte {at}");
    }
    // A block that lies twice in it, or not at all.
    let first = 12 + 4 + CACHE_SEAL_BYTES + RUN_BYTES;
    let block = 4 + CACHE_SEAL_BYTES + BLOCK_ROWS * ROW_BYTES;
    let twice = [&sound[..first + block], &sound[first..]].concat();
    let without = [&sound[..first], &sound[first + block..]].concat();
    for wrong in [twice, without] {
        std::fs::write(&path, wrong).unwrap();
        assert_eq!(known(), 0);
    }
    add(&history, 2, &sorted([5]), &there);
    assert_eq!(needed(&history, &there, 10), [5].into());
    let other = History { path, key: self::key() };
    assert!(other.read(&there, &index(10)).runs.is_empty());
}

#[test]
fn no_more_runs_are_remembered_than_may_be() {
    let temp = tempfile::tempdir().unwrap();
    let history = History::beside(&temp.path().join("a.cache"), key());
    let name = |number: usize| {
        let mut id = [0; ID_BYTES];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        SnapshotId(ChunkId(id))
    };
    let there = (0..=RUNS_MAX).map(name).collect();
    let mut writer = Writer::create(&history.path, &history.key).unwrap();
    let run = |number| Run { number: number as u32 + 1, time: 0, snapshot: name(number) };
    writer.runs(&(0..RUNS_MAX).map(run).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    history.add((name(RUNS_MAX), 0), std::iter::empty(), &there).unwrap();
    let runs = history.read(&there, &index(1)).runs;
    assert_eq!(runs.len(), RUNS_MAX);
    assert_eq!(runs.last().unwrap().snapshot, name(RUNS_MAX));
    assert_eq!(runs.first().unwrap().snapshot, name(1));
}
