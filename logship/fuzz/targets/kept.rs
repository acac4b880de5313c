//! What is kept in the state directory beside the log: any bytes of a record are one or an error, never a panic, and what
//! they say of a file moves no cursor out of it.
#![no_main]

use std::fs::{self, File};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use logship::cursor::{ContentProof, FileCursor};
use logship::files::desk::Begun;
use logship::rotate::intent::{Intent, Intents};
use logship::rotate::wanted::Wanted;
use logship::wal::{Log, LogSettings, Role};

/// Less than the log keeps aside by itself: there is one for each run.
const RESERVE_BYTES: u64 = 4096;

fuzz_target!(|input: (u8, u64, &[u8])| {
    let (kind, offset, bytes) = input;
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path();
    let write = |name: &str| {
        let path = state.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, bytes).expect("a record");
        path
    };
    match kind % 4 {
        0 => {
            let path = write("rotate/0123456789abcdef.json");
            for (_, intent) in Intents::at(state).all().unwrap_or_default() {
                moved(&intent, offset, &path);
            }
        }
        1 => {
            write("rotate-wanted.json");
            drop(Wanted::read(state));
        }
        2 => {
            write("cursors.json");
            drop(Log::open(LogSettings { cursors: Some(state.to_owned()), ..LogSettings::default() }));
        }
        _ => {
            write("sinks/out.json");
            let settings = LogSettings { reserve_bytes: RESERVE_BYTES, ..LogSettings::at(state) };
            let Ok((log, _)) = Log::open(settings) else { return };
            drop(log.abandoned_sinks());
            drop(log.sink("out", Role::Mandatory));
        }
    }
});

fn moved(intent: &Intent, offset: u64, path: &Path) {
    let Intent::Collapse { begun, .. } = intent else { return };
    let file = File::open(path).expect("it is there");
    let size = file.metadata().expect("it is open").len();
    let cursor = FileCursor { file: begun.file, offset, shift: begun.shift, proof: ContentProof::default() };
    let Ok(moved) = Begun::from(*begun).moved(cursor, &file) else { return };
    assert!(moved == cursor || moved.offset <= size, "{moved:?}");
}
