//! One JSON object a line; `docs/logship-sinks.md` has the keys and their order.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Controls, Decimal, PerSource, escape};
use crate::parse::{Parsed, parse};
use crate::record::{Record, Stream};
use crate::source::{Origin, Parse, SourceMeta};
use crate::time::Stamp;
use crate::wal::Frame;

/// Keys of a record. A field of the configuration or of a label with such a name gets a `_` in front.
pub const KEYS: [&str; 17] = [
    "host",
    "container",
    "id",
    "image",
    "project",
    "service",
    "path",
    "volume",
    "stream",
    "seq",
    "ts",
    "line",
    "line_b64",
    "partial",
    "late",
    "control",
    "parsed",
];

/// Between the number and the time, and between the time and the line.
const BEFORE_TIME: &[u8] = b",\"ts\":\"";
const BEFORE_LINE: &[u8] = b"\",\"line\":\"";

/// What a record has beside its line and its beginning, in bytes, at the most: number, time, marks.
const REST_BYTES_MAX: usize = 128;

/// Writes records as NDJSON.
#[derive(Debug)]
pub struct Ndjson {
    controls: Controls,
    beginnings: PerSource<Beginnings>,
    stamp: Stamp,
    /// From the number to the line: changes with the time only.
    middle: Vec<u8>,
    middle_ts: Option<i64>,
}

/// `{"host":…,"seq":` of each stream.
#[derive(Debug)]
struct Beginnings([Vec<u8>; 4]);

impl Beginnings {
    fn of(&self, stream: Stream) -> &[u8] {
        let [file, stdout, stderr, console] = &self.0;
        match stream {
            Stream::File => file,
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Console => console,
        }
    }
}

impl Ndjson {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(controls: Controls) -> Self {
        Self {
            controls,
            beginnings: PerSource::default(),
            stamp: Stamp::default(),
            middle: Vec::new(),
            middle_ts: None,
        }
    }

    /// Adds the records of `frame` from number `from` of it on, until `out` has `limit` bytes; says how many of
    /// the frame's records are done then.
    pub fn encode(&mut self, frame: &Frame, from: u32, limit: usize, out: &mut Vec<u8>) -> u32 {
        if out.len() >= limit {
            return from;
        }
        self.each(frame, from, out, |_, out| out.len() < limit)
    }

    /// The same; `written` is called after each record that was written to `out` and says whether to go on.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        out: &mut Vec<u8>,
        mut written: impl FnMut(Stream, &mut Vec<u8>) -> bool,
    ) -> u32 {
        let Self { controls, beginnings, stamp, middle, middle_ts } = self;
        let beginnings = beginnings.of(frame, beginnings_of);
        let all_utf8 = frame.block.is_utf8();
        let parse = frame.meta.parse;
        let mut seq = Decimal::new(frame.first_seq.saturating_add(u64::from(from)));
        let mut done = from;
        for record in frame.block.records().skip(from as usize) {
            done += 1;
            let is_line = !record.flags.is_control();
            if is_line || passes(*controls, record.line) {
                let beginning = beginnings.of(record.flags.stream());
                out.reserve(beginning.len() + record.line.len() + REST_BYTES_MAX);
                out.extend_from_slice(beginning);
                out.extend_from_slice(seq.text());
                if *middle_ts != Some(record.ts) {
                    *middle_ts = Some(record.ts);
                    middle.clear();
                    middle.extend_from_slice(BEFORE_TIME);
                    middle.extend_from_slice(stamp.write(record.ts));
                    middle.extend_from_slice(BEFORE_LINE);
                }
                if is_line && (all_utf8 || std::str::from_utf8(record.line).is_ok()) {
                    out.extend_from_slice(middle);
                    escape::text(out, record.line);
                    out.push(b'"');
                } else {
                    let time = middle.len() - BEFORE_LINE.len();
                    out.extend_from_slice(middle.get(..time).unwrap_or_default());
                    put_special(out, &record);
                }
                put_end(out, &record, parse);
                if !written(record.flags.stream(), out) {
                    return done;
                }
            }
            seq.increment();
        }
        done
    }
}

/// Whether a control record is for the sink.
pub(super) fn passes(controls: Controls, line: &[u8]) -> bool {
    match controls {
        Controls::All => true,
        Controls::Gaps => line.starts_with(b"{\"control\":\"gap\""),
        Controls::None => false,
    }
}

/// The quote that ends the time, and instead of a line the control record or base64.
fn put_special(out: &mut Vec<u8>, record: &Record<'_>) {
    if record.flags.is_control() {
        out.extend_from_slice(b"\",\"control\":");
        out.extend_from_slice(record.line);
    } else {
        out.extend_from_slice(b"\",\"line_b64\":\"");
        out.extend_from_slice(STANDARD.encode(record.line).as_bytes());
        out.push(b'"');
    }
}

#[inline]
fn put_end(out: &mut Vec<u8>, record: &Record<'_>, how: Parse) {
    if record.flags.is_partial() {
        out.extend_from_slice(b",\"partial\":true");
    }
    if record.flags.is_late() {
        out.extend_from_slice(b",\"late\":true");
    }
    if how != Parse::None && !record.flags.is_control() && !record.flags.is_partial() {
        put_parsed(out, record.line, how);
    }
    out.extend_from_slice(b"}\n");
}

fn put_parsed(out: &mut Vec<u8>, line: &[u8], how: Parse) {
    match parse(how, line) {
        None => {}
        Some(Parsed::Json(object)) => {
            out.extend_from_slice(b",\"parsed\":");
            let start = out.len();
            out.extend_from_slice(object.as_bytes());
            // Line ends in valid JSON stand between its tokens only; here they would end the record.
            for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
        }
        Some(Parsed::Fields(fields)) => {
            let mut separator = b'{';
            out.extend_from_slice(b",\"parsed\":");
            for (key, value) in fields {
                out.push(separator);
                separator = b',';
                escape::string(out, key);
                out.push(b':');
                escape::string(out, &value);
            }
            out.push(b'}');
        }
    }
}

fn beginnings_of(meta: &SourceMeta) -> Beginnings {
    let mut common = b"{\"host\":".to_vec();
    escape::string(&mut common, &meta.host);
    let mut put = |key: &str, value: &str| {
        common.push(b',');
        escape::string(&mut common, key);
        common.push(b':');
        escape::string(&mut common, value);
    };
    match &meta.origin {
        Origin::Engine { id, container, image, project, service } => {
            put("container", container);
            put("id", id);
            put("image", image);
            for (key, value) in [("project", project), ("service", service)] {
                if let Some(value) = value {
                    put(key, value);
                }
            }
        }
        Origin::File { path, volume, .. } => {
            put("path", path);
            if let Some(volume) = volume {
                put("volume", volume);
            }
        }
    }
    for (key, value) in &meta.fields {
        let key = match KEYS.contains(&key.as_str()) {
            true => Cow::Owned(format!("_{key}")),
            false => Cow::Borrowed(key),
        };
        put(&key, value);
    }
    Beginnings([Stream::File, Stream::Stdout, Stream::Stderr, Stream::Console].map(|stream| {
        let mut beginning = common.clone();
        beginning.extend_from_slice(b",\"stream\":\"");
        beginning.extend_from_slice(stream.name().as_bytes());
        beginning.extend_from_slice(b"\",\"seq\":");
        beginning
    }))
}
