use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkId;
use crate::index::IndexedPack;
use crate::pack::{ChunkPlace, FramePlace, PackIndex, PackKind};

fn id(number: u8) -> PackId {
    PackId(ChunkId([number; 16]))
}

/// A pack of one frame with chunks of `length` bytes, called by these numbers.
fn pack(number: u8, length: u32, chunks: &[u8]) -> IndexedPack {
    let member = 512 + length.next_multiple_of(512);
    let content = member * chunks.len() as u32;
    let place = |(at, chunk): (u32, &u8)| ChunkPlace {
        id: ChunkId([*chunk; 16]),
        frame: 0,
        offset: at * member + 512,
        length,
    };
    let index = PackIndex {
        kind: PackKind::Data,
        frames: vec![FramePlace { start: 0, stored: content, content }],
        chunks: (0..).zip(chunks).map(place).collect(),
    };
    IndexedPack { id: id(number), bytes: content.into(), index, sealed_by: None }
}

/// The loads of packs of which these chunks are needed, as (name, percent that is used).
fn percents(packs: Vec<IndexedPack>, needed: &[u8]) -> Vec<(u8, u64)> {
    let index = Index::new(packs, &std::collections::HashSet::new());
    let mut live = ChunkSet::none_of(index.chunk_count());
    for chunk in needed {
        live.add(index.position(&ChunkId([*chunk; 16])).unwrap());
    }
    let all = vec![true; index.packs().len()];
    let loads = loads(&index, &live, &all, &all);
    loads.iter().map(|load| (load.id.0.0[0], load.used * 100 / load.bytes)).collect()
}

fn load(number: u8, bytes: u64, used: u64) -> Load {
    let packs = (0..=number).map(|number| pack(number, 1, &[number]));
    let index = Index::new(packs, &std::collections::HashSet::new());
    let number_in_index = index.numbered_packs().last().unwrap().0;
    Load { number: number_in_index, id: id(number), bytes, used, is_free: true }
}

fn chosen(loads: &[Load], rules: RepackRules, waiting: u64) -> Vec<u8> {
    choose(loads, rules, waiting).iter().map(|load| load.id.0.0[0]).collect()
}

fn rules(max_unused: &str, bytes_max: Option<u64>) -> RepackRules {
    RepackRules { max_unused: max_unused.parse().unwrap(), bytes_max }
}

#[test]
fn a_limit_is_a_share_a_size_or_none() {
    assert_eq!("5%".parse(), Ok(Unused::Percent(5)));
    assert_eq!("0".parse(), Ok(Unused::Bytes(0)));
    assert_eq!("2GB".parse(), Ok(Unused::Bytes(2_000_000_000)));
    assert_eq!("unlimited".parse(), Ok(Unused::Unlimited));
    for bad in ["", "%", "101%", "-1%", "much", "5.5%"] {
        assert!(bad.parse::<Unused>().is_err(), "{bad}");
    }
}

#[test]
fn what_is_used_of_a_pack_is_what_its_needed_chunks_take() {
    assert_eq!(percents(vec![pack(1, 1000, &[1, 2, 3, 4])], &[1, 2, 3, 4]), [(1, 100)]);
    assert_eq!(percents(vec![pack(1, 1000, &[1, 2, 3, 4])], &[3]), [(1, 25)]);
    assert_eq!(percents(vec![pack(1, 1000, &[1, 2])], &[]), [(1, 0)]);
    // Salts are needed by nobody, and are in every frame.
    assert_eq!(percents(vec![pack(1, 16, &[1, 2])], &[]), [(1, 100)]);
}

#[test]
fn a_chunk_in_several_packs_is_needed_of_each() {
    // Which of them a snapshot is read from, its list says.
    let packs = vec![pack(1, 1000, &[1, 9]), pack(2, 1000, &[1, 2])];
    assert_eq!(percents(packs, &[1, 2]), [(1, 50), (2, 100)]);
}

#[test]
fn the_worst_packs_are_chosen_until_little_enough_is_unused() {
    let loads = [load(1, 1000, 900), load(2, 1000, 100), load(3, 1000, 500), load(4, 9000, 9000)];
    let all = |limit: &str| chosen(&loads, rules(limit, None), 0);
    // Of 10500 bytes; 15 % of that may wait, and one pack goes anyway.
    assert_eq!(all("0"), [2]);
    assert_eq!(all("15%"), Vec::<u8>::new());
    assert_eq!(all("unlimited"), Vec::<u8>::new());
    let large: Vec<_> = loads.iter().copied().chain([load(5, 100_000, 100_000)]).collect();
    assert_eq!(chosen(&large, rules("0", None), 0), [2, 3, 1]);
    assert_eq!(chosen(&large, rules("700", None), 0), [2]);
    assert_eq!(chosen(&large, rules("0", Some(2500)), 0), [2, 3]);
    assert_eq!(chosen(&large, rules("0", Some(999)), 0), Vec::<u8>::new());
    assert_eq!(chosen(&large, rules("0", None), 15_000), [2]);
    assert_eq!(chosen(&large, rules("0", None), 50_000), Vec::<u8>::new());
    let pinned = [Load { is_free: false, ..loads[1] }, loads[2]];
    assert_eq!(chosen(&pinned, rules("0", None), 0), [3]);
}

proptest! {
    #[test]
    fn no_rule_is_broken_and_nothing_whole_is_chosen(
        sizes in proptest::collection::vec((1..5000_u64, 0..100_u64), 1..12),
        percent in 0..100_u8,
        budget in proptest::option::of(0..9000_u64),
        waiting in 0..20_000_u64,
    ) {
        let one = load(0, 1, 1);
        let loads: Vec<_> = (0_u8..)
            .zip(&sizes)
            .map(|(number, (bytes, used))| Load {
                id: id(number),
                bytes: *bytes,
                used: bytes * used / 99,
                ..one
            })
            .collect();
        let rules = RepackRules { max_unused: Unused::Percent(percent), bytes_max: budget };
        let chosen = choose(&loads, rules, waiting);
        let bytes: u64 = chosen.iter().map(|load| load.bytes).sum();
        prop_assert!(budget.is_none_or(|budget| bytes <= budget));
        prop_assert!(chosen.iter().all(|load| load.used < load.bytes));
        let used: u64 = loads.iter().map(|load| load.used).sum();
        let waiting_max = used / 100 * WAITING_PERCENT;
        prop_assert!(chosen.len() <= 1 || waiting + bytes <= waiting_max.max(waiting + chosen[0].bytes));
        // Without limits nothing is left but what waits for its turn.
        let all = RepackRules { max_unused: Unused::Bytes(0), bytes_max: None };
        let is_any = loads.iter().any(|load| load.used < load.bytes);
        prop_assert_eq!(choose(&loads, all, 0).is_empty(), !is_any);
    }
}
