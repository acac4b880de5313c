use super::super::plan::{Action, HookProgress, Identity, Progress};
use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn document() -> Document {
    let container = Identity { id: "a".repeat(64), name: "web".to_owned(), compose: None };
    let target = Target {
        container: container.clone(),
        action: Action::Stop,
        started_at: Some("2026-11-29T10:00:00Z".to_owned()),
        stop_seconds: 10,
        progress: Progress::Acting,
        asked: Some(jiff::Timestamp::UNIX_EPOCH),
    };
    let hook = Hook { container, command: "sync".to_owned(), progress: HookProgress::Due };
    let engine = "unix:///var/run/docker.sock".to_owned();
    Document::new(engine, jiff::Timestamp::UNIX_EPOCH, vec![target], vec![hook]).unwrap()
}

/// The document as it comes back from a file, where the checksum is filled in.
fn unsealed(document: &Document) -> Document {
    Document { checksum: String::new(), ..document.clone() }
}

#[test]
fn a_journal_of_a_dead_run_is_found_and_that_of_a_living_one_is_not() {
    let state = tempfile::tempdir().unwrap();
    assert!(!is_any(state.path()));
    assert!(dead(state.path()).unwrap().is_empty());
    let journal = Journal::create(state.path(), document()).unwrap();
    assert!(is_any(state.path()));
    assert!(dead(state.path()).unwrap().is_empty(), "its run lives");
    let written = journal.document.clone();
    drop(journal);
    let mut found = dead(state.path()).unwrap();
    assert_eq!(found.len(), 1);
    let found = found.remove(0).unwrap();
    assert_eq!(unsealed(&found.document), written);
    found.remove().unwrap();
    assert!(!is_any(state.path()));
    let left = std::fs::read_dir(state.path().join(DIRECTORY)).unwrap().count();
    assert_eq!(left, 0, "the lock goes with it");
}

#[test]
fn progress_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(state.path(), document()).unwrap();
    journal.document.targets[0].progress = Progress::Released;
    journal.save().unwrap();
    drop(journal);
    let found = dead(state.path()).unwrap().remove(0).unwrap();
    assert_eq!(found.document.targets[0].progress, Progress::Released);
}

#[test]
fn every_flipped_or_missing_byte_shows() {
    let bytes = document().to_bytes();
    let path = Path::new("/state/x.json");
    assert!(Document::from_bytes(&bytes, path).is_ok());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(Document::from_bytes(&flipped, path).is_err(), "byte {at}");
        assert!(Document::from_bytes(&bytes[..at], path).is_err(), "cut at {at}");
    }
}

#[test]
fn a_later_version_is_named_and_left_alone() {
    let text = format!(r#"{{"format":"{FORMAT}","version":2,"news":true}}"#);
    let error = Document::from_bytes(text.as_bytes(), Path::new("/state/x.json")).unwrap_err();
    assert!(matches!(error, JournalError::Version { version: 2, .. }), "{error}");
    assert!(error.to_string().contains("/state/x.json"), "{error}");
}

#[test]
fn a_damaged_journal_does_not_hide_the_others() {
    let state = tempfile::tempdir().unwrap();
    drop(Journal::create(state.path(), document()).unwrap());
    let path = state.path().join(DIRECTORY).join("0000000000000000.json");
    std::fs::write(&path, "{}").unwrap();
    let found = dead(state.path()).unwrap();
    assert_eq!(found.len(), 2);
    assert!(matches!(found[0], Err(JournalError::Damaged(_))), "{:?}", found[0]);
    assert!(found[1].is_ok(), "{:?}", found[1]);
}

#[test]
fn what_another_may_have_written_is_not_read() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join(DIRECTORY);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let journal = Journal::create(state.path(), document()).unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let is_foreign = || {
        let found = match dead(state.path()) {
            Ok(mut found) => found.remove(0).map(drop),
            Err(error) => Err(error),
        };
        matches!(found, Err(JournalError::Foreign(_)))
    };
    assert!(!is_foreign());
    mode(&path, 0o620);
    assert!(is_foreign(), "its group may write it");
    mode(&path, 0o600);
    mode(&directory, 0o702);
    assert!(is_foreign(), "anybody may put others beside it");
    mode(&directory, 0o700);
    assert!(!is_foreign());
    let elsewhere = state.path().join("elsewhere.json");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(is_foreign(), "a link");
}

#[test]
fn locks_without_a_journal_are_cleared_unless_they_are_held() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join(DIRECTORY);
    let living = Journal::create(state.path(), document()).unwrap();
    let orphan = directory.join("0000000000000000.lock");
    std::fs::write(&orphan, "").unwrap();
    let held = directory.join("0000000000000001.lock");
    let lock = try_lock(&held).unwrap().unwrap();
    assert!(dead(state.path()).unwrap().is_empty());
    assert!(!orphan.exists() && held.exists());
    drop((lock, living));
}

#[test]
fn the_longest_commands_fit() {
    let mut long = document();
    long.hooks = vec![Hook { command: "\u{1}".repeat(8 << 10), ..long.hooks.remove(0) }; 64];
    assert!((long.to_bytes().len() as u64) < JOURNAL_BYTES_MAX);
}
