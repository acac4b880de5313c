use std::collections::BTreeSet;
use std::fs;

use chores_common::object::{Act, ObjectError};

use super::*;
use crate::create::tests::{Fixture, noise};
use crate::mark;
use crate::moved::Move;
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

/// Stores what a snapshot needs anew and says so, as a prune does that has read it.
fn move_all(repository: &Repository, name: &SnapshotName, snapshot: &Snapshot) -> Vec<PackId> {
    let mut anew = snapshot.clone();
    store_anew(repository, &mut anew, &snapshot.packs).unwrap();
    let into: BTreeSet<_> = anew.packs.iter().copied().collect();
    let packs = snapshot.packs.iter().map(|pack| (*pack, into.clone())).collect();
    repository.announce_moves().unwrap();
    repository.put_moves(&[Move { snapshots: [name.id].into(), packs }]).unwrap();
    anew.packs
}

#[test]
fn a_snapshot_that_was_moved_while_its_run_stood_still_is_the_backup() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let name = repository.snapshot_names().unwrap().remove(0);
    let new = move_all(repository, &name, &first);
    // The run wakes up when others have marked what its snapshot names.
    mark(repository, &first.packs);
    assert_eq!(look_again(repository, &name, &first).unwrap(), Sight::Whole);
    for error in [CreateError::MarkedSealed(2), CreateError::Gone(2)] {
        let written = vec![(name.clone(), first.clone())];
        assert_eq!(settle(repository, written, error).unwrap(), (name.clone(), first.clone()));
    }
    // And when that is gone.
    for pack in &first.packs {
        fs::remove_file(fixture.test.path().join(pack.key())).unwrap();
    }
    fixture.test.objects("marks/").iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(commit(repository, first.clone()).unwrap(), (name.clone(), first.clone()));
    assert_eq!(repository.snapshot_names().unwrap(), std::slice::from_ref(&name));
    restores(&fixture, &repository.snapshot(&name).unwrap());
    // What replaces them was marked by a prune that had looked before: it stays all the same, and others may have relied on it.
    mark(repository, &new);
    let error = commit(repository, first.clone()).unwrap_err();
    assert!(matches!(error, CreateError::Gone(2)), "{error}");
    assert_eq!(repository.snapshot_names().unwrap(), [name]);
}

#[test]
fn while_it_cannot_be_seen_where_content_went_no_snapshot_is_taken_back() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let name = repository.snapshot_names().unwrap().remove(0);
    move_all(repository, &name, &first);
    mark(repository, &first.packs);
    let path = fixture.test.objects("moved/").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let written = vec![(name.clone(), first)];
    let error = settle(repository, written, CreateError::MarkedSealed(2)).unwrap_err();
    assert!(matches!(error, CreateError::MarkedSealed(2)), "{error}");
    assert_eq!(repository.snapshot_names().unwrap(), [name]);
}

#[test]
fn of_what_one_run_has_written_again_and_again_the_last_stays() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let name = repository.snapshot_names().unwrap().remove(0);
    let mut second = first.clone();
    store_anew(repository, &mut second, &first.packs).unwrap();
    let other = repository.put_snapshot(&second).unwrap();
    mark(repository, &first.packs);
    // The store did not answer any more, so nobody knows of the last.
    let written = vec![(name, first), (other.clone(), second)];
    settle(repository, written, CreateError::Interrupted).unwrap_err();
    assert_eq!(repository.snapshot_names().unwrap(), [other]);
}

/// As a store fails that may have done what it was asked for.
fn unanswered(repository: &Repository, name: &SnapshotName) -> CreateError {
    let location = repository.store().objects().location();
    let error = ObjectError::interrupted(Act::Write, &name.key(), &location);
    RepositoryError::Unanswered(Box::new(name.clone()), error).into()
}

/// How a run ends of which the store did not say that its snapshot was written.
fn settled(repository: &Repository, name: &SnapshotName, snapshot: &Snapshot) -> CreateError {
    let written = vec![(name.clone(), snapshot.clone())];
    settle(repository, written, unanswered(repository, name)).unwrap_err()
}

#[test]
fn a_snapshot_that_stands_though_the_store_failed_goes_when_it_lacks_something() {
    let fixture = Fixture::encrypted();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let repository = &fixture.test.repository;
    let name = repository.snapshot_names().unwrap().remove(0);
    // Whole: nobody was promised a backup, and others may count on it.
    let error = settled(repository, &name, &first);
    assert!(matches!(error, CreateError::Repository(RepositoryError::Store(_))), "{error}");
    assert_eq!(repository.snapshot_names().unwrap(), std::slice::from_ref(&name));
    mark(repository, &first.packs);
    let error = settled(repository, &name, &first);
    assert!(matches!(error, CreateError::Repository(RepositoryError::Store(_))), "{error}");
    assert_eq!(repository.snapshot_names().unwrap(), []);
    // What is not there needs nothing.
    settled(repository, &name, &first);
}

#[test]
fn a_store_that_fails_at_the_commit_is_what_the_run_fails_of() {
    let fixture = Fixture::new();
    fixture.write("a", &noise(1, 300_000));
    let first = fixture.create();
    let snapshots = fixture.test.path().join("snapshots");
    fs::remove_dir_all(&snapshots).unwrap();
    // A file stands where the snapshot should go.
    fs::write(&snapshots, "in the way").unwrap();
    let error = commit(&fixture.test.repository, first).unwrap_err();
    assert!(matches!(error, CreateError::Repository(RepositoryError::Store(_))), "{error}");
}
