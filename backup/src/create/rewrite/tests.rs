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

/// What becomes of packs 1, 2, … of which the sources use these chunks; packs of others are none of ours.
fn fates(packs: Vec<IndexedPack>, used: &[u8], others: &[u8]) -> Vec<Fate> {
    fates_reading(packs, used, others, &[])
}

/// The same where so many bytes are read for each pack that is left, of a million.
fn fates_reading(packs: Vec<IndexedPack>, used: &[u8], others: &[u8], reads: &[u64]) -> Vec<Fate> {
    let all = packs.len();
    let index = Index::new(packs, &HashSet::new());
    let mut set = ChunkSet::none_of(index.chunk_count());
    for chunk in used {
        set.add(index.position(&ChunkId([*chunk; 16])).unwrap());
    }
    let mut avoided = avoided(&index, &set);
    for (number, pack) in index.numbered_packs() {
        avoided[number.as_usize()] &= !others.iter().any(|other| id(*other) == pack.id);
    }
    let use_of = Use { used: set, files_bytes: 1_000_000, reads: reads.to_vec() };
    let fates = decide(&index, &use_of, &avoided);
    if fates.of_packs.is_empty() { vec![Fate::Used; all] } else { fates.of_packs }
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
    let half = pack(5, PackKind::Data, &[31, 32]);
    used.extend([1, 11, 31]);
    let fates = fates(vec![first, of_trees, of_others, of_nobody, half], &used, &[3]);
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
