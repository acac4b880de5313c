use super::*;

fn entry(file: &str) -> Entry {
    let (sha256, time) = ("00".repeat(32), "2026-11-30T06:00:00Z".to_owned());
    Entry { file: file.to_owned(), bytes: 5, modified: 7, sha256, time }
}

#[test]
fn what_is_there_is_remembered_until_the_file_is_gone() {
    let state = tempfile::tempdir().unwrap();
    assert!(load(state.path()).unwrap().is_empty());
    for name in ["one", "two", "three"] {
        std::fs::write(state.path().join(name), "").unwrap();
        add(state.path(), &entry(name)).unwrap();
    }
    // A kill in the midst of a line, and a file that was moved away.
    let path = directory(state.path()).join(DONE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{{\"file\":\"fo{text}{{\"file\":")).unwrap();
    add(state.path(), &entry("three")).unwrap();
    std::fs::remove_file(state.path().join("two")).unwrap();
    let done = load(state.path()).unwrap();
    assert_eq!(done.keys().collect::<Vec<_>>(), ["one", "three"]);
    assert_eq!(done["one"], entry("one"));
    assert_eq!(load(state.path()).unwrap(), done);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[test]
fn doctor_says_what_waits_and_why() {
    let state = tempfile::tempdir().unwrap();
    let now = Timestamp::from_second(10_000).unwrap();
    assert_eq!(finding(state.path(), now), None);
    let said = |told: &State| {
        tell(state.path(), told).unwrap();
        let finding = finding(state.path(), now).unwrap();
        (finding.status, finding.found)
    };
    assert_eq!(said(&State::default()), (Status::Ok, "everything finished is there".to_owned()));
    let waiting = State { files: 2, bytes: 9, oldest: Some(9_000), ..State::default() };
    let (status, found) = said(&waiting);
    assert_eq!(
        (status, found.as_str()),
        (Status::Ok, "2 files with 9 bytes wait, the oldest for 1000 s")
    );
    assert_eq!(said(&State { oldest: Some(1_000), ..waiting.clone() }).0, Status::Warn);
    let (status, found) = said(&State { failed: Some("no\x1b way".to_owned()), ..waiting.clone() });
    assert_eq!(status, Status::Warn);
    assert!(found.ends_with("in vain: no\u{fffd} way"), "{found}");
    assert_eq!(said(&State { taken: 1, ..waiting }).0, Status::Warn);
    std::fs::write(directory(state.path()).join(STATE), "{").unwrap();
    assert_eq!(finding(state.path(), now).unwrap().status, Status::Warn);
}
