//! Makes the golden write-ahead logs of the current format, once, when a format is released:
//! `cargo run -p e2e --bin make-golden-wal -- tests/testdata/logship-wal-N`.
//!
//! One log for each codec, with every kind of frame and record; what they say stands beside them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logship::block::BlockBuilder;
use logship::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use logship::intake::{Chunk, Intake, Message, intake};
use logship::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use logship::source::{Origin, Parse, SourceKey, SourceMeta};
use logship::wal::{Codec, Log, LogSettings, Next, Role, Upto};

/// 2026-11-24T10:20:30Z.
const TIME: i64 = 1_795_515_630_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let golden = PathBuf::from(std::env::args_os().nth(1).ok_or("name the folder to make")?);
    if golden.exists() {
        return Err(format!("{} exists: a golden log never changes", golden.display()).into());
    }
    for (name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)] {
        let folder = golden.join(name);
        let state = folder.join("state");
        // Three processes: three segments.
        for round in 0..3 {
            write(&state, codec, round)?;
        }
        let (log, _) = Log::open(settings(&state, codec))?;
        std::fs::write(folder.join("manifest"), e2e::wal::manifest(&log))?;
        drop(log);
        std::fs::remove_file(state.join("lock"))?;
    }
    Ok(())
}

fn settings(state: &Path, codec: Codec) -> LogSettings {
    LogSettings { codec, reserve_bytes: 0, ..LogSettings::at(state) }
}

fn write(state: &Path, codec: Codec, round: u64) -> Result<(), Box<dyn Error>> {
    let (log, sources) = Log::open(settings(state, codec))?;
    let mut sink = log.sink("golden", Role::Mandatory)?;
    let (intake, receiver) = intake(sources);
    let running = log.run(receiver)?;
    file(&intake, round)?;
    container(&intake, round)?;
    drop(intake);
    running.finish(Instant::now() + Duration::from_secs(60))?;
    let Next::Frame(frame, _) = sink.reader(Upto::Durable).next(Duration::ZERO)? else {
        return Err("the log is empty".into());
    };
    sink.commit(frame.after(1), serde_json::json!({"round": round}))?;
    Ok(())
}

/// Lines of one time, whole.
fn file(intake: &Intake, round: u64) -> Result<(), Box<dyn Error>> {
    let source = intake.open(SourceMeta {
        key: SourceKey("file:2049-131-1795515630000000000".to_owned()),
        origin: Origin::File {
            path: "/volumes/web/access.log".to_owned(),
            volume: Some("web".to_owned()),
            inode: 131,
        },
        host: "golden".to_owned(),
        fields: BTreeMap::from([("round".to_owned(), round.min(1).to_string())]),
        sinks: None,
        parse: Parse::None,
    });
    let lines = (0..50).map(|line| format!("round {round}, line {line}: GET /index.html 200\n"));
    let lines: String = lines.collect();
    let mut builder = BlockBuilder::default();
    let ts = TIME + i64::try_from(round)? * 1_000_000_000;
    builder.push_lines(ts, Flags::new(Stream::File), lines.as_bytes());
    let cursor = Cursor::File(FileCursor {
        shift: 0,
        file: FileIdentity { device: 2049, inode: 131, born: Some(TIME) },
        offset: (round + 1) * lines.len() as u64,
        proof: ContentProof { head_len: 1024, head: 1, tail_len: 4096, tail: 2 },
    });
    let block = builder.finish().ok_or("no lines")?;
    intake.send_blocking(Message::Chunk(Chunk { source: source.id, block, cursor }))?;
    Ok(())
}

/// Records of their own times, with every mark, and the end of a source.
fn container(intake: &Intake, round: u64) -> Result<(), Box<dyn Error>> {
    let id = format!("{round:064x}");
    let source = intake.open(SourceMeta {
        key: SourceKey(format!("engine:{id}")),
        origin: Origin::Engine {
            id,
            container: format!("web-{round}"),
            image: "nginx:1".to_owned(),
            project: Some("shop".to_owned()),
            service: None,
        },
        host: "golden".to_owned(),
        fields: BTreeMap::new(),
        sinks: Some(vec!["golden".to_owned()]),
        parse: Parse::Json,
    });
    let gap = Gap {
        from_byte: None,
        reason: GapReason::Rotated,
        from: Some(TIME + 2),
        to: Some(TIME + 9),
        bytes: Some(700),
        lines: (round == 1).then_some(7),
        exact: true,
    };
    let control = |control| control_line(&control);
    let stdout = Flags::new(Stream::Stdout);
    let mut builder = BlockBuilder::default();
    builder.push(TIME, stdout.control(), &control(Control::Started));
    builder.push(TIME + 1, stdout, b"{\"level\":\"info\"}");
    builder.push(TIME + 2, Flags::new(Stream::Stderr), b"not \xff UTF-8");
    builder.push(TIME + 9, stdout.control(), &control(Control::Gap(gap)));
    builder.push(TIME + 9, stdout.partial(true), b"the beginning");
    builder.push(TIME + 1, Flags::new(Stream::Console).late(true), b"");
    builder.push(TIME + 12, stdout.control(), &control(Control::Stopped));
    let file = FileIdentity { device: 1, inode: round, born: None };
    let cursor = FileCursor { shift: 0, file, offset: 100, proof: ContentProof::default() };
    let block = builder.finish().ok_or("no records")?;
    let cursor = Cursor::File(cursor);
    intake.send_blocking(Message::Chunk(Chunk { source: source.id, block, cursor }))?;
    intake.send_blocking(Message::End(source.id))?;
    Ok(())
}
