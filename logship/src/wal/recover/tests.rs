use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use crate::intake::{Chunk, Intake, Message, intake};
use crate::record::{Control, Flags, Stream};
use crate::source::{Origin, Parse, SourceId, SourceKey, SourceMeta};
use crate::wal::frame::HEAD_BYTES;
use crate::wal::segment::{HEADER_BYTES, Segment};
use crate::wal::{
    Codec, Log, LogSettings, Next, Position, Reader, Role, Running, SEGMENT_BYTES_MIN, SinkCursor,
    Upto,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const SOURCES: u64 = 3;

/// Records of each source.
const RECORDS: u64 = 60;

fn meta(source: u64) -> SourceMeta {
    SourceMeta {
        key: SourceKey(format!("file:{source}")),
        origin: Origin::File { path: source.to_string(), volume: None, inode: source },
        host: "host".to_owned(),
        fields: BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    }
}

/// The cursor counts records: the next one to be read.
fn cursor(next: u64) -> Cursor {
    let file = FileIdentity { device: 1, inode: 7, born: None };
    Cursor::File(FileCursor { shift: 0, file, offset: next, proof: ContentProof::default() })
}

fn line(source: u64, seq: u64) -> Vec<u8> {
    let mut line = format!("{source} {seq} ").into_bytes();
    let length = (seq * 97 + source * 31) % 6000;
    // Nothing that compresses much: the log shall have several segments.
    let mut random = source << 32 | seq;
    line.extend((0..length).map(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b' ' + (random >> 57) as u8 % 95
    }));
    line
}

fn settings(state: &Path) -> LogSettings {
    LogSettings {
        codec: Codec::Lz4,
        segment_bytes: SEGMENT_BYTES_MIN,
        reserve_bytes: 0,
        commit_every: Duration::from_millis(1),
        ..LogSettings::at(state)
    }
}

/// Opens the log and lets every source go on where its cursor is, up to `records`; three records a frame.
fn write(state: &Path, records: u64) {
    let (log, sources) = Log::open(settings(state)).unwrap();
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver).unwrap();
    let mut next: Vec<_> = (0..SOURCES)
        .map(|source| {
            let opened = intake.open(meta(source));
            let Some(Cursor::File(cursor)) = opened.cursor else { return (opened.id, 0) };
            (opened.id, cursor.offset)
        })
        .collect();
    while next.iter().any(|(_, next)| *next < records) {
        for (source, (id, next)) in (0..).zip(&mut next) {
            let mut builder = BlockBuilder::default();
            for _ in 0..3 {
                if *next < records {
                    builder.push(*next as i64, Flags::new(Stream::File), &line(source, *next));
                    *next += 1;
                }
            }
            if let Some(block) = builder.finish() {
                let chunk = Chunk { source: *id, block, cursor: cursor(*next) };
                intake.send_blocking(Message::Chunk(chunk)).unwrap();
            }
        }
    }
    drop(intake);
    running.finish(Instant::now() + PATIENCE).unwrap();
}

/// What a reader is given: whole records by source and number, and the numbers that are said to be missing.
#[derive(Debug, Default, PartialEq)]
struct Content {
    records: BTreeSet<(u64, u64)>,
    missing: BTreeSet<(u64, u64)>,
}

/// Reads all of a log. Every record must be the one that was written under its number, and come once.
fn read(log: &Log) -> Content {
    let mut reader = log.reader(Position::default(), Upto::Durable);
    let mut content = Content::default();
    loop {
        let frame = match reader.next(Duration::ZERO).unwrap() {
            Next::Frame(frame, 0) => frame,
            Next::Frame(_, skip) => panic!("{skip} records are left out"),
            Next::Nothing | Next::Closed => return content,
        };
        let source: u64 = frame.meta.origin.name().parse().unwrap();
        for (seq, record) in (frame.first_seq..).zip(frame.block.records()) {
            if record.flags.is_control() {
                let Control::Gap(gap) = serde_json::from_slice(record.line).unwrap() else {
                    panic!("{record:?}")
                };
                content.missing.extend((seq..seq + gap.lines.unwrap()).map(|seq| (source, seq)));
                continue;
            }
            assert_eq!(record.line, line(source, seq), "source {source}, record {seq}");
            assert!(
                content.records.insert((source, seq)),
                "source {source}, record {seq} is twice"
            );
        }
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::create_dir(to.path().join("wal")).unwrap();
    for segment in segments(from) {
        fs::copy(&segment, to.path().join("wal").join(segment.file_name().unwrap())).unwrap();
    }
    to
}

fn segments(state: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(state.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Offsets in a segment at which frames begin, and its length.
fn borders(state: &Path, place: usize) -> Vec<u64> {
    let bases = super::segment::list(&state.join("wal")).unwrap();
    let mut segment = Segment::open(&state.join("wal"), bases[place]).unwrap();
    let mut position = segment.first();
    let mut borders = Vec::new();
    while let Ok(Some(head)) = segment.head(position, u64::MAX).unwrap() {
        borders.push(position - segment.base);
        position = head.end();
    }
    borders.push(position - segment.base);
    borders
}

/// A log whose process was killed a moment after everything was written: it says of no frame at its end that it
/// was closed.
fn killed() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), RECORDS);
    let last = segments(state.path()).len() - 1;
    let borders = borders(state.path(), last);
    let file = fs::OpenOptions::new().write(true).open(&segments(state.path())[last]).unwrap();
    file.set_len(borders[borders.len() - 2]).unwrap();
    state
}

/// Opens a damaged log, lets the sources go on, and proves that each record is there or said to be missing.
/// Gives the numbers that are missing.
fn prove(state: &Path) -> Content {
    let (log, _) = Log::open(settings(state)).unwrap();
    let before = read(&log);
    drop(log);
    write(state, RECORDS + 4);
    let (log, _) = Log::open(settings(state)).unwrap();
    let after = read(&log);
    let wanted: BTreeSet<_> =
        (0..SOURCES).flat_map(|source| (0..RECORDS + 4).map(move |seq| (source, seq))).collect();
    assert!(before.records.is_subset(&after.records));
    let told: BTreeSet<_> = after.records.union(&after.missing).copied().collect();
    let untold: Vec<_> = wanted.symmetric_difference(&told).collect();
    assert!(untold.is_empty(), "neither there nor said to be missing: {untold:?}");
    let counted: u64 = log.stats().sources.values().map(|source| source.totals.lost_lines).sum();
    assert_eq!(counted, after.missing.len() as u64, "what the sums say");
    after
}

#[test]
fn a_log_cut_anywhere_in_its_end_loses_nothing() {
    let state = killed();
    let last = segments(state.path()).len() - 1;
    let borders = borders(state.path(), last);
    let mut lengths: BTreeSet<u64> =
        borders.iter().flat_map(|border| [border - 1, *border, border + 1]).collect();
    let length = *borders.last().unwrap();
    lengths.extend((0..20).map(|step| step * 7919 % length));
    lengths.insert(0);
    for cut in lengths.into_iter().filter(|cut| *cut <= length) {
        let state = copy(state.path());
        let file = fs::OpenOptions::new().write(true).open(&segments(state.path())[last]).unwrap();
        file.set_len(cut).unwrap();
        let content = prove(state.path());
        assert_eq!(content.missing, BTreeSet::new(), "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_costs_no_more_than_the_frame_it_is_in() {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), RECORDS);
    for place in 0..segments(state.path()).len() {
        let borders = borders(state.path(), place);
        let length = *borders.last().unwrap();
        let mut at: BTreeSet<u64> = (0..HEADER_BYTES as u64).step_by(7).collect();
        // Each field of some heads, and cursor and body of every frame.
        for border in borders.iter().step_by(9) {
            at.extend((0..HEAD_BYTES as u64).step_by(4).map(|field| border + field));
        }
        at.extend(borders.iter().map(|border| border + HEAD_BYTES as u64 + 5));
        for at in at.into_iter().filter(|at| *at < length) {
            let state = copy(state.path());
            let path = &segments(state.path())[place];
            let mut bytes = fs::read(path).unwrap();
            bytes[at as usize] ^= 1 << (at % 8);
            fs::write(path, bytes).unwrap();
            let content = prove(state.path());
            assert!(content.missing.len() <= 3, "segment {place}, byte {at}: {content:?}");
        }
    }
}

#[test]
fn zeroes_in_the_middle_cost_what_they_cover() {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), RECORDS);
    let count = segments(state.path()).len();
    for place in 0..count {
        let borders = borders(state.path(), place);
        let last = borders.len() - 1;
        for (from, to) in [(0, 2), (2, last), (last / 2, last / 2 + 1), (0, last)] {
            let state = copy(state.path());
            let path = &segments(state.path())[place];
            let mut bytes = fs::read(path).unwrap();
            bytes[borders[from] as usize..borders[to] as usize].fill(0);
            fs::write(path, bytes).unwrap();
            let (log, _) = Log::open(settings(state.path())).unwrap();
            read(&log);
            drop(log);
            write(state.path(), RECORDS);
        }
    }
    assert!(count > 2, "{count} segments");
}

#[test]
fn a_segment_that_is_gone_is_a_gap() {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), RECORDS);
    let all = segments(state.path());
    fs::remove_file(&all[1]).unwrap();
    let (log, _) = Log::open(settings(state.path())).unwrap();
    let content = read(&log);
    assert!(!content.missing.is_empty());
    let told = content.records.len() + content.missing.len();
    assert_eq!(told as u64, SOURCES * RECORDS);
}

#[test]
fn frames_that_were_never_durable_are_read_again_rather_than_lost() {
    let state = killed();
    let last = segments(state.path()).len() - 1;
    let borders = borders(state.path(), last);
    let path = segments(state.path())[last].clone();
    let bytes = fs::read(&path).unwrap();
    let bases = super::segment::list(&state.path().join("wal")).unwrap();
    // The place before which everything was durable, as the last frame has it.
    let mut segment = Segment::open(&state.path().join("wal"), bases[last]).unwrap();
    let durable = borders
        .iter()
        .filter_map(|border| segment.head(bases[last] + border, u64::MAX).unwrap().ok().flatten())
        .map(|head| head.durable)
        .max()
        .unwrap();
    let unsure = borders.iter().copied().find(|border| bases[last] + border >= durable).unwrap();
    let mut damaged = bytes;
    damaged[unsure as usize + 50] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert_eq!(prove(state.path()).missing, BTreeSet::new());
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Act {
    /// A source has this many more lines.
    Append(u64, u8),
    /// A sink takes up to this many frames, and keeps its place behind them.
    Deliver(usize, u8),
    /// The same, but it dies before it keeps its place.
    Forget(usize, u8),
    /// The process is killed.
    Kill,
    /// The machine loses power: of what was not durable, a part of this size (of 256) is on disk.
    PowerLoss(u8),
    /// The process ends in good order.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..SOURCES, 1..40_u8).prop_map(|(source, count)| Act::Append(source, count)),
        4 => (0..2_usize, 1..8_u8).prop_map(|(sink, frames)| Act::Deliver(sink, frames)),
        2 => (0..2_usize, 1..8_u8).prop_map(|(sink, frames)| Act::Forget(sink, frames)),
        1 => Just(Act::Kill),
        1 => any::<u8>().prop_map(Act::PowerLoss),
        1 => Just(Act::Restart),
    ]
}

/// A process that ships: it ends with its fields.
struct Process {
    log: Log,
    intake: Option<Intake>,
    running: Option<Running>,
    /// Number and next record of each source.
    sources: Vec<(SourceId, u64)>,
    sinks: Vec<SinkCursor>,
    readers: Vec<Reader>,
}

const UNTIL: [Upto; 2] = [Upto::Durable, Upto::Written];

impl Process {
    fn start(state: &Path) -> Self {
        let (log, known) = Log::open(settings(state)).unwrap();
        let sinks: Vec<_> =
            ["durable", "written"].map(|name| log.sink(name, Role::Mandatory).unwrap()).into();
        let readers = sinks.iter().zip(UNTIL).map(|(sink, until)| sink.reader(until)).collect();
        let (intake, receiver) = intake(known);
        let sources = (0..SOURCES).map(|source| {
            let opened = intake.open(meta(source));
            let Some(Cursor::File(cursor)) = opened.cursor else { return (opened.id, 0) };
            (opened.id, cursor.offset)
        });
        let sources = sources.collect();
        let running = Some(log.run(receiver).unwrap());
        Self { log, intake: Some(intake), running, sources, sinks, readers }
    }

    fn append(&mut self, source: u64, count: u8) {
        let (id, next) = &mut self.sources[source as usize];
        let mut builder = BlockBuilder::default();
        for _ in 0..count {
            builder.push(*next as i64, Flags::new(Stream::File), &line(source, *next));
            *next += 1;
        }
        let block = builder.finish().unwrap();
        let chunk = Chunk { source: *id, block, cursor: cursor(*next) };
        self.intake.as_ref().unwrap().send_blocking(Message::Chunk(chunk)).unwrap();
    }

    /// Takes frames; every record has to be what was written under its number.
    fn take(
        &mut self,
        sink: usize,
        frames: u8,
        wait: Duration,
        seen: &mut BTreeSet<(u64, u64)>,
    ) -> Option<Position> {
        let mut position = None;
        for _ in 0..frames {
            let Next::Frame(frame, skip) = self.readers[sink].next(wait).unwrap() else { break };
            let source: u64 = frame.meta.origin.name().parse().unwrap();
            let records = (frame.first_seq..).zip(frame.block.records());
            for (seq, record) in records.skip(skip as usize) {
                assert!(!record.flags.is_control(), "a gap where nothing is lost");
                assert_eq!(record.line, line(source, seq), "source {source}, record {seq}");
                seen.insert((source, seq));
            }
            // In the middle of a frame, sometimes.
            position = Some(frame.after(frame.block.count() / 2 + u32::from(frames)));
        }
        position
    }

    fn finish(mut self) -> Vec<Reader> {
        self.intake = None;
        self.running.take().unwrap().finish(Instant::now() + PATIENCE).unwrap();
        std::mem::take(&mut self.readers)
    }
}

/// Cuts the end of the log so that `kept` of 256 parts of what was not durable remain.
fn lose_power(state: &Path, durable: u64, kept: u8) {
    let bases = super::segment::list(&state.join("wal")).unwrap();
    let Some(last) = bases.last() else { return };
    let path = super::segment::path(&state.join("wal"), *last);
    let length = fs::metadata(&path).unwrap().len();
    let safe = durable.saturating_sub(*last).min(length);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(safe + (length - safe) * u64::from(kept) / 256).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_sink_gets_every_line_whatever_happens(acts in prop::collection::vec(act(), 1..50)) {
        let state = tempfile::tempdir().unwrap();
        let mut process = Process::start(state.path());
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        for act in acts {
            match act {
                Act::Append(source, count) => process.append(source, count),
                Act::Deliver(sink, frames) => {
                    let wait = Duration::from_millis(2);
                    if let Some(position) = process.take(sink, frames, wait, &mut seen[sink]) {
                        process.sinks[sink].commit(position, serde_json::Value::Null).unwrap();
                    }
                }
                Act::Forget(sink, frames) => {
                    process.take(sink, frames, Duration::ZERO, &mut seen[sink]);
                }
                Act::Kill => {
                    drop(process);
                    process = Process::start(state.path());
                }
                Act::PowerLoss(kept) => {
                    process.intake = None;
                    process.running = None;
                    let durable = process.log.stats().durable.frame;
                    drop(process);
                    lose_power(state.path(), durable, kept);
                    process = Process::start(state.path());
                }
                Act::Restart => {
                    process.finish();
                    process = Process::start(state.path());
                }
            }
        }
        // The sinks go on from where they kept their place, and then they have everything.
        process.finish();
        let mut process = Process::start(state.path());
        let wanted: BTreeSet<(u64, u64)> = (0..)
            .zip(&process.sources)
            .flat_map(|(source, (_, next))| (0..*next).map(move |seq| (source, seq)))
            .collect();
        for (sink, seen) in seen.iter_mut().enumerate() {
            process.take(sink, u8::MAX, Duration::ZERO, seen);
            prop_assert!(wanted.is_subset(seen));
        }
    }
}
