//! A write-ahead log with bytes of the fuzzer's in a segment: it opens or says why not, and is read to its end.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use logship::wal::{Log, LogSettings, Next, Position, Upto};

/// A real log, of which one segment is changed.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/testdata/logship-wal-1/lz4/state/wal");

fuzz_target!(|changes: Vec<(u16, u8)>| {
    let state = tempfile::tempdir().expect("a directory");
    let wal = state.path().join("wal");
    std::fs::create_dir(&wal).expect("a directory");
    let mut names: Vec<_> = std::fs::read_dir(GOLDEN).expect("a log").map(|name| name.expect("a name")).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    for name in names {
        let mut bytes = std::fs::read(name.path()).expect("a segment");
        for (at, value) in &changes {
            if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                *byte ^= value;
            }
        }
        std::fs::write(wal.join(name.file_name()), bytes).expect("a copy");
    }
    let Ok((log, _)) = Log::open(LogSettings::at(state.path())) else { return };
    let mut reader = log.reader(Position::default(), Upto::Durable);
    while let Ok(Next::Frame(frame, _)) = reader.next(Duration::ZERO) {
        assert_eq!(frame.block.records().count(), frame.block.count() as usize);
    }
});
