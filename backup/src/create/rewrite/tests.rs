use std::collections::HashSet;

use super::*;
use crate::chunk::ChunkId;
use crate::index::IndexedPack;
use crate::pack::{ChunkPlace, FramePlace, PackId, PackIndex};

const LENGTH: u32 = 1000;

fn id(number: u8) -> PackId {
    PackId(ChunkId([number; 16]))
}

/// A pack with these chunks of 1000 bytes.
fn pack(number: u8, kind: PackKind, chunks: &[u8]) -> IndexedPack {
    let content = LENGTH * chunks.len() as u32;
    let place = |(at, chunk): (u32, &u8)| ChunkPlace {
        id: ChunkId([*chunk; 16]),
        frame: 0,
        offset: at * LENGTH,
        length: LENGTH,
    };
    let index = PackIndex {
        kind,
        frames: vec![FramePlace { start: 0, stored: content, content }],
        chunks: (0..).zip(chunks).map(place).collect(),
    };
    IndexedPack { id: id(number), bytes: content.into(), index, sealed_by: None }
}

/// What is known of packs 1, 2, …
#[derive(Clone, Default)]
struct Case {
    packs: Vec<IndexedPack>,
    /// The chunks that the sources use.
    used: Vec<u8>,
    /// Those of them that are young.
    young: Vec<u8>,
    /// What snapshots need beside.
    needed: Vec<u8>,
    /// Packs of others.
    others: Vec<u8>,
    /// Packs of snapshots of which nothing is known.
    unknown: Vec<u8>,
    moved: Vec<u8>,
    /// How much is read for each pack that is left, of a million.
    reads: Vec<u64>,
    is_last: bool,
    is_fixed: bool,
    waiting: u64,
}

impl Case {
    fn decide(self) -> Fates {
        let index = Index::new(self.packs, &HashSet::new());
        let set = |chunks: &[u8]| {
            let mut set = ChunkSet::none_of(index.chunk_count());
            chunks.iter().for_each(|one| set.add(index.position(&ChunkId([*one; 16])).unwrap()));
            set
        };
        let is = |numbers: &[u8]| -> Vec<bool> {
            let packs = index.packs().iter();
            packs.map(|pack| numbers.iter().any(|number| id(*number) == pack.id)).collect()
        };
        let used = set(&self.used);
        let mut avoided = avoided(&index, &used);
        avoided.iter_mut().zip(is(&self.others)).for_each(|(one, others)| *one &= !others);
        let mut needed = set(&self.needed);
        needed.join(&used);
        let young = set(&self.young);
        let use_of = Use { used, young, files_bytes: 1_000_000, reads: self.reads };
        let choice = Choice {
            index: &index,
            avoided,
            needed,
            is_unknown: is(&self.unknown),
            is_moved: is(&self.moved),
            is_last: self.is_last,
            stores_again: true,
            waiting: self.waiting,
        };
        choice.decide(&use_of, BTreeSet::new(), || !self.is_fixed)
    }

    fn fates(self) -> Vec<Fate> {
        self.decide().of_packs
    }
}

/// What becomes of packs 1, 2, … of which the sources use these chunks and snapshots nobody knows what; packs of others are none
/// of ours.
fn fates(packs: Vec<IndexedPack>, used: &[u8], others: &[u8]) -> Vec<Fate> {
    fates_reading(packs, used, others, &[])
}

/// The same where so many bytes are read for each pack that is left, of a million.
fn fates_reading(packs: Vec<IndexedPack>, used: &[u8], others: &[u8], reads: &[u64]) -> Vec<Fate> {
    let unknown = (1..=packs.len() as u8).collect();
    let (used, others, reads) = (used.to_vec(), others.to_vec(), reads.to_vec());
    Case { packs, used, others, unknown, reads, ..Case::default() }.fates()
}

#[test]
fn a_pack_is_not_left_that_a_long_file_would_be_read_for() {
    let packs = || {
        let second = pack(2, PackKind::Data, &[1, 2, 3, 4, 5]);
        let third = pack(3, PackKind::Data, &[11, 12, 13, 14]);
        vec![large().0, second, third]
    };
    let mut used = large().1;
    used.extend([1, 11]);
    let budget = 100_000;
    let expected = [
        ([0, budget, 0], [Fate::Used, Fate::Left, Fate::Left]),
        ([0, budget + 1, 0], [Fate::Used, Fate::Avoided, Fate::Left]),
        ([0, budget, 1], [Fate::Used, Fate::Left, Fate::Avoided]),
    ];
    for (reads, expected) in expected {
        assert_eq!(fates_reading(packs(), &used, &[], &reads), expected, "{reads:?}");
    }
}

/// A pack of which all is used: 40 chunks.
fn large() -> (IndexedPack, Vec<u8>) {
    let chunks: Vec<_> = (100..140).collect();
    (pack(1, PackKind::Data, &chunks), chunks)
}

#[test]
fn a_pack_of_which_little_is_used_is_left_within_the_budget() {
    let (first, mut used) = large();
    let second = pack(2, PackKind::Data, &[1, 2, 3, 4, 5]);
    let third = pack(3, PackKind::Data, &[11, 12, 13, 14, 15, 16, 17, 18, 19]);
    used.extend([1, 11, 12]);
    // 43 kB are used, of which 5 % may be stored again: of the two, the one of which the smaller share is used comes first.
    let fates = fates(vec![first, second, third], &used, &[]);
    assert_eq!(fates, [Fate::Used, Fate::Left, Fate::Avoided]);
}

#[test]
fn a_pack_is_used_that_is_none_of_ours_or_of_which_nothing_is_needed() {
    let (first, mut used) = large();
    let of_trees = pack(2, PackKind::Tree, &[1, 2, 3, 4, 5]);
    let of_others = pack(3, PackKind::Data, &[11, 12, 13, 14, 15]);
    let of_nobody = pack(4, PackKind::Data, &[21, 22, 23, 24, 25]);
    let most = pack(5, PackKind::Data, &[31, 32, 33, 34]);
    used.extend([1, 11, 31, 32, 33]);
    let fates = fates(vec![first, of_trees, of_others, of_nobody, most], &used, &[3]);
    assert_eq!(fates, [Fate::Used; 5]);
}

#[test]
fn what_was_stored_again_is_not_stored_a_third_time() {
    let (first, mut used) = large();
    let old = pack(2, PackKind::Data, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let new = pack(3, PackKind::Data, &[1, 2, 3]);
    used.extend([1, 2, 3]);
    // It costs nothing to leave the old one, for which there would be no budget.
    for packs in [vec![first.clone(), old.clone(), new.clone()], vec![first, new, old]] {
        let left: Vec<_> = packs.iter().map(|pack| pack.id == id(2)).collect();
        let fates = fates(packs, &used, &[]);
        assert_eq!(fates.iter().map(|fate| *fate == Fate::Left).collect::<Vec<_>>(), left);
        assert!(!fates.contains(&Fate::Avoided));
    }
}

/// A large pack of which all is used, and one of which one chunk of four is of no use.
fn half_dead() -> Case {
    let (first, mut used) = large();
    let second = pack(2, PackKind::Data, &[1, 2, 3, 4]);
    used.extend([1, 2]);
    Case { packs: vec![first, second], used, ..Case::default() }
}

#[test]
fn a_pack_of_which_the_sources_have_all_that_is_needed_is_left_and_it_is_said_where_that_went() {
    let fates = half_dead().decide();
    assert_eq!(fates.of_packs, [Fate::Used, Fate::Left]);
    let chunk = |number: u8| ChunkId([number; 16]);
    assert_eq!(fates.moving.packs, [(id(2), vec![chunk(1), chunk(2)])].into());
    let new = |number: u8, pack: u8| (chunk(number), id(pack));
    // A file was changed before it was read.
    assert!(fates.moving.done(&[new(1, 7), new(9, 7)].into()).is_empty());
    let moved = fates.moving.done(&[new(1, 7), new(2, 8)].into());
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].packs, [(id(2), [id(7), id(8)].into())].into());
    // No document gets too long to be read.
    let packs = (0..65).map(|pack| (id(pack), vec![chunk(1)])).collect();
    let many = Moving { packs, ..fates.moving };
    let moved = many.done(&[new(1, 7)].into());
    assert_eq!(moved.iter().map(|one| one.packs.len()).collect::<Vec<_>>(), [64, 1]);
}

#[test]
fn a_pack_of_which_a_snapshot_needs_what_no_source_has_stays() {
    assert_eq!(Case { needed: vec![3], ..half_dead() }.fates(), [Fate::Used, Fate::Avoided]);
    assert_eq!(Case { needed: vec![1], ..half_dead() }.fates(), [Fate::Used, Fate::Left]);
    // Or perhaps, or where moves cannot be written.
    assert_eq!(Case { unknown: vec![2], ..half_dead() }.fates(), [Fate::Used, Fate::Avoided]);
    assert_eq!(Case { is_fixed: true, ..half_dead() }.fates(), [Fate::Used, Fate::Avoided]);
    // What was moved before is not moved again.
    assert_eq!(Case { moved: vec![2], ..half_dead() }.fates(), [Fate::Used, Fate::Avoided]);
}

#[test]
fn a_short_pack_of_which_all_is_needed_is_not_stored_again_for_its_own_length() {
    let (first, mut used) = large();
    let mut second = pack(2, PackKind::Data, &[1, 2]);
    second.bytes *= 3;
    used.extend([1, 2]);
    let case = Case { packs: vec![first, second], used, ..Case::default() };
    assert_eq!(case.fates(), [Fate::Used, Fate::Used]);
}

#[test]
fn no_pack_is_left_while_many_wait_or_for_what_lies_elsewhere() {
    // 42 kB are used, of which 15 % may wait: 2 kB more than wait already.
    assert_eq!(Case { waiting: 2300, ..half_dead() }.fates(), [Fate::Used, Fate::Left]);
    assert_eq!(Case { waiting: 2301, ..half_dead() }.fates(), [Fate::Used, Fate::Avoided]);
    let mut shared = half_dead();
    shared.packs.push(pack(3, PackKind::Data, &[1, 21, 22, 23]));
    shared.used.extend([21, 22, 23]);
    assert_eq!(shared.fates(), [Fate::Used, Fate::Avoided, Fate::Used]);
}

#[test]
fn what_lies_in_two_packs_is_taken_from_the_one_of_which_more_is_used() {
    let (first, mut used) = large();
    let old = pack(2, PackKind::Data, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let new = pack(3, PackKind::Data, &[1, 2, 13, 14]);
    used.extend([1, 2]);
    for packs in [vec![first.clone(), old.clone(), new.clone()], vec![first, new, old]] {
        let left: Vec<_> = packs.iter().map(|pack| pack.id == id(2)).collect();
        // Snapshots need what no source has, so neither is left for a move.
        let case = Case { packs, used: used.clone(), needed: vec![8, 14], ..Case::default() };
        let fates = case.fates();
        assert_eq!(fates.iter().map(|fate| *fate == Fate::Left).collect::<Vec<_>>(), left);
    }
}

#[test]
fn the_last_run_of_a_week_takes_what_is_young_out_of_packs_with_others() {
    let (first, mut used) = large();
    used.extend([1, 2]);
    let packs = vec![first, pack(2, PackKind::Data, &[1, 2, 3, 4, 5])];
    let young = Case { packs, used, needed: vec![3, 4], young: vec![1, 2], ..Case::default() };
    assert_eq!(young.clone().fates(), [Fate::Used, Fate::Avoided]);
    let last = Case { is_last: true, ..young };
    assert_eq!(last.clone().fates(), [Fate::Used, Fate::Left]);
    assert!(last.clone().decide().moving.packs.is_empty());
    assert_eq!(Case { young: vec![1], ..last }.fates(), [Fate::Used, Fate::Avoided]);
}

#[test]
fn a_run_is_the_last_of_its_week_or_month_where_the_next_one_is_expected_in_another() {
    let seconds = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
    let ends = |last: &str, now: &str| ends_period(seconds(last), seconds(now));
    // Each night: a Sunday, a Saturday, the last of a month, of a year within a week.
    assert!(ends("2026-11-28T02:00:00Z", "2026-11-29T02:00:00Z"));
    assert!(!ends("2026-11-27T02:00:00Z", "2026-11-28T02:00:00Z"));
    assert!(ends("2026-11-29T02:00:00Z", "2026-11-30T02:00:00Z"));
    assert!(ends("2024-12-30T02:00:00Z", "2024-12-31T02:00:00Z"));
    assert!(!ends("2024-12-29T02:00:00Z", "2024-12-30T02:00:00Z"));
    // Each hour.
    assert!(!ends("2026-11-29T02:00:00Z", "2026-11-29T03:00:00Z"));
    assert!(ends("2026-11-29T22:00:00Z", "2026-11-29T23:00:00Z"));
    // Each week every run is the last of one; each month of a month.
    assert!(!ends("2026-11-08T02:00:00Z", "2026-11-15T02:00:00Z"));
    assert!(ends("2026-11-22T02:00:00Z", "2026-11-29T02:00:00Z"));
    assert!(!ends("2026-10-29T02:00:00Z", "2026-11-29T02:00:00Z"));
    // Clocks go back.
    assert!(!ends("2026-11-29T02:00:00Z", "2026-11-29T02:00:00Z"));
    assert!(!ends("2026-11-30T02:00:00Z", "2026-11-29T02:00:00Z"));
}
