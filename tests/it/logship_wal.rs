//! The write-ahead log of logship: on a disk that is too small, and as earlier releases wrote it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chores_common::exit::ExitCode;
use e2e::sandbox::Sandbox;
use logship::audit::{AuditRequest, audit};
use logship::block::BlockBuilder;
use logship::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use logship::intake::{Chunk, Intake, Message, intake};
use logship::record::{Flags, Stream};
use logship::source::{Origin, Parse, SourceKey, SourceMeta};
use logship::wal::{Codec, Log, LogSettings, LogStats, Next, Position, Pressure, Role, Upto};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that are sent, one a frame, and bytes of each.
const LINES: u64 = 400;
const LINE_BYTES: usize = 20_000;

fn line(seq: u64) -> Vec<u8> {
    e2e::random::Random::new(seq).bytes(LINE_BYTES / 2).iter().flat_map(hex).collect()
}

fn hex(byte: &u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

fn send(intake: &Intake, from: u64) {
    let source = intake
        .open(SourceMeta {
            key: SourceKey("file:1-2-3".to_owned()),
            origin: Origin::File { path: "/log".to_owned(), volume: None, inode: 2 },
            host: "host".to_owned(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::None,
        })
        .id;
    for seq in from..LINES {
        let mut builder = BlockBuilder::default();
        builder.push(0, Flags::new(Stream::File), &line(seq));
        let file = FileIdentity { device: 1, inode: 2, born: Some(3) };
        let cursor = FileCursor { shift: 0, file, offset: seq + 1, proof: ContentProof::default() };
        let block = builder.finish().expect("a block");
        let chunk = Chunk { source, block, cursor: Cursor::File(cursor) };
        if intake.send_blocking(Message::Chunk(chunk)).is_err() {
            return;
        }
    }
}

/// The released formats.
const FORMATS: [&str; 1] = ["logship-wal-1"];

fn settings(state: &Path) -> LogSettings {
    LogSettings {
        codec: Codec::None,
        segment_bytes: 256 << 10,
        reserve_bytes: 128 << 10,
        ..LogSettings::at(state)
    }
}

fn wait(log: &Log, is_so: impl Fn(&LogStats) -> bool) {
    let begun = Instant::now();
    while !is_so(&log.stats()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", log.stats());
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_stops_nothing_but_reading_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let Some(disk) = sandbox.small_disk("small", 2 << 20) else { return };
    let (log, sources) = Log::open(settings(disk.path())).expect("a log");
    let mut sink = log.sink("out", Role::Mandatory).expect("a sink");
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver).expect("a running log");
    let sender = std::thread::spawn(move || send(&intake, 0));
    // The disk is smaller than the lines: they can only pass as the sink takes them.
    let mut reader = sink.reader(Upto::Durable);
    for seq in 0..LINES {
        if seq % 40 == 0 && seq < LINES - 100 {
            wait(&log, |stats| stats.pressure == Pressure::DiskFull);
        }
        let Next::Frame(frame, 0) = reader.next(PATIENCE).expect("a frame") else {
            panic!("no frame {seq}: {:?}", log.stats())
        };
        assert_eq!(frame.first_seq, seq);
        let record = frame.block.records().next().expect("a record");
        assert_eq!(record.line, line(seq), "record {seq}");
        // The log may have the last room just then and gives it back: whoever delivers asks again, too.
        let begun = Instant::now();
        while let Err(error) = sink.commit(frame.after(1), serde_json::Value::Null) {
            assert!(begun.elapsed() < PATIENCE, "the place is not kept: {error}");
            std::thread::yield_now();
        }
    }
    // Not a thread of a scope: where nothing passes any more it would wait for ever, and nobody would be told why.
    sender.join().expect("the sender does not panic");
    running.finish(Instant::now() + PATIENCE).expect("a good end");
    drop((log, sink, reader));
    let (log, sources) = Log::open(settings(disk.path())).expect("the log again");
    let cursor = sources.all().pop().and_then(|(_, _, cursor)| cursor);
    let Some(Cursor::File(cursor)) = cursor else { panic!("no cursor") };
    assert_eq!(cursor.offset, LINES);
    assert_eq!(log.stats().sources.values().map(|source| source.totals.gaps).sum::<u64>(), 0);
}

#[test]
fn a_process_that_dies_on_a_full_disk_goes_on_when_there_is_room() {
    let sandbox = Sandbox::new();
    let Some(disk) = sandbox.small_disk("small", 1 << 20) else { return };
    // Somebody else fills the disk.
    let (log, sources) = Log::open(settings(disk.path())).expect("a log");
    let sink = log.sink("out", Role::Mandatory).expect("a sink");
    let (taking, receiver) = intake(sources);
    let running = log.run(receiver).expect("a running log");
    std::thread::scope(|scope| {
        scope.spawn(move || send(&taking, 0));
        wait(&log, |stats| stats.pressure == Pressure::DiskFull);
        // As if killed.
        drop(running);
    });
    drop((log, sink));
    let larger = sandbox.directory("larger");
    e2e::zoo::copy(disk.path(), &larger);
    let (log, sources) = Log::open(settings(&larger)).expect("the log again");
    let cursor = sources.all().pop().and_then(|(_, _, cursor)| cursor);
    let Some(Cursor::File(cursor)) = cursor else { panic!("no cursor") };
    assert!(cursor.offset > 0 && cursor.offset < LINES, "{cursor:?}");
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver).expect("a running log");
    send(&intake, cursor.offset);
    drop(intake);
    running.finish(Instant::now() + PATIENCE).expect("a good end");
    let mut reader = log.reader(Position::default(), Upto::Durable);
    for seq in 0..LINES {
        let Next::Frame(frame, 0) = reader.next(PATIENCE).expect("a frame") else {
            panic!("no frame {seq}")
        };
        assert_eq!(
            (frame.first_seq, frame.block.text()),
            (seq, &*[line(seq), vec![b'\n']].concat())
        );
    }
    assert!(matches!(reader.next(Duration::ZERO).expect("the end"), Next::Closed));
}

#[test]
fn every_golden_log_reads_as_it_did() {
    for format in FORMATS {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format);
        for codec in ["none", "lz4", "zstd"] {
            let golden = golden.join(codec);
            let wanted = std::fs::read_to_string(golden.join("manifest")).expect("a manifest");
            // The program may write: work on a copy.
            let sandbox = Sandbox::new();
            let state = sandbox.path("state");
            e2e::zoo::copy(&golden.join("state"), &state);
            let report = audit(&state, &AuditRequest::default()).expect("an audit");
            assert_eq!(report.exit_code(), ExitCode::Warnings, "{format}, {codec}: {report}");
            let (log, sources) = Log::open(settings(&state)).expect("a golden log");
            assert_eq!(e2e::wal::manifest(&log), wanted, "{format}, {codec}");
            // It is written on, and what was there is still the same.
            let (intake, receiver) = intake(sources);
            let running = log.run(receiver).expect("a running log");
            send(&intake, LINES - 2);
            drop(intake);
            running.finish(Instant::now() + PATIENCE).expect("a good end");
            drop(log);
            let (log, _) = Log::open(settings(&state)).expect("the log again");
            let records = wanted.split("\nsource ").next().unwrap_or_default();
            assert!(e2e::wal::manifest(&log).starts_with(records), "{format}, {codec}");
        }
    }
}
