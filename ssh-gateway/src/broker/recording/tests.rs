use std::collections::BTreeMap;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::host_keys::AUDIT_DIRECTORY;

fn made(config: &RecordConfig) -> (tempfile::TempDir, Recordings, Journal) {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let journal = Journal::start(state.path(), key, 1 << 20).unwrap();
    let recordings = Recordings::new(state.path(), config, journal.clone());
    (state, recordings, journal)
}

fn subject(session: &str) -> Subject {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    let [session, container, title] = [session, "we/b\u{1b}", "a@web: shell"].map(str::to_owned);
    Subject { session, container, title, size }
}

/// The events of a recording: code and data.
fn events(state: &Path, name: &str) -> Vec<(String, String)> {
    let bytes = std::fs::read(state.join(DIRECTORY).join(name)).unwrap();
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap();
    let mut lines = text.lines();
    assert!(Header::parse(lines.next().unwrap().as_bytes()).is_some());
    let events = lines.map(|line| Event::parse(line.as_bytes()).unwrap());
    events.map(|event| (event.code, event.data)).collect()
}

/// The line of the audit about a recording, once it is there.
async fn audited(state: &Path, journal: &Journal) -> BTreeMap<String, Value> {
    loop {
        journal.written(journal.mark()).await.unwrap();
        let text =
            std::fs::read_to_string(state.join(AUDIT_DIRECTORY).join("audit-00000001.jsonl"))
                .unwrap();
        if let Some(line) = text.lines().find(|line| line.contains("\"event\":\"recording\"")) {
            return serde_json::from_str(line).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_in_the_file_and_its_hash_in_the_audit() {
    let (state, recordings, journal) = made(&RecordConfig::default());
    let recording = recordings.begin(subject("a1b2")).unwrap();
    let name = recording.name.clone();
    assert!(name.ends_with("-we_b_-a1b2.cast.zst"), "{name}");
    let size = WindowSize { columns: 100, rows: 30, width: 0, height: 0 };
    for what in [
        What::Output(Bytes::from_static(b"gr\xc3")),
        What::Errors(Bytes::from_static(b"\xff")),
        What::Output(Bytes::from_static(b"\xbcn\xe2")),
        What::Input(Bytes::from_static(b"ls\r")),
        What::Resize(size),
        What::Mark("mark"),
        What::Exit(Exit::Signal { number: 15, core_dumped: false }),
    ] {
        recording.put(what).await.unwrap();
    }
    drop(recording);
    let line = audited(state.path(), &journal).await;
    let bytes = std::fs::read(state.path().join(DIRECTORY).join(&name)).unwrap();
    assert_eq!(line["sha256"], hex(&Sha256::digest(&bytes)));
    assert_eq!((&line["session"], &line["bytes"]), (&"a1b2".into(), &bytes.len().into()));
    assert_eq!(line.get("fault"), None);
    let found = events(state.path(), &name);
    let found: Vec<_> = found.iter().map(|(code, data)| (code.as_str(), data.as_str())).collect();
    assert_eq!(
        found,
        [
            ("o", "gr"),
            ("o", "\u{10feff}"),
            ("o", "ün"),
            ("i", "ls\r"),
            ("r", "100x30"),
            ("m", "mark"),
            ("o", "\u{10fee2}"),
            ("x", "143"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_end_a_recording_and_keep_others_from_beginning() {
    let config = RecordConfig { largest: 1 << 20, quota: 3 << 19, ..RecordConfig::default() };
    let (state, recordings, journal) = made(&config);
    // Nothing of it can be compressed.
    let noise = || {
        let mut bytes = vec![0; 16 * 1024];
        getrandom::fill(&mut bytes).unwrap();
        What::Output(Bytes::from(bytes))
    };
    for session in ["one", "two"] {
        let recording = recordings.begin(subject(session)).unwrap();
        while recording.put(noise()).await.is_ok() {}
    }
    let line = audited(state.path(), &journal).await;
    assert_eq!(line["fault"], "it is as large as a recording may be");
    let all = used(&state.path().join(DIRECTORY));
    assert!(all <= config.quota, "{all}");
    recordings.used.store(config.quota, Ordering::Relaxed);
    // What is really there counts.
    assert!(recordings.begin(subject("three")).is_ok());
    let full = Recordings { quota: 1, ..recordings };
    let refused = full.begin(subject("four")).unwrap_err();
    assert!(refused.contains("quota of 1 bytes for recordings is used up"), "{refused}");
}

/// Everything here is quick; this is for a broken test only.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nobody_for_ever() {
    let (_state, recordings, _journal) = made(&RecordConfig::default());
    // So many begin and come to no end.
    let hung = Arc::clone(&recordings.begins).acquire_many_owned(BEGINS_MAX as u32).await.unwrap();
    let late = recordings.begin_in_time(subject("one"), Duration::from_millis(20)).await;
    assert_eq!(late.map(|_| ()), Err("the disk is too slow to begin a recording".to_owned()));
    drop(hung);
    assert!(recordings.begin_in_time(subject("two"), PATIENCE).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_what_is_still_written() {
    let (state, recordings, journal) = made(&RecordConfig::default());
    let recording = recordings.begin(subject("last")).unwrap();
    recording.put(What::Output(Bytes::from_static(b"words"))).await.unwrap();
    assert!(!recordings.end(Duration::from_millis(20)).await, "it is not over yet");
    drop(recording);
    assert!(recordings.end(PATIENCE).await);
    journal.end().await;
    let audit = state.path().join(AUDIT_DIRECTORY).join("audit-00000001.jsonl");
    let text = std::fs::read_to_string(audit).unwrap();
    assert!(text.contains("\"event\":\"recording\""), "{text}");
}

#[tokio::test]
async fn room_is_found_again_although_writers_stop_before_the_quota() {
    let config = RecordConfig { largest: 1 << 20, quota: 1 << 20, ..RecordConfig::default() };
    let (_state, recordings, _journal) = made(&config);
    // As writers leave it; what took the room was moved away, or uploaded and removed.
    recordings.used.store(config.quota - 10, Ordering::Relaxed);
    assert!(recordings.begin(subject("one")).is_ok());
    recordings.used.store(5000, Ordering::Relaxed);
    recordings.removed(4000);
    assert_eq!(recordings.used.load(Ordering::Relaxed), 1000);
    recordings.removed(4000);
    assert_eq!(recordings.used.load(Ordering::Relaxed), 0);
}
