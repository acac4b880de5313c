use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkId;

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);
const RULES: Rules = Rules { grace: GRACE, bytes_max: None };

fn id(number: u8) -> PackId {
    PackId(ChunkId([number; 16]))
}

/// Hours after the first moment of a test.
fn at(hours: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 1000 + HOUR * hours
}

fn stock(now: u32, packs: &[(u8, u32)], needed: &[u8]) -> Stock {
    Stock {
        now: at(now),
        packs: packs
            .iter()
            .map(|(pack, hours)| (id(*pack), StoredPack { bytes: 10, modified: at(*hours) }))
            .collect(),
        needed: needed.iter().map(|pack| id(*pack)).collect(),
        marks: Vec::new(),
        runs: Vec::new(),
        moved: BTreeMap::new(),
        locked: HashMap::new(),
    }
}

fn mark(hours: u32, packs: &[u8]) -> Mark {
    let names: Vec<_> = packs.iter().map(ToString::to_string).collect();
    Mark {
        key: format!("marks/{hours}-{}.json", names.join("-")),
        modified: at(hours),
        packs: packs.iter().map(|pack| id(*pack)).collect(),
    }
}

fn ids(packs: &[u8]) -> Vec<PackId> {
    packs.iter().map(|pack| id(*pack)).collect()
}

#[test]
fn what_nobody_needs_is_marked_when_it_is_old_and_deleted_when_its_mark_is() {
    let mut stock = stock(24, &[(1, 0), (2, 0), (3, 1)], &[1]);
    let first = plan(&stock, RULES);
    assert_eq!(first, Plan { mark: ids(&[2]), ..Plan::default() });

    stock.marks.push(mark(24, &[2]));
    stock.now = at(47);
    let second = plan(&stock, RULES);
    assert_eq!((second.mark, second.delete), (ids(&[3]), ids(&[])));
    assert_eq!(second.waiting, BTreeSet::from([id(2)]));
    assert_eq!(second.next_due, Some(at(48)));

    stock.now = at(48);
    let third = plan(&stock, RULES);
    assert_eq!(third.delete, ids(&[2]));
    assert_eq!(third.done, [stock.marks[0].key.clone()]);
    assert_eq!(third.next_due, None);
}

#[test]
fn a_marked_pack_that_is_needed_stays_and_so_does_its_mark() {
    let mut stock = stock(100, &[(1, 0), (2, 0)], &[1]);
    stock.marks.push(mark(24, &[1, 2]));
    let plan = plan(&stock, RULES);
    assert_eq!((plan.delete, plan.kept), (ids(&[2]), BTreeSet::from([id(1)])));
    assert_eq!(plan.done, Vec::<String>::new());
}

#[test]
fn a_mark_goes_only_with_the_last_of_its_packs() {
    let mut stock = stock(100, &[(1, 0), (2, 0), (3, 0)], &[]);
    stock.marks = vec![mark(10, &[1, 2]), mark(90, &[2, 3]), mark(20, &[9])];
    let tight = Rules { bytes_max: Some(10), ..RULES };
    let first = plan(&stock, tight);
    assert_eq!(first.delete, ids(&[1]));
    // 9 is gone already; 2 would exceed the budget, 3 is not due.
    assert_eq!(first.done, [stock.marks[2].key.clone()]);
    assert_eq!(first.waiting, BTreeSet::from([id(2), id(3)]));
    let second = plan(&stock, RULES);
    assert_eq!(second.delete, ids(&[1, 2]));
    assert_eq!(second.done.len(), 2);
    assert_eq!(second.waiting, BTreeSet::from([id(3)]));
}

#[test]
fn what_a_long_run_stores_and_may_have_missed_waits_for_it() {
    // It began at 30: 2 was marked before, 3 since, and 4 it stored itself.
    let mut stock = stock(200, &[(2, 0), (3, 0), (4, 40)], &[]);
    stock.marks = vec![mark(29, &[2]), mark(31, &[3])];
    stock.runs = vec![at(30)];
    let during = plan(&stock, RULES);
    assert_eq!((during.delete, during.mark), (ids(&[2]), ids(&[])));
    stock.runs.clear();
    let after = plan(&stock, RULES);
    assert_eq!((after.delete, after.mark), (ids(&[2, 3]), ids(&[4])));
}

#[test]
fn a_pack_whose_content_was_moved_is_marked_when_who_may_refer_to_it_has_ended() {
    let mut stock = stock(200, &[(1, 0), (2, 0)], &[2]);
    stock.moved = BTreeMap::from([(id(1), at(180)), (id(2), at(180))]);
    assert_eq!(plan(&stock, RULES).mark, ids(&[]));
    stock.now = at(204);
    assert_eq!(plan(&stock, RULES).mark, ids(&[1]));
    stock.runs = vec![at(179)];
    assert_eq!(plan(&stock, RULES).mark, ids(&[]));
    stock.runs = vec![at(181)];
    assert_eq!(plan(&stock, RULES).mark, ids(&[1]));
}

#[test]
fn without_a_time_nothing_is_old() {
    let mut stock = stock(100, &[(1, 0), (2, 0)], &[]);
    stock.packs.get_mut(&id(2)).unwrap().modified = SystemTime::UNIX_EPOCH;
    stock.marks = vec![Mark { modified: SystemTime::UNIX_EPOCH, ..mark(0, &[1]) }];
    let decided = plan(&stock, RULES);
    assert_eq!((decided.delete, decided.mark), (ids(&[]), ids(&[])));
    // Nor where the store's clock has gone back.
    stock.marks[0].modified = at(500);
    stock.packs.get_mut(&id(2)).unwrap().modified = at(500);
    let decided = plan(&stock, RULES);
    assert_eq!((decided.delete, decided.mark), (ids(&[]), ids(&[])));
    // Nor behind the end of time.
    let endless = Rules { grace: Duration::MAX, bytes_max: None };
    stock.marks[0].modified = at(0);
    assert_eq!(plan(&stock, endless).delete, ids(&[]));
}

#[test]
fn what_is_locked_is_held_without_a_budget_and_its_mark_stays_until_the_lock_ends() {
    let mut stock = stock(48, &[(1, 0), (2, 0), (3, 0)], &[]);
    stock.marks = vec![mark(24, &[1, 2]), mark(40, &[2, 3])];
    stock.locked = HashMap::from([(id(1), at(60)), (id(2), at(50))]);
    let rules = Rules { bytes_max: Some(10), ..RULES };
    let held = plan(&stock, rules);
    assert_eq!((held.delete, held.done), (ids(&[]), Vec::new()));
    assert_eq!(held.held, BTreeSet::from([id(1), id(2)]));
    assert_eq!(held.waiting, BTreeSet::from([id(3)]));
    assert_eq!((held.next_unlocked, held.next_due), (Some(at(50)), Some(at(64))));
    // A lock that ends now has ended.
    stock.now = at(50);
    let some = plan(&stock, rules);
    assert_eq!((some.delete, some.held), (ids(&[2]), BTreeSet::from([id(1)])));
    assert_eq!((some.done, some.next_unlocked), (Vec::new(), Some(at(60))));
}

fn some_stock() -> impl Strategy<Value = Stock> {
    let packs = proptest::collection::vec(0..200_u32, 20);
    let needed = proptest::collection::vec(0..24_u8, 0..12);
    let one_mark = (0..200_u32, proptest::collection::vec(0..24_u8, 0..8));
    let marks = proptest::collection::vec(one_mark, 0..6);
    let runs = proptest::collection::vec(0..200_u32, 0..2);
    (packs, needed, marks, runs, 0..220_u32).prop_map(|(packs, needed, marks, runs, now)| {
        let packs: Vec<_> = packs.into_iter().enumerate().map(|(n, h)| (n as u8, h)).collect();
        Stock {
            marks: marks.iter().map(|(hours, packs)| mark(*hours, packs)).collect(),
            runs: runs.into_iter().map(at).collect(),
            ..stock(now, &packs, &needed)
        }
    })
}

proptest! {
    #[test]
    fn nothing_needed_goes_and_nothing_that_was_not_marked_long_ago(
        stock in some_stock(),
        budget in proptest::option::of(0..100_u64),
    ) {
        let plan = plan(&stock, Rules { bytes_max: budget, ..RULES });
        for pack in &plan.delete {
            prop_assert!(!stock.needed.contains(pack));
            prop_assert!(stock.packs.contains_key(pack));
            let under = stock.marks.iter().filter(|mark| mark.packs.contains(pack));
            prop_assert!(under.clone().any(|mark| mark.modified + GRACE <= stock.now));
        }
        let unique: BTreeSet<_> = plan.delete.iter().collect();
        prop_assert_eq!(unique.len(), plan.delete.len());
        let bytes = plan.delete.len() as u64 * 10;
        prop_assert!(budget.is_none_or(|budget| bytes <= budget));
        for pack in &plan.mark {
            prop_assert!(!stock.needed.contains(pack));
            prop_assert!(stock.packs[pack].modified + GRACE <= stock.now);
            prop_assert!(!stock.marks.iter().any(|mark| mark.packs.contains(pack)));
        }
        for key in &plan.done {
            let mark = stock.marks.iter().find(|mark| mark.key == *key).unwrap();
            let left = mark.packs.iter().filter(|pack| stock.packs.contains_key(pack));
            prop_assert!(left.into_iter().all(|pack| plan.delete.contains(pack)));
        }
        // Every stored pack is accounted for once.
        let accounted = plan.delete.len() + plan.mark.len() + plan.waiting.len();
        let unneeded = stock.packs.keys().filter(|pack| !stock.needed.contains(pack)).count();
        prop_assert!(accounted <= unneeded);
    }
}
