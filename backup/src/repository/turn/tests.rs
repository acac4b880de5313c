use std::sync::{Barrier, Mutex};

use super::super::tests::TestRepository;
use super::super::{FORMAT_KEY, Keep, KeyChange};
use super::*;
use crate::keys::KeyRing;
use crate::keys::key_file::KeyFile;

const MINUTE: Duration = Duration::from_secs(60);

/// What was said so many minutes after the first.
fn said(words: &[(&str, u32)]) -> Vec<ObjectMeta> {
    let first = SystemTime::UNIX_EPOCH + MINUTE;
    let object = |(word, minutes): &(&str, u32)| ObjectMeta {
        key: format!("{PREFIX}{word}"),
        size: 0,
        modified: first + MINUTE * *minutes,
    };
    words.iter().map(object).collect()
}

fn look(words: &[(&str, u32)], own: &str) -> Look {
    let by = if own.starts_with("prune") { Changer::Prune } else { Changer::Person };
    decide(&said(words), &format!("{PREFIX}{own}"), by)
}

#[test]
fn of_two_that_see_each_other_one_gives_way_and_the_other_waits() {
    assert_eq!(look(&[("keys-a", 0)], "keys-a"), Look::Ours);
    let both = [("keys-a", 0), ("keys-b", 0)];
    assert_eq!((look(&both, "keys-a"), look(&both, "keys-b")), (Look::Wait, Look::GiveWay));
    let mixed = [("keys-z", 3), ("prune-a", 0)];
    assert_eq!((look(&mixed, "keys-z"), look(&mixed, "prune-a")), (Look::Wait, Look::GiveWay));
}

#[test]
fn prunes_do_not_wait_for_each_other() {
    let both = [("prune-a", 0), ("prune-b", 0)];
    assert_eq!((look(&both, "prune-a"), look(&both, "prune-b")), (Look::Ours, Look::Ours));
}

#[test]
fn who_is_silent_for_long_is_not_waited_for_and_does_not_write() {
    let old = [("keys-a", 0), ("keys-b", 11)];
    assert_eq!(look(&old, "keys-b"), Look::Ours);
    let own = |word: &str| format!("{PREFIX}{word}");
    assert!(!is_in_time(&said(&old), &own("keys-a")), "the other one is about to write");
    assert!(is_in_time(&said(&old), &own("keys-b")));
    assert!(!is_in_time(&said(&[("keys-b", 0)]), &own("keys-a")), "somebody took it away");
    // Between the two nobody does anything.
    let between = [("keys-a", 0), ("keys-b", 7)];
    assert_eq!(look(&between, "keys-b"), Look::GiveWay);
    assert!(!is_in_time(&said(&between), &own("keys-a")));
}

#[test]
fn a_store_that_tells_no_times_keeps_nobody_from_his_turn() {
    let mut timeless = said(&[("keys-a", 0), ("keys-b", 0)]);
    timeless.iter_mut().for_each(|object| object.modified = SystemTime::UNIX_EPOCH);
    let own = format!("{PREFIX}keys-b");
    assert_eq!(decide(&timeless, &own, Changer::Person), Look::Ours);
    assert!(is_in_time(&timeless, &own));
}

#[test]
fn of_changes_of_keys_in_one_instant_one_at_the_most_is_said_to_be_done_and_it_is() {
    const AT_ONCE: usize = 4;
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let test = TestRepository::encrypted();
        let repository = &test.repository;
        let (ready, done) = (Barrier::new(AT_ONCE), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    let keep: Box<Keep<'_>> = Box::new(|_: &KeyFile| {
                        ready.wait();
                        Ok(())
                    });
                    match repository.change_keys(KeyChange::Rotate, keep) {
                        Ok(keys) => done.lock().unwrap().push(keys),
                        Err(error) => {
                            let is_told = matches!(
                                error,
                                RepositoryError::Raced(_) | RepositoryError::Busy(_)
                            );
                            assert!(is_told, "{error}");
                        }
                    }
                });
            }
        });
        let done = done.into_inner().unwrap();
        assert!(done.len() <= 1, "{} are said to be done", done.len());
        let ring = match done.into_iter().next() {
            Some(keys) => KeyRing { key_file: Some(keys), ..KeyRing::default() },
            None => repository.ring(),
        };
        test.open_with(ring).unwrap();
        assert!(test.objects(PREFIX).is_empty(), "all of them have ended");
    }
}

#[test]
fn keys_are_not_changed_while_somebody_else_changes_them_or_has_just_been_killed() {
    let test = TestRepository::encrypted();
    let store = test.repository.store();
    let other = Turn { store, by: Changer::Person, key: format!("{PREFIX}keys-0") };
    store.put(&other.key, "repo.json is being changed\n").unwrap();
    let before = store.get(FORMAT_KEY, 1 << 20).unwrap();
    let rotate = || test.repository.change_keys(KeyChange::Rotate, Box::new(|_: &KeyFile| Ok(())));
    let error = rotate().unwrap_err();
    assert!(matches!(error, RepositoryError::Busy(_)), "{error}");
    assert_eq!(store.get(FORMAT_KEY, 1 << 20).unwrap(), before);
    // It was killed, and that is long ago.
    let path = test.path().join(&other.key);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - SILENCE_MAX - MINUTE).unwrap();
    rotate().unwrap();
    assert!(!path.exists(), "what it said is taken away");
}
