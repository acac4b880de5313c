use std::collections::HashSet;

use super::*;

#[test]
fn it_holds_what_was_put_in_and_nothing_else_over_all_its_growth() {
    let taken = Taken::default();
    let mut model = HashSet::new();
    for number in 0..200_000_u64 {
        // Every third comes a second time, long after the first.
        let number = if number % 3 == 2 { number / 2 } else { number };
        let hash = blake3::hash(&number.to_le_bytes());
        let id = ChunkId(*hash.as_bytes().first_chunk().unwrap());
        assert_eq!(taken.contains(&id), model.contains(&id));
        assert_eq!(taken.insert(&id), model.insert(id));
        assert!(taken.contains(&id));
    }
    let held: usize = taken
        .0
        .iter()
        .map(|shard| shard.lock().unwrap())
        .map(|shard| shard.sorted.len() + shard.latest.len())
        .sum();
    assert_eq!(held, model.len());
    let mut expected: Vec<_> = model.into_iter().collect();
    expected.sort_unstable();
    assert_eq!(taken.into_sorted().collect::<Vec<_>>(), expected);
}

#[test]
fn ids_that_are_alike_in_their_first_bytes_share_a_part_and_are_told_apart() {
    let taken = Taken::default();
    for number in 0..10_000_u32 {
        let mut id = [0; 16];
        id[12..].copy_from_slice(&number.to_le_bytes());
        assert!(taken.insert(&ChunkId(id)));
        assert!(!taken.insert(&ChunkId(id)));
    }
    assert_eq!(taken.into_sorted().count(), 10_000);
}
