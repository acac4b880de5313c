//! What a write-ahead log of logship says, as text that can be compared.

use std::fmt::Write as _;
use std::time::Duration;

use logship::wal::{Log, Next, Position, Upto};

/// Every record in its order, then what is known of each source, then the place and note of the sink `golden`.
///
/// # Panics
/// When the log cannot be read.
#[must_use]
pub fn manifest(log: &Log) -> String {
    let mut text = String::new();
    let mut reader = log.reader(Position::default(), Upto::Durable);
    let mut put = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    while let Next::Frame(frame, 0) = reader.next(Duration::ZERO).expect("a frame") {
        for (seq, record) in (frame.first_seq..).zip(frame.block.records()) {
            let (key, flags) = (&frame.meta.key.0, record.flags.to_byte());
            let line = record.line.escape_ascii();
            put(format!("{key} {seq} {} {flags:05b} {line}", record.ts));
        }
    }
    let stats = log.stats();
    for (id, source) in &stats.sources {
        let source = serde_json::to_string(source).expect("a state is JSON");
        put(format!("source {} {source}", id.0));
    }
    let sink = log.sink("golden", logship::wal::Role::Mandatory).expect("a sink");
    put(format!("sinks {:?} {}", sink.position(), sink.note()));
    text
}
