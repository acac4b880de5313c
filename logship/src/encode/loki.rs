//! Grafana Loki: the messages of its push API (`pkg/push/push.proto`), as protocol buffers.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::FieldNames;
use super::plain::CONTROL_MARK;
use super::protobuf::{put_bytes, put_header, put_number};
use super::{Controls, Encoded, PerSource, PerStream, cut, passes};
use crate::record::Record;
use crate::source::SourceMeta;
use crate::time::SECOND;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Labels of a stream, at the most: Loki's own limit unless it is set otherwise.
pub const LABELS_MAX: usize = 15;

/// Longest value of a label or of metadata, in bytes; what is longer is cut.
const VALUE_BYTES_MAX: usize = 1024;

/// Field numbers.
mod field {
    pub(super) const STREAMS: u64 = 1;
    pub(super) const LABELS: u64 = 1;
    pub(super) const ENTRIES: u64 = 2;
    pub(super) const TIMESTAMP: u64 = 1;
    pub(super) const LINE: u64 = 2;
    pub(super) const METADATA: u64 = 3;
    pub(super) const NAME: u64 = 1;
    pub(super) const VALUE: u64 = 2;
    pub(super) const SECONDS: u64 = 1;
    pub(super) const NANOSECONDS: u64 = 2;
}

/// How records look at Loki.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LokiFormat {
    /// Which keys and fields are labels, by the names they have here.
    pub labels: Vec<String>,
    /// Whether the others stand beside each line.
    pub has_metadata: bool,
    /// What is sent beside lines.
    pub controls: Controls,
    /// What keys are called.
    pub names: FieldNames,
}

/// Writes records as `EntryAdapter`; their head is the text of the labels.
#[derive(Debug)]
pub struct Loki {
    format: LokiFormat,
    streams: PerSource<PerStream<Described>>,
    entry: Vec<u8>,
}

/// What is the same for every record of a source and stream.
#[derive(Debug)]
struct Described {
    labels: Arc<[u8]>,
    /// Metadata, ready to be sent.
    metadata: Vec<u8>,
}

impl Loki {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(format: LokiFormat) -> Self {
        Self { format, streams: PerSource::default(), entry: Vec::new() }
    }

    /// Calls `take` with every record from number `from` of the frame on until it says that it was enough, and says
    /// how many of the frame's records are done then.
    ///
    /// Loki takes an equal line of an equal time for the same one. So that none is lost, records of one frame have
    /// times of their own: those of the same moment are set a nanosecond apart. A frame never changes, so a record
    /// that is sent again has the same time again.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        mut take: impl FnMut(Encoded<'_>) -> bool,
    ) -> u32 {
        let Self { format, streams, entry } = self;
        let streams = streams.of(frame, |meta| described(meta, format));
        let mut done = 0;
        let (mut former, mut former_told) = (i64::MIN, i64::MIN);
        for record in frame.block.records() {
            let is_between = former <= record.ts && record.ts <= former_told;
            former_told = if is_between { former_told + 1 } else { record.ts };
            former = record.ts;
            done += 1;
            let is_for_us = !record.flags.is_control() || passes(format.controls, record.line);
            if done <= from || !is_for_us {
                continue;
            }
            let described = streams.of(record.flags.stream());
            let seq = frame.first_seq.saturating_add(u64::from(done - 1));
            entry.clear();
            put_entry(entry, format, &described.metadata, &record, former_told, seq);
            if !take(Encoded { seq, head: &described.labels, bytes: entry }) {
                return done;
            }
        }
        done
    }
}

fn put_entry(
    out: &mut Vec<u8>,
    format: &LokiFormat,
    metadata: &[u8],
    record: &Record<'_>,
    ts: i64,
    seq: u64,
) {
    let mut time = Vec::new();
    put_number(&mut time, field::SECONDS, ts.div_euclid(SECOND).cast_unsigned());
    put_number(&mut time, field::NANOSECONDS, ts.rem_euclid(SECOND).cast_unsigned());
    put_bytes(out, field::TIMESTAMP, &time);
    if record.flags.is_control() {
        put_bytes(out, field::LINE, &[CONTROL_MARK, record.line].concat());
    } else if std::str::from_utf8(record.line).is_ok() {
        put_bytes(out, field::LINE, record.line);
    } else {
        let base64 = STANDARD.encode(record.line);
        let line = format!("{{\"line_b64\":\"{base64}\"}}");
        put_bytes(out, field::LINE, &[CONTROL_MARK, line.as_bytes()].concat());
    }
    if !format.has_metadata {
        return;
    }
    out.extend_from_slice(metadata);
    let mut put = |key: &str, value: &str| {
        if let Some(name) = format.names.of(key) {
            put_metadata(out, name, value);
        }
    };
    put("seq", &seq.to_string());
    let marks = [("partial", record.flags.is_partial()), ("late", record.flags.is_late())];
    for (key, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
        put(key, "true");
    }
}

fn put_metadata(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut pair = Vec::new();
    put_bytes(&mut pair, field::NAME, label_name(name).as_bytes());
    put_bytes(&mut pair, field::VALUE, cut(value.as_bytes(), VALUE_BYTES_MAX));
    put_bytes(out, field::METADATA, &pair);
}

fn described(meta: &SourceMeta, format: &LokiFormat) -> PerStream<Described> {
    PerStream::new(|stream| {
        let mut pairs = format.names.described(meta);
        pairs.extend(format.names.of("stream").map(|name| (name.into(), stream.name())));
        let is_label = |name: &str| format.labels.iter().any(|label| label == name);
        let mut labels = Vec::new();
        let mut metadata = Vec::new();
        for (name, value) in pairs {
            if !is_label(&name) {
                put_metadata(&mut metadata, &name, value);
            } else if labels.len() < LABELS_MAX && !value.is_empty() {
                labels.push((label_name(&name), value));
            }
        }
        labels.sort();
        labels.dedup_by(|later, former| later.0 == former.0);
        // A stream without any label is refused.
        if labels.is_empty() {
            labels.push(("job".to_owned(), "logship"));
        }
        let label = |(name, value): &(String, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<String> = labels.iter().map(label).collect();
        let labels = format!("{{{}}}", labels.join(", "));
        Described { labels: labels.into_bytes().into(), metadata }
    })
}

/// A name of a label: letters, digits and `_`, no digit first.
fn label_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(allowed).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// As it stands between quotes of a label, which are those of Go.
fn escaped(value: &str) -> String {
    let value = String::from_utf8_lossy(cut(value.as_bytes(), VALUE_BYTES_MAX)).into_owned();
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('_'),
            c => out.push(c),
        }
    }
    out
}

/// A `PushRequest` of entries, those of one stream together, before it is compressed.
#[must_use]
pub fn request<'a>(groups: impl IntoIterator<Item = (&'a [u8], Vec<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stream = Vec::new();
    for (labels, entries) in groups {
        stream.clear();
        put_bytes(&mut stream, field::LABELS, labels);
        for entry in entries {
            put_bytes(&mut stream, field::ENTRIES, entry);
        }
        put_header(&mut out, field::STREAMS, stream.len());
        out.extend_from_slice(&stream);
    }
    out
}
