use super::*;
use crate::wal::{Log, LogSettings};

fn open(state: &Path) -> Log {
    Log::open(LogSettings { reserve_bytes: 0, ..LogSettings::at(state) }).unwrap().0
}

#[test]
fn names_never_lead_out_of_the_directory_nor_to_another_sink() {
    assert_eq!(file_name("loki-1.eu_west"), "loki-1.eu_west.json");
    let hostile = ["", ".", "..", "../x", "a/b", ".hidden", "~x", "a b", "ä", "x\0y"];
    let long = "x".repeat(81);
    let names: std::collections::BTreeSet<String> =
        hostile.iter().copied().chain([&*long]).map(file_name).collect();
    assert_eq!(names.len(), hostile.len() + 1);
    assert!(names.iter().all(|name| name.len() == 70 && name.starts_with('~')), "{names:?}");
}

#[test]
fn a_place_that_is_not_in_the_log_is_not_kept() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let mut sink = log.sink("out", Role::Mandatory).unwrap();
    let beyond = Position { frame: 1000, record: 0 };
    assert!(sink.commit(beyond, serde_json::Value::Null).is_err());
    assert_eq!(sink.position(), Position::default());
}

#[test]
fn a_sink_of_another_log_begins_anew() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let note = serde_json::json!({"length": 7});
    log.sink("out", Role::Mandatory).unwrap().commit(Position::default(), note).unwrap();
    drop(log);
    // No frame was ever written: the next log is another one.
    let log = open(state.path());
    assert!(log.sink("out", Role::Mandatory).unwrap().note().is_null());
}

#[test]
fn a_damaged_file_is_one_sentence() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let path = state.path().join("sinks/out.json");
    std::fs::write(&path, "{").unwrap();
    let error = log.sink("out", Role::Mandatory).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    let newer = r#"{"version":2,"log":"","sink":"out","role":"mandatory","position":{"frame":0,"record":0}}"#;
    std::fs::write(&path, newer).unwrap();
    assert!(matches!(log.sink("out", Role::Mandatory), Err(WalError::Version { version: 2, .. })));
}
