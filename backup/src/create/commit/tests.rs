use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::create::tests::{Fixture, noise};
use crate::mark;
use crate::repository::Repository;

/// Marks packs as a prune does.
fn mark(repository: &Repository, packs: &[PackId]) {
    let (key, bytes) = mark::encode(packs, jiff::Timestamp::now(), repository.key());
    repository.store().put(&key, bytes).unwrap();
}

fn restores(fixture: &Fixture, snapshot: &Snapshot) {
    assert_eq!(fixture.content(snapshot, "a"), noise(1, 300_000));
    let marked = fixture.test.repository.marked_packs().unwrap();
    assert!(snapshot.packs.iter().all(|pack| !marked.contains(pack)));
}

#[test]
fn what_was_marked_before_the_commit_is_stored_anew_under_other_names() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    mark(repository, &first.packs);
    let (name, second) = commit(repository, first.clone()).unwrap();
    assert_eq!(repository.snapshot(&name).unwrap(), second);
    let before: BTreeSet<_> = first.packs.iter().collect();
    assert!(second.packs.iter().all(|pack| !before.contains(pack)), "{second:?}");
    assert_eq!(second.packs.len(), first.packs.len());
    assert!(second.packs.is_sorted());
    // The marked packs go, with the index that names them.
    for pack in &first.packs {
        fs::remove_file(fixture.test.path().join(pack.key())).unwrap();
    }
    restores(&fixture, &second);
}

#[test]
fn a_marked_pack_is_not_referred_to_and_the_same_content_gets_another_name() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    mark(&fixture.test.repository, &first.packs);
    let second = fixture.create();
    let before: BTreeSet<_> = first.packs.iter().collect();
    assert!(second.packs.iter().all(|pack| !before.contains(pack)));
    restores(&fixture, &second);
}

#[test]
fn what_is_gone_at_the_commit_makes_no_snapshot_and_the_next_run_stores_it() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let before = repository.snapshot_names().unwrap();
    for pack in &first.packs {
        fs::remove_file(fixture.test.path().join(pack.key())).unwrap();
    }
    let error = commit(repository, first.clone()).unwrap_err();
    assert!(matches!(error, CreateError::Gone(2)), "{error}");
    // Marked and gone: there is nothing to store anew.
    mark(repository, &first.packs);
    let error = commit(repository, first.clone()).unwrap_err();
    assert!(matches!(error, CreateError::Gone(_)), "{error}");
    // The second wrote the same document as the first: it was removed.
    assert_eq!(repository.snapshot_names().unwrap().len(), before.len() - 1);
    restores(&fixture, &fixture.create());
}
