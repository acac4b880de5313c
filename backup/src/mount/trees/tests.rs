use super::*;
use crate::browse::tests::Fixture;

fn trees(fixture: &Fixture) -> Trees {
    Trees::new(fixture.repository.clone(), Shutdown::new())
}

#[test]
fn a_tree_is_read_once_and_all_trees_share_an_index() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    let (one, _) = fixture.back_up("n", 1);
    fixture.write("file", "two");
    let (two, _) = fixture.back_up("n", 2);
    let trees = trees(&fixture);
    let first = trees.tree(1, &one).unwrap();
    assert!(Arc::ptr_eq(&first, &trees.tree(1, &one).unwrap()));
    let second = trees.tree(2, &two).unwrap();
    assert!(Arc::ptr_eq(&first.index, &second.index));
    let path = fixture.entry_path("file");
    let node = first.table.at(&path).unwrap();
    assert_eq!(second.table.at(&path), Some(node));
    assert_ne!(
        first.table.piece(&first.index, node, 0),
        second.table.piece(&second.index, node, 0)
    );
}

#[test]
fn a_snapshot_that_is_newer_than_the_index_brings_a_new_one() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    let (one, _) = fixture.back_up("n", 1);
    let trees = trees(&fixture);
    let first = trees.tree(1, &one).unwrap();
    fixture.write("file", "two");
    let (two, _) = fixture.back_up("n", 2);
    let second = trees.tree(2, &two).unwrap();
    assert!(!Arc::ptr_eq(&first.index, &second.index));
    // Who has the old one learns of it without another reading.
    assert!(Arc::ptr_eq(&trees.index_after(&first.index, &one).unwrap(), &second.index));
    assert!(trees.index_after(&second.index, &two).is_none(), "the index is young");
}

#[test]
fn no_old_index_stays_in_memory_behind_a_new_one() {
    let fixture = Fixture::new();
    let trees = trees(&fixture);
    let mut old = Vec::new();
    for number in 1..4 {
        fixture.write("file", format!("{number}"));
        let (name, _) = fixture.back_up("n", number);
        let tree = trees.tree(u32::try_from(number).unwrap(), &name).unwrap();
        old.push(Arc::downgrade(&tree.index));
    }
    let alive: Vec<_> = old.iter().map(|index| index.upgrade().is_some()).collect();
    assert_eq!(alive, [false, false, true]);
}

#[test]
fn packs_that_are_lost_and_packs_that_no_index_tells_of_are_looked_for_once() {
    let fixture = Fixture::new();
    let packs = || {
        let stored = fixture.repository.stored_packs().unwrap();
        stored.into_keys().collect::<HashSet<_>>()
    };
    let mut names = Vec::new();
    for number in 1..3 {
        let before = packs();
        fixture.write("file", format!("{number}"));
        let (name, snapshot) = fixture.back_up("n", number);
        let tree = fixture.repository.index_for_reading([&snapshot]).unwrap().0;
        let data = tree.packs().iter().filter(|pack| pack.kind == crate::pack::PackKind::Data);
        let new: Vec<_> = data.map(|pack| pack.id).filter(|id| !before.contains(id)).collect();
        assert!(!new.is_empty());
        names.push(name);
        fixture.repository.remove_packs(&new).unwrap();
    }
    // Nothing tells of them any more, but the snapshots.
    std::fs::remove_dir_all(fixture.path("repo/index")).unwrap();
    let trees = trees(&fixture);
    trees.tree(1, &names[0]).unwrap();
    let second = trees.tree(2, &names[1]).unwrap();
    let first = trees.tree(1, &names[0]).unwrap();
    assert!(Arc::ptr_eq(&first.index, &second.index));
    assert!(Arc::ptr_eq(&second, &trees.tree(2, &names[1]).unwrap()));
}

#[test]
fn two_that_are_compared_do_not_drive_each_other_out() {
    let fixture = Fixture::new();
    let names = [1, 2, 3].map(|number| {
        fixture.write("file", format!("{number}"));
        fixture.back_up("n", number).0
    });
    let trees = Trees { kept_bytes_max: 1, ..trees(&fixture) };
    let first = trees.tree(1, &names[0]).unwrap();
    let second = trees.tree(2, &names[1]).unwrap();
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&first, &trees.tree(1, &names[0]).unwrap()));
        assert!(Arc::ptr_eq(&second, &trees.tree(2, &names[1]).unwrap()));
    }
    trees.tree(3, &names[2]).unwrap();
    assert!(!Arc::ptr_eq(&first, &trees.tree(1, &names[0]).unwrap()), "the oldest goes");
}

#[test]
fn a_snapshot_that_is_gone_or_an_end_asked_for_is_an_error() {
    let fixture = Fixture::new();
    fixture.write("file", "one");
    let (one, _) = fixture.back_up("n", 1);
    let stopped = Shutdown::new();
    stopped.request();
    let trees = Trees::new(fixture.repository.clone(), stopped);
    assert!(matches!(trees.tree(1, &one), Err(TreesError::Interrupted)));
    fixture.repository.remove_snapshot(&one).unwrap();
    let trees = self::trees(&fixture);
    assert!(matches!(trees.tree(1, &one), Err(TreesError::Repository(_))));
}

#[test]
fn moments_before_1970_are_whole_seconds_and_what_is_behind_them() {
    let time = jiff::Timestamp::from_nanosecond(-1).unwrap();
    assert_eq!(instant(time), Timestamp { seconds: -1, nanos: 999_999_999 });
    let time = jiff::Timestamp::from_nanosecond(5).unwrap();
    assert_eq!(instant(time), Timestamp { seconds: 0, nanos: 5 });
}
