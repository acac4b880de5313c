use super::*;
use crate::chunk::ChunkId;

fn pack(number: u8) -> PackId {
    PackId(ChunkId([number; 16]))
}

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId(ChunkId([number; 16]))
}

fn one(snapshots: &[u8], packs: &[(u8, &[u8])]) -> Move {
    let into = |packs: &[u8]| packs.iter().map(|number| pack(*number)).collect();
    Move {
        snapshots: snapshots.iter().map(|number| snapshot(*number)).collect(),
        packs: packs.iter().map(|(from, to)| (pack(*from), into(to))).collect(),
    }
}

fn moves(all: Vec<Move>) -> Moves {
    let object = |(number, one)| MoveObject {
        key: format!("moved/{number}.json"),
        modified: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64),
        moves: vec![one],
    };
    Moves::new(all.into_iter().enumerate().map(object).collect())
}

/// Marked and gone packs; all others stay.
fn at(marked: &'static [u8], gone: &'static [u8]) -> impl Fn(&PackId) -> At {
    move |id: &PackId| match id.0.0[0] {
        number if gone.contains(&number) => At::Gone,
        number if marked.contains(&number) => At::Marked,
        _ => At::Stays,
    }
}

fn needs(moves: &Moves, of: u8, listed: &[u8], at: impl Fn(&PackId) -> At) -> (Vec<u8>, Vec<u8>) {
    let listed: Vec<_> = listed.iter().map(|number| pack(*number)).collect();
    let needs = moves.needs(snapshot(of), &listed, &at);
    let numbers = |packs: BTreeSet<PackId>| packs.iter().map(|id| id.0.0[0]).collect();
    (numbers(needs.packs), numbers(needs.missing))
}

/// The packs from which a snapshot is read while these are gone.
fn followed(moves: &Moves, of: u8, listed: &[u8], gone: &[u8]) -> Vec<u8> {
    let listed: Vec<_> = listed.iter().map(|number| pack(*number)).collect();
    let is_there = |id: &PackId| !gone.contains(&id.0.0[0]);
    moves.followed(snapshot(of), &listed, &is_there).iter().map(|id| id.0.0[0]).collect()
}

#[test]
fn a_document_is_read_as_it_was_written_and_nothing_else_is() {
    let all = [one(&[1, 2], &[(3, &[4, 5]), (6, &[])]), one(&[7], &[(8, &[9])])];
    let bytes = encode(&all);
    assert_eq!(decode(&bytes).unwrap(), all);
    let dedup = DedupKey::generate().unwrap();
    for sealed in [false, true] {
        let key = key_of(&bytes, jiff::Timestamp::now(), sealed, &dedup);
        assert!(is_moved(&key, sealed) && !is_moved(&key, !sealed), "{key}");
        assert!(is_whole(&key, &bytes, &dedup) && !is_whole(&key, b"other", &dedup));
    }
    assert!(!is_moved("moved/a/b.json", false));
    let later = br#"{"version":2,"news":[]}"#;
    assert!(matches!(decode(later).unwrap_err(), MoveError::Version(2)));
    for bad in [
        r#"{"version":1}"#,
        r#"{"version":1,"moves":[],"more":1}"#,
        r#"{"version":1,"moves":[{"snapshots":["x"],"packs":{}}]}"#,
        r#"{"version":1,"moves":[{"snapshots":[],"packs":{"x":[]}}]}"#,
    ] {
        decode(bad.as_bytes()).unwrap_err();
    }
}

#[test]
fn a_move_counts_for_its_snapshots_only() {
    let moves = moves(vec![one(&[1], &[(10, &[20, 21])])]);
    assert_eq!(needs(&moves, 1, &[10, 11], at(&[], &[])), (vec![11, 20, 21], vec![]));
    assert_eq!(needs(&moves, 2, &[10, 11], at(&[], &[])), (vec![10, 11], vec![]));
    assert_eq!(followed(&moves, 1, &[10, 11], &[]), [11, 20, 21]);
    assert_eq!(followed(&moves, 2, &[10], &[]), [10]);
}

#[test]
fn a_pack_whose_content_went_into_what_is_marked_or_gone_stays_needed() {
    let moves = moves(vec![one(&[1], &[(10, &[20, 21])])]);
    // Both must stay: the old one, because what replaces it may go, and the new one, because somebody may have relied on it.
    assert_eq!(needs(&moves, 1, &[10], at(&[21], &[])), (vec![10, 20, 21], vec![]));
    assert_eq!(needs(&moves, 1, &[10], at(&[], &[21])), (vec![10, 20, 21], vec![]));
    // Once the old one is gone, what replaces it is what there is.
    assert_eq!(needs(&moves, 1, &[10], at(&[21], &[10])), (vec![10, 20, 21], vec![]));
    assert_eq!(needs(&moves, 1, &[10], at(&[], &[10, 21])).1, [10]);
    assert!(!moves.is_whole(snapshot(1), &[pack(10)], &|id| id.0.0[0] == 20));
    assert!(moves.is_whole(snapshot(1), &[pack(10)], &|id| id.0.0[0] >= 20));
}

#[test]
fn what_was_moved_on_is_where_the_last_move_says() {
    let moves = moves(vec![one(&[1, 2], &[(10, &[20])]), one(&[1], &[(20, &[30])])]);
    assert_eq!(needs(&moves, 1, &[10], at(&[20], &[10])), (vec![30], vec![]));
    assert_eq!(needs(&moves, 2, &[10], at(&[], &[10])), (vec![20], vec![]));
    assert_eq!(followed(&moves, 1, &[10], &[]), [30]);
    assert_eq!(followed(&moves, 1, &[10], &[30]), [20]);
    assert_eq!(followed(&moves, 1, &[10], &[20, 30]), [10]);
    assert_eq!(moves.last_moved(&pack(20)), Some(moves.objects()[1].modified));
    assert_eq!(moves.last_moved(&pack(30)), None);
}

#[test]
fn two_that_moved_one_pack_at_once_are_both_right() {
    let moves = moves(vec![one(&[1], &[(10, &[20])]), one(&[1], &[(10, &[30])])]);
    assert_eq!(needs(&moves, 1, &[10], at(&[], &[])), (vec![20, 30], vec![]));
    assert_eq!(needs(&moves, 1, &[10], at(&[], &[10, 20])), (vec![20, 30], vec![]));
}

#[test]
fn of_several_ways_one_is_followed_at_whose_end_everything_is_there() {
    let two = moves(vec![one(&[1], &[(10, &[20, 21])]), one(&[1], &[(10, &[30])])]);
    assert_eq!(followed(&two, 1, &[10], &[10]), [20, 21]);
    assert_eq!(followed(&two, 1, &[10], &[10, 21]), [30]);
    assert_eq!(followed(&two, 1, &[10], &[10, 30]), [20, 21]);
    // The old pack is what there is; and where there is nothing it is what is missing.
    assert_eq!(followed(&two, 1, &[10], &[20, 30]), [10]);
    assert_eq!(followed(&two, 1, &[10], &[10, 20, 30]), [10]);
    // One that was moved on and of which the old pack is gone as well.
    let on = moves(vec![
        one(&[1], &[(10, &[20])]),
        one(&[1], &[(20, &[40])]),
        one(&[1], &[(20, &[50, 51])]),
        one(&[1], &[(51, &[])]),
    ]);
    assert_eq!(followed(&on, 1, &[10], &[10, 20, 40, 51]), [50]);
}

#[test]
fn of_a_circle_one_pack_stays_and_a_long_chain_does_no_harm() {
    let circle = moves(vec![one(&[1], &[(10, &[20]), (20, &[10])])]);
    assert_eq!(needs(&circle, 1, &[10], at(&[10, 20], &[])), (vec![10, 20], vec![]));
    // Or both would go, each because the other is there.
    assert_eq!(needs(&circle, 1, &[10], at(&[], &[])), (vec![20], vec![]));
    let itself = moves(vec![one(&[1], &[(10, &[10])])]);
    assert_eq!(needs(&itself, 1, &[10], at(&[], &[])), (vec![10], vec![]));
    assert_eq!(needs(&circle, 1, &[10], at(&[], &[10, 20])).1, [10]);
    assert_eq!(followed(&circle, 1, &[10], &[]), [20]);
    let id = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        PackId(ChunkId(id))
    };
    let packs = (0..100_000).map(|number| (id(number), BTreeSet::from([id(number + 1)])));
    let chain = moves(vec![Move { snapshots: [snapshot(1)].into(), packs: packs.collect() }]);
    let last = id(100_000);
    let needed = chain.needs(snapshot(1), &[id(0)], &|pack| {
        if *pack == last { At::Stays } else { At::Gone }
    });
    assert!(needed.packs.contains(&last));
}

#[test]
fn documents_of_forgotten_snapshots_are_done_and_the_others_can_be_one() {
    let moves = moves(vec![one(&[1], &[(10, &[20])]), one(&[1, 2], &[(11, &[21])])]);
    let there = BTreeSet::from([snapshot(2)]);
    assert_eq!(moves.done(&there), ["moved/0.json"]);
    assert_eq!(moves.joined(&there), [one(&[2], &[(11, &[21])])]);
    assert!(!moves.is_empty() && Moves::default().is_empty());
}

#[test]
fn what_was_moved_on_for_years_is_found_at_the_end_of_its_row() {
    const HOPS: u32 = 50_000;
    let pack = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        PackId(ChunkId(id))
    };
    let hop = |number: u32| (pack(number), BTreeSet::from([pack(number + 1)]));
    let one = Move { snapshots: [snapshot(1)].into(), packs: (0..HOPS).map(hop).collect() };
    let moves = moves(vec![one]);
    let is_last = |id: &PackId| *id == pack(HOPS);
    let at = |id: &PackId| if is_last(id) { At::Stays } else { At::Gone };
    let needs = moves.needs(snapshot(1), &[pack(0)], &at);
    assert_eq!(needs.packs, [pack(HOPS)].into());
    assert_eq!(needs.missing, BTreeSet::new());
    assert_eq!(moves.followed(snapshot(1), &[pack(0)], &is_last), [pack(HOPS)]);
    assert!(!moves.is_whole(snapshot(1), &[pack(0)], &|_| false));
}

#[test]
fn what_is_too_long_for_one_document_is_said_in_several() {
    let all: Vec<_> = (1..=10).map(|number| one(&[number], &[(number, &[number + 20])])).collect();
    let length = encode(&all[..1]).len() as u64;
    let said = |bytes_max| {
        let parts = parts(all.clone(), bytes_max);
        assert!(parts.iter().all(|part| part.len() == 1 || encode(part).len() as u64 <= bytes_max));
        assert_eq!(parts.concat(), all);
        parts.len()
    };
    assert_eq!(said(u64::MAX), 1);
    assert_eq!(said(length * 3), 4);
    assert_eq!(said(1), 10);
    assert!(parts(Vec::new(), 1).is_empty());
}
