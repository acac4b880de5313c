use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use crate::intake::{Chunk, Message, intake};
use crate::record::{Flags, Stream};
use crate::source::{Origin, Parse, SourceKey, SourceMeta};
use crate::ui::query::Asked;
use crate::wal::{Codec, LogSettings};

/// 2026-11-24T10:20:30Z.
const TIME: i64 = 1_795_515_630_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes `lines`, each with its time in seconds, as frames of `frame` lines each.
fn write(settings: LogSettings, lines: &[(i64, String)], frame: usize) -> Log {
    let (log, sources) = Log::open(settings).unwrap();
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver).unwrap();
    let source = intake.open(SourceMeta {
        key: SourceKey("file:1-7-0".to_owned()),
        origin: Origin::File { path: "/logs/a.log".to_owned(), volume: None, inode: 7 },
        host: "h".to_owned(),
        fields: BTreeMap::new(),
        sinks: None,
        parse: Parse::None,
    });
    let mut builder = BlockBuilder::default();
    for (number, some) in lines.chunks(frame).enumerate() {
        for (second, text) in some {
            let ts = TIME + second * time::SECOND;
            builder.push(ts, Flags::new(Stream::File), text.as_bytes());
        }
        let file = FileIdentity { device: 1, inode: 7, born: None };
        let (offset, proof) = (number as u64 + 1, ContentProof::default());
        let cursor = Cursor::File(FileCursor { shift: 0, file, offset, proof });
        let block = builder.finish().unwrap();
        intake.send_blocking(Message::Chunk(Chunk { source: source.id, block, cursor })).unwrap();
    }
    drop(intake);
    running.finish(Instant::now() + PATIENCE).unwrap();
    log
}

struct World {
    past: Past,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// Lines 0 to 299: the first 200 of them in two archives, the last 200 in a log of many segments.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let settings = LogSettings { segment_bytes: 1, codec: Codec::None, ..LogSettings::at(&state) };
    // Numbers are those of all lines: the log knows the earlier ones, and they were removed from it.
    let all: Vec<_> =
        (0..300).map(|at| (at / 10, format!("line {at} {}", "x".repeat(2000)))).collect();
    drop(write(settings, &all, 20));
    let archive = folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let records = |range: std::ops::Range<usize>| -> String {
        let record = |at: usize| {
            let (second, text) = &all[at];
            let ts = super::super::line::stamp(TIME + second * time::SECOND);
            format!(
                "{{\"host\":\"h\",\"path\":\"/logs/a.log\",\"stream\":\"file\",\"seq\":{at},\"ts\":\"{ts}\",\"line\":\"{text}\"}}\n"
            )
        };
        range.map(record).collect()
    };
    let old = zstd::encode_all(records(0..120).as_bytes(), 1).unwrap();
    std::fs::write(archive.join("a.log.000001.zst"), old).unwrap();
    std::fs::write(archive.join("a.log"), records(120..200)).unwrap();
    forget_before(&state, 100);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let past = Past {
        state: Some(state),
        log: None,
        archives: vec![archive.to_str().unwrap().to_owned()],
        s3: S3Settings::default(),
        runtime: runtime.handle().clone(),
    };
    World { past, runtime, _folder: folder }
}

/// Removes segments with records before this number only, as the log does with what every sink has.
fn forget_before(state: &Path, seq: u64) {
    let look = LookBack::new(state);
    let bases = look.segments().unwrap();
    let is_earlier = |base: &u64| {
        let mut next = 0;
        let mut each = |frame: &Frame| {
            next = frame.first_seq + u64::from(frame.block.count());
            ControlFlow::Continue(())
        };
        look.read(*base, &|_, _| true, &mut each).unwrap();
        next <= seq
    };
    let gone: Vec<u64> = bases.iter().copied().take_while(is_earlier).collect();
    assert!(gone.len() > 1 && bases.len() > gone.len() + 1, "{gone:?} of {bases:?}");
    for base in gone {
        std::fs::remove_file(state.join("wal").join(format!("{base:020}.wal"))).unwrap();
    }
}

impl World {
    fn page(&self, query: &str) -> Found {
        let asked = Asked::parse(query, TIME).unwrap();
        self.past.page(&asked.query, asked.page(), &AtomicBool::new(false))
    }
}

fn numbers(found: &Found) -> Vec<usize> {
    let text = |shown: &Shown| shown.line.clone().unwrap();
    found.lines.iter().map(|it| text(it).split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn pages_go_back_through_log_and_archives_without_holes_or_repeats() {
    let world = world();
    let mut all = Vec::new();
    let mut place = String::new();
    loop {
        let found = world.page(&format!("limit=33{place}"));
        assert!(found.notices.is_empty(), "{:?}", found.notices);
        let mut page = numbers(&found);
        if let Some(first) = found.lines.first() {
            place = format!("&before={}", first.id);
        }
        page.extend(all);
        all = page;
        if !found.is_full {
            break;
        }
    }
    assert_eq!(all, (0..300).collect::<Vec<_>>());
}

#[test]
fn pages_go_forward_from_a_time() {
    let world = world();
    let mut all = Vec::new();
    let mut place = "2026-11-24T10:20:40Z".to_owned();
    loop {
        let found = world.page(&format!("limit=33&after={place}"));
        all.extend(numbers(&found));
        if !found.is_full {
            break;
        }
        place.clone_from(&found.lines.last().unwrap().id);
    }
    assert_eq!(all, (100..300).collect::<Vec<_>>());
}

#[test]
fn a_search_looks_at_everything() {
    let world = world();
    assert_eq!(numbers(&world.page("q=line+7+")), [7]);
    assert_eq!(numbers(&world.page("q=%5Eline+2.9+&regex=1&limit=4")), [269, 279, 289, 299]);
    assert!(world.page("source=/logs/b.log").lines.is_empty());
    // Whoever does not wait any more gets nothing, soon.
    let asked = Asked::parse("q=line+7+", TIME).unwrap();
    let found = world.past.page(&asked.query, asked.page(), &AtomicBool::new(true));
    assert!(found.lines.is_empty());
}

#[test]
fn all_of_a_line_is_found_in_either_place() {
    let world = world();
    for number in [7, 150, 299] {
        let found = world.page(&format!("q=line+{number}+"));
        let key = Key::parse(&found.lines[0].id).unwrap();
        let line = world.past.line(key, &AtomicBool::new(false)).unwrap();
        assert!(line.starts_with(format!("line {number} xx").as_bytes()));
        assert!(line.len() > 2000);
    }
    assert_eq!(world.past.line(Key::at(5), &AtomicBool::new(false)), None);
    drop(world.runtime);
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.log");
    std::fs::write(&plain, "a line without a time\n").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let past = Past {
        state: None,
        log: None,
        archives: vec![plain.to_str().unwrap().to_owned(), "/no/such".to_owned()],
        s3: S3Settings::default(),
        runtime: runtime.handle().clone(),
    };
    let asked = Asked::parse("", 0).unwrap();
    let found = past.page(&asked.query, asked.page(), &AtomicBool::new(false));
    assert_eq!(found.notices.len(), 2, "{:?}", found.notices);
    assert!(found.notices[0].contains("cannot read /no/such"), "{:?}", found.notices);
    assert!(found.notices[1].contains("has lines only"), "{:?}", found.notices);
}

#[test]
fn lines_of_a_log_in_memory_are_there_as_long_as_it_has_them() {
    let lines: Vec<_> = (0..50).map(|at| (at, format!("line {at} "))).collect();
    let settings = LogSettings { directory: None, ..LogSettings::default() };
    let log = write(settings, &lines, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let past = Past {
        state: None,
        log: Some(log),
        archives: Vec::new(),
        s3: S3Settings::default(),
        runtime: runtime.handle().clone(),
    };
    let asked = Asked::parse("limit=3", 0).unwrap();
    let found = past.page(&asked.query, asked.page(), &AtomicBool::new(false));
    assert_eq!(numbers(&found), [47, 48, 49]);
}
