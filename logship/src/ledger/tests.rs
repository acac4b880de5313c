use super::*;
use crate::record::GapReason;

fn entry(seq: u64) -> LedgerEntry {
    LedgerEntry {
        at: 5,
        source: SourceKey("file:1-2-3".to_owned()),
        name: "/var/log/a".to_owned(),
        seq,
        sink: None,
        in_log: false,
        gap: Gap {
            from_byte: None,
            reason: GapReason::Rotated,
            from: None,
            to: Some(9),
            bytes: None,
            lines: Some(3),
            exact: true,
        },
    }
}

#[test]
fn a_hole_is_noted_once_even_by_another_process() {
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    assert_eq!(ledger.add(&entry(1)), Some(5));
    assert_eq!(ledger.add(&entry(1)), None);
    let of_sink = LedgerEntry { sink: Some("out".to_owned()), ..entry(1) };
    assert!(ledger.add(&of_sink).is_some());
    let ledger = Ledger::open(Some(state.path())).unwrap();
    assert_eq!(ledger.add(&entry(1)), None);
    assert_eq!(ledger.add(&entry(2)), Some(7), "times tell entries apart");
    let all: Vec<_> =
        read(state.path()).unwrap().iter().map(|entry| (entry.at, entry.seq)).collect();
    assert_eq!(all, [(5, 1), (6, 1), (7, 2)]);
}

#[test]
fn a_reason_of_another_release_spoils_no_other_line() {
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    let refused = LedgerEntry {
        sink: Some("out".to_owned()),
        gap: Gap { reason: GapReason::Refused, ..entry(1).gap },
        ..entry(1)
    };
    assert_eq!(ledger.add(&refused), Some(5));
    let path = state.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""reason":"refused""#), "{text}");
    // What a release that does not know the reason makes of it: nothing.
    std::fs::write(&path, format!("{}{text}", text.replace("refused", "of_tomorrow"))).unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    assert_eq!(ledger.add(&refused), None);
    assert_eq!(ledger.read().unwrap(), [refused]);
}

#[test]
fn a_line_that_a_crash_cut_off_spoils_no_other() {
    let state = tempfile::tempdir().unwrap();
    Ledger::open(Some(state.path())).unwrap().add(&entry(1)).unwrap();
    let path = state.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&bytes[..], &bytes[..bytes.len() / 2]].concat()).unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    ledger.add(&entry(2)).unwrap();
    let all: Vec<_> = read(state.path()).unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(all, [1, 2]);
}

#[test]
fn the_oldest_go_when_it_is_full() {
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    let long = LedgerEntry { name: "x".repeat(60_000), ..entry(0) };
    for seq in 0..200 {
        ledger.add(&LedgerEntry { seq, ..long.clone() }).unwrap();
    }
    for file in [FILE, FILE_BEFORE] {
        let length = std::fs::metadata(state.path().join(file)).unwrap().len();
        assert!(length <= LEDGER_BYTES_MAX, "{file} has {length} bytes");
    }
    let all = read(state.path()).unwrap();
    assert_eq!(all.last().unwrap().seq, 199);
    assert!(all.len() > 69 && all.len() < 140, "{} entries", all.len());
}

#[test]
fn a_ledger_that_cannot_be_written_stops_nothing() {
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Some(state.path())).unwrap();
    std::fs::create_dir(state.path().join(FILE)).unwrap();
    assert!(ledger.add(&entry(1)).is_some());
    assert!(ledger.add(&entry(1)).is_none());
}
