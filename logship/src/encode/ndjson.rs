//! One JSON object a line; `docs/logship-sinks.md` has the keys and their order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::FieldNames;
use super::{Controls, Decimal, PerSource, PerStream, escape, passes};
use crate::parse::{Parsed, parse};
use crate::record::Record;
use crate::source::{Parse, SourceMeta};
use crate::time::Stamp;
use crate::wal::Frame;

/// What a record has beside its line and its beginning, in bytes, at the most: number, time, marks.
const REST_BYTES_MAX: usize = 128;

/// Writes records as NDJSON.
#[derive(Debug)]
pub struct Ndjson {
    controls: Controls,
    names: FieldNames,
    keys: Keys,
    /// `{"host":…,"seq":` of each stream.
    beginnings: PerSource<PerStream<Vec<u8>>>,
    stamp: Stamp,
    /// From the number to the line: changes with the time only.
    middle: Vec<u8>,
    middle_ts: Option<i64>,
}

/// Keys with what stands around them, as the sink names them.
#[derive(Debug)]
struct Keys {
    /// Between the number and the time.
    before_time: Vec<u8>,
    /// From the quote that ends the time to the one that begins the line.
    before_line: Vec<u8>,
    before_base64: Vec<u8>,
    before_control: Vec<u8>,
    partial: Option<Vec<u8>>,
    late: Option<Vec<u8>>,
    before_parsed: Option<Vec<u8>>,
}

impl Keys {
    fn new(names: &FieldNames) -> Self {
        let around = |before: &str, key: &str, after: &str| {
            let mut text = before.as_bytes().to_vec();
            escape::string(&mut text, key);
            text.extend_from_slice(after.as_bytes());
            text
        };
        Self {
            before_time: around(",", names.kept("ts"), ":\""),
            before_line: around("\",", names.kept("line"), ":\""),
            before_base64: around("\",", names.kept("line_b64"), ":\""),
            before_control: around("\",", names.kept("control"), ":"),
            partial: names.of("partial").map(|key| around(",", key, ":true")),
            late: names.of("late").map(|key| around(",", key, ":true")),
            before_parsed: names.of("parsed").map(|key| around(",", key, ":")),
        }
    }
}

impl Ndjson {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(controls: Controls) -> Self {
        Self::named(controls, FieldNames::default())
    }

    /// The same with other names.
    #[must_use]
    pub fn named(controls: Controls, names: FieldNames) -> Self {
        Self {
            controls,
            keys: Keys::new(&names),
            names,
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
        self.each(frame, from, out, |_, _, out| out.len() < limit)
    }

    /// The same; `written` is called with each record and its number after it was written to `out`, and says whether
    /// to go on.
    pub fn each(
        &mut self,
        frame: &Frame,
        from: u32,
        out: &mut Vec<u8>,
        mut written: impl FnMut(&Record<'_>, u64, &mut Vec<u8>) -> bool,
    ) -> u32 {
        let Self { controls, names, keys, beginnings, stamp, middle, middle_ts } = self;
        let beginnings = beginnings.of(frame, |meta| beginnings_of(meta, names));
        let all_utf8 = frame.block.is_utf8();
        let parse = &frame.meta.parse;
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
                    middle.extend_from_slice(&keys.before_time);
                    middle.extend_from_slice(stamp.write(record.ts));
                    middle.extend_from_slice(&keys.before_line);
                }
                if is_line && (all_utf8 || std::str::from_utf8(record.line).is_ok()) {
                    out.extend_from_slice(middle);
                    escape::text(out, record.line);
                    out.push(b'"');
                } else {
                    let time = middle.len() - keys.before_line.len();
                    out.extend_from_slice(middle.get(..time).unwrap_or_default());
                    put_special(out, &record, keys);
                }
                put_end(out, &record, parse, keys);
                let number = frame.first_seq.saturating_add(u64::from(done - 1));
                if !written(&record, number, out) {
                    return done;
                }
            }
            seq.increment();
        }
        done
    }
}

/// The quote that ends the time, and instead of a line the control record or base64.
fn put_special(out: &mut Vec<u8>, record: &Record<'_>, keys: &Keys) {
    if record.flags.is_control() {
        out.extend_from_slice(&keys.before_control);
        out.extend_from_slice(record.line);
    } else {
        out.extend_from_slice(&keys.before_base64);
        out.extend_from_slice(STANDARD.encode(record.line).as_bytes());
        out.push(b'"');
    }
}

#[inline]
fn put_end(out: &mut Vec<u8>, record: &Record<'_>, how: &Parse, keys: &Keys) {
    let marks = [(record.flags.is_partial(), &keys.partial), (record.flags.is_late(), &keys.late)];
    for mark in marks.iter().filter(|(is_set, _)| *is_set).filter_map(|(_, mark)| mark.as_ref()) {
        out.extend_from_slice(mark);
    }
    if let Some(key) = &keys.before_parsed {
        put_parsed(out, key, record, how);
    }
    out.extend_from_slice(b"}\n");
}

/// What the line says as a JSON object without line ends, behind `before`; nothing when it is not taken apart.
pub(super) fn put_parsed(out: &mut Vec<u8>, before: &[u8], record: &Record<'_>, how: &Parse) {
    if *how == Parse::None || record.flags.is_control() || record.flags.is_partial() {
        return;
    }
    match parse(how, record.line) {
        None => {}
        Some(Parsed::Json(object)) => {
            out.extend_from_slice(before);
            let start = out.len();
            out.extend_from_slice(object.as_bytes());
            // Line ends in valid JSON stand between its tokens only; here they would end the record.
            for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
        }
        Some(Parsed::Fields(fields)) => {
            out.extend_from_slice(before);
            let mut separator = b'{';
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

fn beginnings_of(meta: &SourceMeta, names: &FieldNames) -> PerStream<Vec<u8>> {
    let mut common = Vec::new();
    let mut put = |key: &str, value: &str| {
        common.push(if common.is_empty() { b'{' } else { b',' });
        escape::string(&mut common, key);
        common.push(b':');
        escape::string(&mut common, value);
    };
    for (key, value) in names.described(meta) {
        put(&key, value);
    }
    PerStream::new(|stream| {
        let mut beginning = common.clone();
        if let Some(key) = names.of("stream") {
            beginning.push(if beginning.is_empty() { b'{' } else { b',' });
            escape::string(&mut beginning, key);
            beginning.push(b':');
            escape::string(&mut beginning, stream.name());
        }
        beginning.push(if beginning.is_empty() { b'{' } else { b',' });
        escape::string(&mut beginning, names.kept("seq"));
        beginning.push(b':');
        beginning
    })
}
