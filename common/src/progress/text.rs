//! A moment of progress as text (pure).

use std::time::Duration;

use serde::Serialize;

use super::Snapshot;

#[derive(Serialize)]
struct Event<'a> {
    event: &'static str,
    act: &'a str,
    elapsed_ms: u64,
    files: u64,
    files_total: Option<u64>,
    bytes: u64,
    bytes_total: Option<u64>,
    bytes_stored: u64,
    bytes_per_second: u64,
    seconds_left: Option<u64>,
}

/// One JSON object without a line ending: `{"event":"progress","act":…}`.
pub(super) fn json(act: &str, snapshot: &Snapshot, elapsed: Duration) -> String {
    let event = Event {
        event: "progress",
        act,
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        files: snapshot.files,
        files_total: snapshot.files_total,
        bytes: snapshot.bytes,
        bytes_total: snapshot.bytes_total,
        bytes_stored: snapshot.bytes_stored,
        bytes_per_second: snapshot.rate(elapsed),
        seconds_left: snapshot.time_left(elapsed).map(|left| left.as_secs()),
    };
    serde_json::to_string(&event).unwrap_or_default()
}

/// `act: 12 of 40 files, 3.4 MiB of 10.0 MiB, 1.2 MiB stored, 1.1 MiB/s, 6s left`.
pub(super) fn line(act: &str, snapshot: &Snapshot, elapsed: Duration) -> String {
    let files = match snapshot.files_total {
        Some(total) => format!("{} of {total}", snapshot.files),
        None => snapshot.files.to_string(),
    };
    let bytes = match snapshot.bytes_total {
        Some(total) => format!("{} of {}", size(snapshot.bytes), size(total)),
        None => size(snapshot.bytes),
    };
    let stored = size(snapshot.bytes_stored);
    let rate = size(snapshot.rate(elapsed));
    let mut line = format!("{act}: {files} files, {bytes}, {stored} stored, {rate}/s");
    if let Some(left) = snapshot.time_left(elapsed) {
        line.push_str(&format!(", {} left", time(left)));
    }
    line
}

/// A number of bytes as people read it: `3.40 MiB`.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
