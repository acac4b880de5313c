use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, FileCursor, FileIdentity};
use crate::intake::{Chunk, Intake, Message, intake};
use crate::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use crate::source::{Origin, Parse, SourceKey};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn meta(name: &str) -> SourceMeta {
    SourceMeta {
        key: SourceKey(format!("file:{name}")),
        origin: Origin::File { path: format!("/var/log/{name}"), volume: None, inode: 7 },
        host: "host".to_owned(),
        fields: BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    }
}

fn cursor(offset: u64) -> Cursor {
    let file = FileIdentity { device: 1, inode: 7, born: None };
    Cursor::File(FileCursor { shift: 0, file, offset, proof: ContentProof::default() })
}

fn block(lines: &[&str]) -> Block {
    let mut builder = BlockBuilder::default();
    for line in lines {
        builder.push(1_000, Flags::new(Stream::File), line.as_bytes());
    }
    builder.finish().unwrap()
}

struct Open {
    log: Log,
    intake: Option<Intake>,
    running: Option<Running>,
}

impl Open {
    fn new(settings: LogSettings) -> Self {
        Self::with(settings, |_| {})
    }

    fn with(settings: LogSettings, prepare: impl FnOnce(&Log)) -> Self {
        let (log, sources) = Log::open(settings).unwrap();
        prepare(&log);
        let (intake, receiver) = intake(sources);
        let running = log.run(receiver).unwrap();
        Self { log, intake: Some(intake), running: Some(running) }
    }

    fn send(&self, name: &str, lines: &[&str], offset: u64) {
        let intake = self.intake.as_ref().unwrap();
        let source = intake.open(meta(name)).id;
        let chunk = Chunk { source, block: block(lines), cursor: cursor(offset) };
        intake.send_blocking(Message::Chunk(chunk)).unwrap();
    }

    /// Ends in good order.
    fn finish(mut self) -> Log {
        self.intake = None;
        self.running.take().unwrap().finish(Instant::now() + PATIENCE).unwrap();
        self.log.clone()
    }

    fn wait(&self, is_so: impl Fn(&LogStats) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.log.stats()) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.log.stats());
            std::thread::yield_now();
        }
    }
}

fn settings(directory: &Path) -> LogSettings {
    LogSettings {
        commit_every: Duration::from_millis(5),
        reserve_bytes: 4096,
        ..LogSettings::at(directory)
    }
}

/// Everything from a place on, `source name, number, line` each.
fn read(log: &Log, from: Position) -> Vec<(String, u64, String)> {
    let mut reader = log.reader(from, Upto::Durable);
    let mut all = Vec::new();
    loop {
        match reader.next(PATIENCE).unwrap() {
            Next::Frame(frame, skip) => {
                for (place, record) in (0..).zip(frame.block.records()).skip(skip as usize) {
                    let line = String::from_utf8_lossy(record.line).into_owned();
                    all.push((frame.meta.origin.name().to_owned(), frame.first_seq + place, line));
                }
            }
            Next::Nothing => panic!("nothing came"),
            Next::Closed => return all,
        }
    }
}

fn record(name: &str, seq: u64, line: &str) -> (String, u64, String) {
    (format!("/var/log/{name}"), seq, line.to_owned())
}

#[test]
fn what_was_written_is_read_again_by_the_next_process() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let state = tempfile::tempdir().unwrap();
        let settings = LogSettings { codec, ..settings(state.path()) };
        let open = Open::new(settings.clone());
        open.send("a", &["one", "two"], 8);
        open.send("b", &["other"], 6);
        open.send("a", &["three"], 14);
        let wanted = vec![
            record("a", 0, "one"),
            record("a", 1, "two"),
            record("b", 0, "other"),
            record("a", 2, "three"),
        ];
        let log = open.finish();
        assert_eq!(read(&log, Position::default()), wanted);
        drop(log);
        let (log, sources) = Log::open(settings.clone()).unwrap();
        assert_eq!(sources.open(meta("a")).cursor, Some(cursor(14)));
        assert_eq!(sources.open(meta("b")).cursor, Some(cursor(6)));
        drop((log, sources));
        let open = Open::new(settings);
        open.send("a", &["four"], 19);
        let log = open.finish();
        let wanted: Vec<_> = wanted.into_iter().chain([record("a", 3, "four")]).collect();
        assert_eq!(read(&log, Position::default()), wanted);
    }
}

#[test]
fn a_reader_goes_on_in_the_middle_of_a_frame() {
    let state = tempfile::tempdir().unwrap();
    let open = Open::new(settings(state.path()));
    open.send("a", &["one", "two", "three"], 14);
    let log = open.finish();
    let mut reader = log.reader(Position::default(), Upto::Written);
    let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
    let rest = read(&log, frame.after(2));
    assert_eq!(rest, [record("a", 2, "three")]);
    assert!(read(&log, frame.after(3)).is_empty());
}

#[test]
fn a_sink_goes_on_where_it_was() {
    let state = tempfile::tempdir().unwrap();
    let open = Open::new(settings(state.path()));
    open.send("a", &["one"], 4);
    let mut sink = open.log.sink("files", Role::Mandatory).unwrap();
    let Next::Frame(frame, 0) = sink.reader(Upto::Written).next(PATIENCE).unwrap() else {
        panic!("no frame")
    };
    sink.commit(frame.after(1), serde_json::json!({"length": 4})).unwrap();
    open.send("a", &["two"], 8);
    drop(sink);
    drop(open.finish());
    let (log, _) = Log::open(settings(state.path())).unwrap();
    let sink = log.sink("files", Role::Mandatory).unwrap();
    assert_eq!(sink.note(), &serde_json::json!({"length": 4}));
    let mut reader = sink.reader(Upto::Durable);
    let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
    assert_eq!(frame.block.text(), b"two\n");
}

#[test]
fn two_processes_never_share_a_state_directory() {
    let state = tempfile::tempdir().unwrap();
    let first = Log::open(settings(state.path())).unwrap();
    let error = Log::open(settings(state.path())).unwrap_err();
    assert!(matches!(error, WalError::InUse { .. }), "{error}");
    drop(first);
    Log::open(settings(state.path())).unwrap();
}

#[test]
fn a_log_without_a_directory_hands_everything_on() {
    let open = Open::new(LogSettings::default());
    let mut reader = open.log.reader(Position::default(), Upto::Durable);
    let lines: Vec<String> =
        (0..1000).map(|number| format!("{number} {}", "x".repeat(100_000))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in &lines {
                open.send("a", &[line], 1);
            }
        });
        for line in &lines {
            let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
            assert_eq!(frame.block.text(), format!("{line}\n").as_bytes());
        }
    });
    open.finish();
    assert!(matches!(reader.next(PATIENCE).unwrap(), Next::Closed));
}

#[test]
fn segments_that_every_sink_has_are_removed() {
    let state = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        segment_bytes: SEGMENT_BYTES_MIN,
        codec: Codec::None,
        ..settings(state.path())
    };
    let open = Open::with(settings, |log| {
        log.sink("slow", Role::Mandatory).unwrap();
    });
    let line = "x".repeat(20_000);
    for offset in 0..20 {
        open.send("a", &[&line], offset);
    }
    open.wait(|stats| stats.sources.values().any(|source| source.next_seq == 20));
    let before = open.log.stats();
    assert!(before.segments > 5, "{before:?}");
    let mut sink = open.log.sink("slow", Role::Mandatory).unwrap();
    sink.commit(before.written, serde_json::Value::Null).unwrap();
    open.wait(|stats| stats.segments == 1);
    let log = open.finish();
    assert_eq!(read(&log, sink.position()), []);
    assert_eq!(std::fs::read_dir(state.path().join("wal")).unwrap().count(), 1);
}

#[test]
fn a_full_log_waits_for_the_slowest_sink() {
    let state = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        bytes_max: 4 * SEGMENT_BYTES_MIN,
        codec: Codec::None,
        ..settings(state.path())
    };
    let open = Open::with(settings, |log| {
        log.sink("slow", Role::Mandatory).unwrap();
    });
    let line = "x".repeat(20_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 0..60 {
                open.send("a", &[&line], offset);
            }
        });
        open.wait(|stats| stats.pressure == Pressure::Sinks);
        assert!(open.log.stats().bytes <= 4 * SEGMENT_BYTES_MIN);
        let mut sink = open.log.sink("slow", Role::Mandatory).unwrap();
        let mut reader = sink.reader(Upto::Durable);
        for seq in 0..60 {
            let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
            assert_eq!(frame.first_seq, seq);
            assert!(open.log.stats().bytes <= 4 * SEGMENT_BYTES_MIN);
            sink.commit(frame.after(1), serde_json::Value::Null).unwrap();
        }
    });
}

#[test]
fn an_optional_sink_that_is_too_slow_is_told_what_it_lost() {
    let state = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        segment_bytes: SEGMENT_BYTES_MIN,
        codec: Codec::None,
        ..settings(state.path())
    };
    let role = Role::Optional { bytes_max: SEGMENT_BYTES_MIN };
    let open = Open::with(settings, |log| {
        log.sink("lossy", role).unwrap();
    });
    let sink = open.log.sink("lossy", role).unwrap();
    let mut reader = sink.reader(Upto::Durable);
    let line = "x".repeat(20_000);
    open.send("a", &[&line], 0);
    let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
    assert_eq!(frame.first_seq, 0);
    // More than is held in memory.
    for offset in 1..500 {
        open.send("a", &[&line], offset);
    }
    open.wait(|stats| {
        stats.sources.values().any(|source| source.next_seq == 500) && stats.segments <= 3
    });
    let log = open.finish();
    let mut expected = 1;
    let mut lost = 0;
    loop {
        let frame = match reader.next(PATIENCE).unwrap() {
            Next::Frame(frame, _) => frame,
            Next::Nothing => panic!("nothing came"),
            Next::Closed => break,
        };
        assert_eq!(frame.first_seq, expected);
        expected += 1;
        if frame.block.has_control() {
            let line = frame.block.records().next().unwrap().line.to_vec();
            let Control::Gap(gap) = serde_json::from_slice(&line).unwrap() else {
                panic!("{line:?}")
            };
            assert_eq!(gap.reason, GapReason::SinkBound);
            lost += gap.lines.unwrap();
            expected = frame.first_seq + gap.lines.unwrap();
        }
    }
    assert_eq!(expected, 500);
    assert!(lost > 0);
    let skipped = reader.take_skipped();
    assert_eq!(skipped.records, lost);
    let entries = crate::ledger::read(state.path()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.gap.lines.unwrap()).sum::<u64>(), lost);
    assert_eq!(entries[0].sink.as_deref(), Some("lossy"));
    assert_eq!(skipped.gaps, entries.len() as u64);
    assert_eq!(log.stats().sources.values().map(|source| source.totals.gaps).sum::<u64>(), 0);
}

#[test]
fn gaps_that_sources_tell_of_are_counted() {
    let state = tempfile::tempdir().unwrap();
    let open = Open::new(settings(state.path()));
    let gap = Gap {
        from_byte: None,
        reason: GapReason::Rotated,
        from: Some(5),
        to: Some(9),
        bytes: Some(70),
        lines: None,
        exact: true,
    };
    let mut builder = BlockBuilder::default();
    builder.push(5, Flags::new(Stream::Stdout), b"before");
    let line = control_line(&Control::Gap(gap.clone()));
    builder.push(9, Flags::new(Stream::Stdout).control(), &line);
    builder.push(9, Flags::new(Stream::Stdout).late(true), b"behind");
    let intake = open.intake.as_ref().unwrap();
    let source = intake.open(meta("a")).id;
    let chunk = Chunk { source, block: builder.finish().unwrap(), cursor: cursor(1) };
    intake.send_blocking(Message::Chunk(chunk)).unwrap();
    let log = open.finish();
    let totals = log.stats().sources[&source].totals;
    let wanted = Totals {
        records: 3,
        controls: 1,
        bytes: 14 + line.len() as u64 + 1,
        late: 1,
        gaps: 1,
        gaps_unknown: 1,
        lost_lines: 0,
        lost_bytes: 70,
        ..Totals::default()
    };
    assert_eq!(totals, wanted);
    drop(log);
    // The same after a restart, and the hole is in the ledger once.
    let (log, _) = Log::open(settings(state.path())).unwrap();
    assert_eq!(log.stats().sources[&source].totals, wanted);
    let entries = crate::ledger::read(state.path()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].seq, &entries[0].gap), (1, &gap));
}

#[test]
fn a_spectator_sees_what_another_process_writes() {
    let state = tempfile::tempdir().unwrap();
    let mut early = Spectator::open(state.path(), Start::Oldest).unwrap();
    assert!(early.next().unwrap().is_none());
    let settings = LogSettings {
        segment_bytes: SEGMENT_BYTES_MIN,
        codec: Codec::None,
        ..settings(state.path())
    };
    let open = Open::new(settings);
    let line = "x".repeat(30_000);
    open.send("a", &["first"], 1);
    for offset in 2..10 {
        open.send("a", &[&line], offset);
    }
    open.wait(|stats| stats.sources.values().any(|source| source.next_seq == 9));
    let mut late = Spectator::open(state.path(), Start::End).unwrap();
    assert!(late.next().unwrap().is_none());
    open.send("b", &["last"], 10);
    open.wait(|stats| stats.sources.len() == 2);
    for seq in 0..9 {
        assert_eq!(early.next().unwrap().unwrap().first_seq, seq);
    }
    for spectator in [&mut early, &mut late] {
        let frame = spectator.next().unwrap().unwrap();
        assert_eq!((frame.meta.origin.name(), frame.block.text()), ("/var/log/b", &b"last\n"[..]));
        assert!(spectator.next().unwrap().is_none());
    }
}

#[test]
fn a_log_in_memory_keeps_how_far_every_sink_has_come() {
    let state = tempfile::tempdir().unwrap();
    let settings = LogSettings { cursors: Some(state.path().to_owned()), ..LogSettings::default() };
    let open = Open::new(settings.clone());
    let mut sink = open.log.sink("out", Role::Mandatory).unwrap();
    let mut reader = sink.reader(Upto::Durable);
    for (line, offset) in [("one", 4), ("two", 8), ("three", 14)] {
        open.send("a", &[line], offset);
    }
    let mut frame = || match reader.next(PATIENCE).unwrap() {
        Next::Frame(frame, 0) => frame,
        other => panic!("{other:?}"),
    };
    frame();
    sink.commit(frame().after(1), serde_json::Value::Null).unwrap();
    // While it runs, too: rotation removes nothing before.
    open.wait(|_| open.log.safe() > 0);
    frame();
    // The third one was handed on, but not kept.
    drop((open.finish(), reader, sink));
    let open = Open::new(settings.clone());
    let opened = open.log.sources().open(meta("a"));
    assert_eq!(opened.cursor, Some(cursor(8)));
    let mut sink = open.log.sink("out", Role::Mandatory).unwrap();
    let mut reader = sink.reader(Upto::Durable);
    open.send("a", &["three"], 14);
    let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
    assert_eq!(frame.first_seq, 2);
    // After the end, too.
    let log = open.finish();
    sink.commit(frame.after(1), serde_json::Value::Null).unwrap();
    drop((log, reader, sink));
    let (log, _) = Log::open(settings).unwrap();
    assert_eq!(log.sources().open(meta("a")).cursor, Some(cursor(14)));
}

#[test]
fn a_sink_of_before_is_told_of_only_while_there_are_records_that_it_lacks() {
    let state = tempfile::tempdir().unwrap();
    let abandoned = || Log::open(settings(state.path())).unwrap().0.abandoned_sinks().unwrap();
    let open = Open::with(settings(state.path()), |log| {
        let mut sink = log.sink("old", Role::Mandatory).unwrap();
        sink.commit(Position::default(), serde_json::Value::Null).unwrap();
    });
    open.send("a", &["one"], 4);
    drop(open.finish());
    assert_eq!(abandoned(), ["old"]);
    let log = Log::open(settings(state.path())).unwrap().0;
    let end = log.stats().sources.values().map(|source| source.end).max().unwrap();
    // The log goes on behind its last record: it was closed.
    assert!(end < log.end().frame);
    let mut sink = log.sink("old", Role::Mandatory).unwrap();
    sink.commit(Position { frame: end, record: 0 }, serde_json::Value::Null).unwrap();
    drop((log, sink));
    assert_eq!(abandoned(), [""; 0]);
}

#[test]
fn whoever_looks_goes_on_where_it_was_when_the_log_could_not_be_read() {
    let state = tempfile::tempdir().unwrap();
    let open = Open::new(settings(state.path()));
    open.send("a", &["one"], 4);
    open.send("a", &["two"], 8);
    drop(open.finish());
    let mut spectator = Spectator::open(state.path(), Start::Oldest).unwrap();
    let mut next = || spectator.next().map(|frame| frame.map(|frame| frame.first_seq));
    assert_eq!(next().unwrap(), Some(0));
    let (log, away) = (state.path().join("wal"), state.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "").unwrap();
    next().unwrap_err();
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    assert_eq!(next().unwrap(), Some(1));
}

#[test]
fn a_log_without_descriptors_waits_for_one_and_goes_on() {
    use crate::descriptors::tests::{alone, exhaust};
    alone("wal::tests::a_log_without_descriptors_waits_for_one_and_goes_on", || {
        let state = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            segment_bytes: SEGMENT_BYTES_MIN,
            codec: Codec::None,
            ..settings(state.path())
        };
        let open = Open::new(settings);
        let mut reader = open.log.reader(Position::default(), Upto::Durable);
        let line = "x".repeat(20_000);
        open.send("a", &[&line], 0);
        open.wait(|stats| stats.segments == 1 && stats.durable == stats.written);
        let held = exhaust();
        let per_segment = SEGMENT_BYTES_MIN / 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for offset in 1..3 * per_segment {
                    open.send("a", &[&line], offset);
                }
            });
            open.wait(|stats| stats.pressure == Pressure::Descriptors);
            assert_eq!(open.log.failed(), None);
            drop(held);
            open.wait(|stats| {
                stats.sources.values().any(|source| source.next_seq == 3 * per_segment)
            });
        });
        let mut seq = 0;
        while seq < 3 * per_segment {
            let Next::Frame(frame, 0) = reader.next(PATIENCE).unwrap() else { panic!("no frame") };
            assert_eq!(frame.first_seq, seq);
            seq += u64::from(frame.block.count());
        }
        let log = open.finish();
        assert_eq!((log.failed(), log.stats().pressure), (None, Pressure::None));
    });
}
