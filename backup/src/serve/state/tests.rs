use super::*;
use crate::serve::fixtures::job;

fn state() -> State {
    let mut state = State { host: Some("machine".to_owned()), ..State::default() };
    let mut web = JobState { job: Some(job("web")), ..JobState::default() };
    let now: Timestamp = "2026-11-30T14:00:00Z".parse().unwrap();
    web.save.times =
        Times { first_seen: Some(now), last_start: Some(now), last_end: None, failures: 2 };
    web.save.last = Some(Last { verdict: Verdict::Failed, text: "it failed".to_owned() });
    web.good = Some(Good { time: now, snapshot: "ab".to_owned() });
    web.bad = Some(Good { time: now, snapshot: "aa".to_owned() });
    state.jobs.insert("web".to_owned(), web);
    state
}

#[test]
fn what_is_remembered_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    assert_eq!(place.load().unwrap(), (State::default(), None));
    place.save(&state()).unwrap();
    assert_eq!(place.load().unwrap(), (state(), None));
    assert_eq!(peek(directory.path()).unwrap().0, state());
}

#[test]
fn two_runs_do_not_share_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let first = Place::take(directory.path()).unwrap();
    let error = Place::take(directory.path()).unwrap_err();
    assert!(matches!(error, StateError::Taken(_)), "{error}");
    drop(first);
    Place::take(directory.path()).unwrap();
}

#[test]
fn damage_is_told_and_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let path = place.directory().join(NAME);
    let whole = serde_json::to_vec(&state()).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"null", b"[1]"] {
        fs::write(&path, damaged).unwrap();
        let (read, told) = place.load().unwrap();
        assert_eq!(read, State::default());
        assert!(told.unwrap().contains("is damaged"));
        assert_eq!(fs::read(place.directory().join(DAMAGED_NAME)).unwrap(), damaged);
        assert!(!path.exists());
    }
}

#[test]
fn the_state_of_a_later_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let text = r#"{"format":"chores-backup-serve","version":4,"more":1}"#;
    fs::write(place.directory().join(NAME), text).unwrap();
    let error = place.load().unwrap_err().to_string();
    assert!(error.contains("version 4") && error.contains("later"), "{error}");
    assert!(place.directory().join(NAME).exists());
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    place.save(&state()).unwrap();
    let large = State { host: Some("x".repeat(usize::try_from(BYTES_MAX).unwrap())), ..state() };
    assert!(matches!(place.save(&large), Err(StateError::Large(_))));
    assert_eq!(place.load().unwrap(), (state(), None));
}

#[test]
fn the_state_of_an_earlier_program_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let text = r#"{"format":"chores-backup-serve","version":1,"host":"machine"}"#;
    fs::write(place.directory().join(NAME), text).unwrap();
    let (read, told) = place.load().unwrap();
    assert_eq!((read.host.as_deref(), read.version, told), (Some("machine"), VERSION, None));
    let text = text.replace(":1,", ":0,");
    fs::write(place.directory().join(NAME), text).unwrap();
    assert!(place.load().unwrap().1.unwrap().contains("damaged"));
}

#[test]
fn what_cannot_be_read_keeps_nobody_from_saving() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    let path = place.directory().join(NAME);
    fs::create_dir(&path).unwrap();
    let (read, told) = place.load().unwrap();
    assert_eq!(read, State::default());
    let told = told.unwrap();
    assert!(told.contains("cannot be read") && told.contains("is kept as"), "{told}");
    // Not even aside there is room for it.
    fs::create_dir(&path).unwrap();
    fs::write(place.directory().join(DAMAGED_NAME).join("file"), "").unwrap();
    let (read, told) = place.load().unwrap();
    assert_eq!(read, State::default());
    assert!(told.unwrap().contains("cannot be kept as"));
}

#[test]
fn what_killed_writes_have_left_is_removed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::take(directory.path()).unwrap();
    place.save(&state()).unwrap();
    let left = place.directory().join(".state.json.tmp-0123456789abcdef");
    let others = [DAMAGED_NAME, "state.json.tmp-0123456789abcdef"];
    fs::write(&left, "half").unwrap();
    others.iter().for_each(|name| fs::write(place.directory().join(name), "").unwrap());
    place.sweep();
    assert!(!left.exists());
    assert!(others.iter().all(|name| place.directory().join(name).exists()));
    assert_eq!(place.load().unwrap(), (state(), None));
}
