use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::chunk::ChunkId;
use crate::mark::Mark;
use crate::pack::PackId;
use crate::prune::plan::{Rules, StoredPack, plan};
use crate::prune::{PruneReport, write_json, write_text};

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);

fn id(number: u8) -> PackId {
    PackId(ChunkId([number; 16]))
}

/// 2026-11-30T12:00:00Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000)
}

/// Packs by their age in hours, of which nobody needs any.
fn stock(ages: &[(u8, u32)]) -> Stock {
    let pack = |hours: u32| StoredPack { bytes: 1000, modified: now() - HOUR * hours };
    Stock {
        now: now(),
        packs: ages.iter().map(|(number, hours)| (id(*number), pack(*hours))).collect(),
        needed: HashSet::new(),
        marks: Vec::new(),
        runs: Vec::new(),
        moved: BTreeMap::new(),
        locked: HashMap::new(),
    }
}

fn young_of(stock: &Stock) -> Young {
    young(stock, &plan(stock, Rules { grace: GRACE, bytes_max: None }), GRACE)
}

#[test]
fn what_is_neither_needed_nor_marked_nor_old_enough_is_young() {
    let mut stock = stock(&[(1, 2), (2, 5), (3, 30), (4, 3), (5, 4)]);
    stock.needed.insert(id(4));
    let mark = Mark { key: "marks/a".to_owned(), modified: now() - HOUR, packs: [id(5)].into() };
    stock.marks.push(mark);
    let young = young_of(&stock);
    assert_eq!(young.packs, Sum { packs: 2, bytes: 2000 });
    assert_eq!(young.marked_from, Some(now() + HOUR * 19), "the pack of five hours is the first");
    assert_eq!(young.deleted_from, Some(now() + HOUR * 43));
}

#[test]
fn what_was_moved_lately_is_as_young_as_its_move() {
    let mut stock = stock(&[(1, 100)]);
    stock.moved.insert(id(1), now() - HOUR);
    let young = young_of(&stock);
    assert_eq!((young.packs.packs, young.marked_from), (1, Some(now() + HOUR * 23)));
}

#[test]
fn a_pack_without_a_time_has_no_time_at_which_it_can_go() {
    let mut stock = stock(&[(1, 2)]);
    stock.packs.insert(id(1), StoredPack { bytes: 1000, modified: SystemTime::UNIX_EPOCH });
    let young = young_of(&stock);
    assert_eq!((young.packs.packs, young.marked_from, young.deleted_from), (1, None, None));
}

fn said(report: &PruneReport) -> String {
    let mut text = Vec::new();
    write_text(report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_prune_says_how_much_is_too_young_and_when_it_can_go() {
    let young = young_of(&stock(&[(1, 2), (2, 5)]));
    let report = PruneReport { young, ..PruneReport::default() };
    let text = said(&report);
    assert!(!text.contains("nothing to prune"), "{text}");
    assert!(
        text.contains(
            "2.0 kB in 2 packs that no snapshot needs are too young to go: a prune from 2026-12-01T07:00:00Z on marks the first of \
             them, and one from 2026-12-02T07:00:00Z on can delete it"
        ),
        "{text}"
    );
    let mut json = Vec::new();
    write_json(&report, "summary", &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["young_packs"], &json["young_bytes"]), (&2.into(), &2000.into()));
    assert_eq!(json["young_marked_from"], "2026-12-01T07:00:00Z");
    assert!(said(&PruneReport::default()).contains("nothing to prune"));
}
