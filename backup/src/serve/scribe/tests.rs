use std::path::Path;

use super::*;
use crate::serve::fixtures::report;
use crate::serve::state::{DIRECTORY, StateError};

/// The longest wait for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The state when nobody has it any more: a program that another test starts holds its lock for a moment, until it is that
/// program.
fn again(state: &Path) -> State {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Place::take(state) {
            Err(StateError::Taken(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            place => {
                let (state, damage) = place.unwrap().load().unwrap();
                assert_eq!(damage, None);
                return state;
            }
        }
    }
}

fn of(host: &str) -> State {
    let mut state = State::default();
    state.host.clone_from(&Some(host.to_owned()));
    state
}

#[test]
fn what_was_handed_over_last_is_written_and_taken_back_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let mut scribe = Scribe::start(place, Kept::default()).unwrap();
    for host in ["a", "b", "c"] {
        scribe.hand(&of(host), report(host));
    }
    scribe.finish();
    assert_eq!(again(directory.path()), of("c"));
    assert!(health::alive(directory.path()).is_err(), "nobody lives here any more");
}

#[test]
fn a_state_is_written_behind_the_notices_it_says_were_told_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let notices = Kept::default();
    notices.change();
    let mut scribe = Scribe::start(place, notices.clone()).unwrap();
    let desk = scribe.desk();
    scribe.hand(&of("a"), report("a"));
    let deadline = Instant::now() + PATIENCE;
    while desk.hangs_for().is_none() {
        assert!(Instant::now() < deadline, "it never begins to write");
        thread::sleep(Duration::from_millis(1));
    }
    // The first one hangs; the loop goes on, and what it hands over takes no more than one place.
    scribe.hand(&of("b"), report("b"));
    scribe.hand(&of("c"), report("c"));
    assert!(!directory.path().join(DIRECTORY).join("state.json").exists());
    notices.is_kept(1);
    scribe.finish();
    assert_eq!(again(directory.path()), of("c"));
}
