use std::collections::BTreeMap;

use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::chain::{Report, Verifier};

const QUOTA: u64 = 1 << 20;

fn key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]))
}

fn state() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    state
}

fn fields(number: u64) -> Map<String, Value> {
    Map::from_iter([("status".to_owned(), number.into())])
}

fn directory(state: &tempfile::TempDir) -> PathBuf {
    state.path().join(AUDIT_DIRECTORY)
}

/// All files as `audit verify` reads them.
fn report(state: &tempfile::TempDir) -> Report {
    let directory = directory(state);
    let public = key().public_key().clone();
    let head = std::fs::read(directory.join(HEAD)).ok();
    let mut verifier = Verifier::new(&public, head, BTreeMap::new());
    for number in files(&directory).unwrap() {
        verifier.file(&file_name(number));
        let bytes = std::fs::read(directory.join(file_name(number))).unwrap();
        let mut lines = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        let rest = lines.pop().unwrap_or_default();
        for line in lines {
            verifier.line(line);
        }
        verifier.rest(rest);
    }
    verifier.end()
}

fn events(state: &tempfile::TempDir) -> Vec<String> {
    let directory = directory(state);
    let mut events = Vec::new();
    for number in files(&directory).unwrap() {
        let text = std::fs::read_to_string(directory.join(file_name(number))).unwrap();
        events.extend(text.lines().filter_map(|line| {
            serde_json::from_str::<Value>(line).ok()?["event"].as_str().map(str::to_owned)
        }));
    }
    events
}

#[tokio::test]
async fn lives_follow_each_other_in_one_chain() {
    let state = state();
    for life in 0..3 {
        let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
        for number in 0..600 {
            journal.write("exit", fields(life * 1000 + number));
        }
        assert_eq!(journal.written().await, Ok(()));
        journal.end().await;
    }
    let report = report(&state);
    assert_eq!((report.damages, report.notes), (vec![], vec![]));
    assert_eq!(report.signed, report.last);
    let events = events(&state);
    let count = |event: &str| events.iter().filter(|its| *its == event).count();
    assert_eq!((count("exit"), count(BEGIN), count(GAP)), (1800, 3, 0));
    assert_eq!(files(&directory(&state)).unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn what_a_kill_has_left_is_gone_on_from() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(1));
    journal.end().await;
    let first = directory(&state).join(file_name(1));
    let torn = [std::fs::read(&first).unwrap().as_slice(), b"{\"number\":4,\"ti"].concat();
    std::fs::write(&first, torn).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(2));
    journal.end().await;
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
}

#[tokio::test]
async fn what_was_cut_between_two_lives_is_told_for_ever() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    for number in 0..10 {
        journal.write("exit", fields(number));
    }
    journal.end().await;
    let first = directory(&state).join(file_name(1));
    let text = std::fs::read_to_string(&first).unwrap();
    let kept: Vec<&str> = text.lines().take(5).collect();
    std::fs::write(&first, format!("{}\n", kept.join("\n"))).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(99));
    journal.end().await;
    let report = report(&state);
    let damage = report.damages.first().unwrap();
    assert_eq!((damage.file.as_str(), damage.line), (file_name(2).as_str(), 1), "{report:?}");
    assert!(damage.what.contains("lines 6 to 13 were gone"), "{damage:?}");
}

#[tokio::test]
async fn a_full_quota_is_told_and_over_when_there_is_room() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    for number in 0..500 {
        journal.write("exit", fields(number));
    }
    let told = journal.written().await.unwrap_err();
    assert!(told.contains("its quota of 20000 bytes is used up"), "{told}");
    assert!(journal.written().await.is_err());
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
    journal.end().await;
    // Somebody has moved the old ones away.
    std::fs::remove_file(directory(&state).join(file_name(1))).unwrap();
    std::fs::remove_file(directory(&state).join(HEAD)).unwrap();
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    journal.write("exit", fields(0));
    assert_eq!(journal.written().await, Ok(()));
    journal.end().await;
}

#[tokio::test]
async fn events_that_were_left_out_are_counted() {
    let state = state();
    std::fs::remove_dir(directory(&state)).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(1));
    journal.write("exit", fields(2));
    assert!(journal.written().await.is_err());
    std::fs::create_dir(directory(&state)).unwrap();
    // It is tried again after a while: the answer comes when it has been.
    while journal.written().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    journal.write("exit", fields(3));
    journal.end().await;
    assert_eq!(events(&state), [BEGIN, "checkpoint", GAP, "exit", "checkpoint"]);
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
}

#[test]
fn only_our_own_files_are_ours() {
    assert_eq!(file_number("audit-00000012.jsonl"), Some(12));
    for other in
        ["audit-12.jsonl", "audit-00000012.json", "head", "audit--0000001.jsonl", "key.pub"]
    {
        assert_eq!(file_number(other), None, "{other}");
    }
}
