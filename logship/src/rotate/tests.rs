use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::block::BlockBuilder;
use crate::cursor::{ContentProof, FileCursor};
use crate::intake::{Chunk, Message, intake};
use crate::record::{Flags, Stream};
use crate::rotation::Keep;
use crate::source::{Origin, Parse, SourceMeta};
use crate::wal::LogSettings;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn identity(inode: u64) -> FileIdentity {
    FileIdentity { device: 1, inode, born: None }
}

fn log(state: &Path) -> Log {
    Log::open(LogSettings::at(state)).unwrap().0
}

#[test]
fn what_an_earlier_process_left_is_told_to_the_reader() {
    let state = tempfile::tempdir().unwrap();
    let log = log(state.path());
    assert!(left(state.path(), &log).unwrap().begun.is_empty());
    let intents = Intents::at(state.path());
    let file = identity(2);
    let begun = intent::BegunRecord { file, shift: 0, length: 4096, before: 1, after: 2 };
    let base = PathBuf::from("/logs/app.log");
    intents.add(&Intent::Collapse { base: base.clone(), begun }).unwrap();
    let path = PathBuf::from("/logs/app.log.000001");
    let keep = Keep::default();
    let kept = intent::KeptFile { base, path, file, begun: 1, bytes: 3, keep };
    intents.add(&Intent::Kept(kept)).unwrap();
    let left = left(state.path(), &log).unwrap();
    assert_eq!(left.begun, [Begun::from(begun)]);
    assert_eq!(left.kept, HashMap::from([(file, 3)]));
}

#[test]
fn that_a_renamed_file_is_over_is_written_down_before_the_log_forgets_it() {
    let state = tempfile::tempdir().unwrap();
    let (first, sources) = Log::open(LogSettings::at(state.path())).unwrap();
    let (intake, receiver) = intake(sources);
    let running = first.run(receiver).unwrap();
    let (over, goes_on) = (identity(2), identity(3));
    for file in [over, goes_on] {
        let meta = SourceMeta {
            key: key_of(file),
            origin: Origin::File { path: "/logs/app.log".to_owned(), volume: None, inode: 2 },
            host: "host".to_owned(),
            fields: BTreeMap::new(),
            sinks: None,
            parse: Parse::None,
        };
        let source = intake.open(meta).id;
        let mut builder = BlockBuilder::default();
        builder.push(1, Flags::new(Stream::File), b"line");
        let block = builder.finish().unwrap();
        let proof = ContentProof::default();
        let cursor = Cursor::File(FileCursor { file, offset: 5, shift: 0, proof });
        intake.send_blocking(Message::Chunk(Chunk { source, block, cursor })).unwrap();
        if file == over {
            intake.send_blocking(Message::End(source)).unwrap();
        }
    }
    drop(intake);
    running.finish(Instant::now() + PATIENCE).unwrap();
    drop(first);
    let intents = Intents::at(state.path());
    for file in [over, goes_on] {
        let renamed = intent::Renamed {
            base: "/logs/app.log".into(),
            rotated: "/logs/app.log.000001".into(),
            file,
            begun: 1,
            keep: Keep::default(),
            over: None,
            packed: None,
        };
        intents.add(&Intent::Rename(renamed)).unwrap();
    }
    let left = left(state.path(), &log(state.path())).unwrap();
    assert_eq!(left.kept, HashMap::from([(over, 5)]));
    for (_, intent) in intents.all().unwrap() {
        let Intent::Rename(renamed) = intent else { panic!("{intent:?}") };
        assert_eq!(renamed.over, (renamed.file == over).then_some(5));
    }
}
