use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use crate::intake::{Chunk, Intake, Message, intake};
use crate::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use crate::source::Parse;
use crate::wal::{Log, LogSettings, Role};

const PATIENCE: Duration = Duration::from_secs(30);

fn send(intake: &Intake, path: &str, lines: &[&str], gap: Option<Gap>) {
    let source = intake
        .open(SourceMeta {
            key: SourceKey(format!("file:{path}")),
            origin: Origin::File { path: path.to_owned(), volume: None, inode: 1 },
            host: "host".to_owned(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::None,
        })
        .id;
    let mut builder = BlockBuilder::default();
    for line in lines {
        builder.push(1_700_000_000_000_000_000, Flags::new(Stream::File), line.as_bytes());
    }
    if let Some(gap) = gap {
        let line = control_line(&Control::Gap(gap));
        builder.push(1_700_000_001_000_000_000, Flags::new(Stream::File).control(), &line);
    }
    let file = FileIdentity { device: 1, inode: 1, born: None };
    let cursor =
        Cursor::File(FileCursor { shift: 0, file, offset: 1, proof: ContentProof::default() });
    let chunk = Chunk { source, block: builder.finish().unwrap(), cursor };
    intake.send_blocking(Message::Chunk(chunk)).unwrap();
}

/// A state directory with two sources and a sink; `gap` in the second one.
fn state(gap: Option<Gap>) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let (log, sources) = Log::open(LogSettings::at(state.path())).unwrap();
    log.sink("out", Role::Mandatory).unwrap().commit(Position::default(), ().into()).unwrap();
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver).unwrap();
    send(&intake, "/log/a", &["one", "two"], None);
    send(&intake, "/log/b", &["three"], gap);
    drop(intake);
    running.finish(Instant::now() + PATIENCE).unwrap();
    state
}

fn gap(lines: Option<u64>) -> Gap {
    Gap {
        from_byte: None,
        reason: GapReason::Rotated,
        from: Some(1_700_000_000_000_000_000),
        to: Some(1_700_000_001_000_000_000),
        bytes: None,
        lines,
        exact: false,
    }
}

#[test]
fn a_log_without_gaps_says_that_nothing_is_lost() {
    let state = state(None);
    let report = audit(state.path(), &AuditRequest::default()).unwrap();
    assert_eq!(report.exit_code(), ExitCode::Done);
    let text = report.text();
    assert!(text.ends_with("\n0 lines lost\n"), "{text}");
    assert!(text.contains("source /log/a (file:/log/a)\n  2 records, 8 bytes"), "{text}");
    assert!(text.contains("in the log: 0 to 1, 2 records"), "{text}");
    // The last frame says that the log was closed, and is nothing to be delivered.
    let behind = report.bytes - 88;
    assert!(text.contains(&format!("sink out\n  at 0.0, {behind} bytes behind\n")), "{text}");
}

#[test]
fn a_sink_that_has_every_record_is_up_to_date_although_the_log_goes_on_behind_them() {
    let state = state(None);
    let (log, _) = Log::open(LogSettings::at(state.path())).unwrap();
    let mut sink = log.sink("out", Role::Mandatory).unwrap();
    let end = log.stats().sources.values().map(|source| source.end).max().unwrap();
    assert!(end < log.end().frame);
    sink.commit(Position { frame: end, record: 0 }, ().into()).unwrap();
    let report = audit(state.path(), &AuditRequest::default()).unwrap();
    assert_eq!(report.sinks[0].place.lag_bytes, 0);
    let text = report.text();
    assert!(text.contains(", up to date\n") && !text.contains("behind"), "{text}");
}

#[test]
fn it_counts_while_another_process_has_the_log() {
    let state = state(None);
    let _held = Log::open(LogSettings::at(state.path())).unwrap();
    assert_eq!(audit(state.path(), &AuditRequest::default()).unwrap().sources.len(), 2);
}

#[test]
fn gaps_are_named_and_end_with_3() {
    for (lines, wanted) in [
        (Some(12), "12 lines lost in 1 gap"),
        (Some(1), "1 line lost in 1 gap"),
        (None, "an unknown amount lost in 1 gap"),
    ] {
        let state = state(Some(gap(lines)));
        let report = audit(state.path(), &AuditRequest::default()).unwrap();
        assert_eq!(report.exit_code(), ExitCode::Warnings);
        let text = report.text();
        assert!(text.ends_with(&format!("\n{wanted}\n")), "{text}");
        assert!(text.contains("at record 1: rotated, "), "{text}");
        assert!(text.contains("some of it may have arrived"), "{text}");
    }
}

#[test]
fn a_source_can_be_asked_for_alone() {
    let state = state(Some(gap(Some(5))));
    for (wanted, sources, lines) in
        [("/log/a", 1, 0), ("file:/log/b", 1, 5), ("/log/c", 0, 0), ("/log", 0, 0)]
    {
        let request = AuditRequest { source: Some(wanted.to_owned()), since: None };
        let report = audit(state.path(), &request).unwrap();
        assert_eq!((report.sources.len(), report.lost.lines), (sources, lines), "{wanted}");
    }
}

#[test]
fn what_was_before_is_left_out() {
    let state = state(Some(gap(Some(5))));
    let mut request = AuditRequest { source: None, since: Some(crate::time::now()) };
    let report = audit(state.path(), &request).unwrap();
    assert_eq!(report.lost, Lost::default());
    assert!(report.sources.iter().all(|source| source.records == 0));
    assert!(report.text().contains("0 lines lost since 2"));
    request.since = Some(1_700_000_000_500_000_000);
    let report = audit(state.path(), &request).unwrap();
    // The frame with the gap has a record behind that time, the other one has none.
    assert_eq!(report.sources.iter().map(|source| source.records).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(report.lost.lines, 5);
}

#[test]
fn damage_is_found_and_ends_with_1() {
    let state = state(None);
    let path = std::fs::read_dir(state.path().join("wal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"one\ntwo\n").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let report = audit(state.path(), &AuditRequest::default()).unwrap();
    assert_eq!(report.exit_code(), ExitCode::Failed);
    assert_eq!(report.damage.len(), 1);
    let text = report.text();
    assert!(text.contains("a frame does not match its checksum"), "{text}");
    assert_eq!(report.lost, Lost::default(), "nobody can tell yet whose it was: {text}");
}

#[test]
fn a_directory_without_a_log_is_named() {
    let state = tempfile::tempdir().unwrap();
    let error = audit(state.path(), &AuditRequest::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no log in {}", state.path().display()));
}
