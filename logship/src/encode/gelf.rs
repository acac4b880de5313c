//! GELF 1.1, the Graylog Extended Log Format: one JSON object a record.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::FieldNames;
use super::ndjson::put_parsed;
use super::{Controls, Decimal, PerSource, PerStream, cut, escape, passes, severity};
use crate::record::Record;
use crate::source::{Parse, SourceMeta};
use crate::time::SECOND;
use crate::wal::Frame;

#[cfg(test)]
mod tests;

/// Names that the engine's own driver for GELF has; `_id` is reserved.
pub const USUAL_NAMES: [(&str, &str); 3] =
    [("container", "container_name"), ("id", "container_id"), ("image", "image_name")];

/// What begins each chunk of a message, and bytes of it together with its number (8), place and count.
const CHUNK_MAGIC: [u8; 2] = [0x1e, 0x0f];
const CHUNK_HEAD_BYTES: usize = 12;

/// Chunks of a message, at the most: what has more is thrown away by receivers.
pub const CHUNKS_MAX: usize = 128;

/// Stands for a line that has nothing but spaces, which a receiver would refuse.
const BLANK: &[u8] = b"-";

/// How messages look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GelfFormat {
    /// Longest text of a message, in bytes; a longer one is cut and says so.
    pub text_bytes_max: usize,
    /// What is sent beside lines.
    pub controls: Controls,
    /// What additional fields are called, without the `_` in front.
    pub names: FieldNames,
    /// How datagrams are made; `None`: messages are ended by a null byte.
    pub datagrams: Option<Datagrams>,
}

/// How a message becomes datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// Longest datagram, in bytes.
    pub bytes_max: usize,
    /// Whether messages are compressed (RFC 1952).
    pub gzip: bool,
}

/// Writes records as GELF messages.
#[derive(Debug)]
pub struct Gelf {
    format: GelfFormat,
    beginnings: PerSource<PerStream<Vec<u8>>>,
    message: Vec<u8>,
    /// The number of the next message that is cut into chunks; begins at random.
    next: u64,
}

impl Gelf {
    /// An encoder without memory of any source; `random` sets its chunks apart from those of other senders.
    #[must_use]
    pub fn new(format: GelfFormat, random: u64) -> Self {
        Self { format, beginnings: PerSource::default(), message: Vec::new(), next: random }
    }

    /// Adds the records of `frame` from number `from` of it on, until `out` has `limit` bytes; says how many of the
    /// frame's records are done then. For datagrams, where each ends goes to `ends`.
    pub fn encode(
        &mut self,
        frame: &Frame,
        from: u32,
        limit: usize,
        out: &mut Vec<u8>,
        ends: &mut VecDeque<usize>,
    ) -> u32 {
        let mut done = from;
        for record in frame.block.records().skip(from as usize) {
            if out.len() >= limit {
                break;
            }
            let seq = frame.first_seq.saturating_add(u64::from(done));
            done += 1;
            if record.flags.is_control() && !passes(self.format.controls, record.line) {
                continue;
            }
            let Some(datagrams) = self.format.datagrams else {
                self.write(frame, &record, seq, self.format.text_bytes_max);
                out.extend_from_slice(&self.message);
                out.push(0);
                continue;
            };
            // What is too long for its chunks is cut to half until it is not.
            let mut text_bytes_max = self.format.text_bytes_max.min(record.line.len());
            loop {
                self.write(frame, &record, seq, text_bytes_max);
                if put_datagrams(out, ends, &self.message, datagrams, self.next)
                    || text_bytes_max == 0
                {
                    break;
                }
                text_bytes_max /= 2;
            }
            self.next = self.next.wrapping_add(1);
        }
        done
    }

    fn write(&mut self, frame: &Frame, record: &Record<'_>, seq: u64, text_bytes_max: usize) {
        let Self { format, beginnings, message: out, .. } = self;
        let beginnings = beginnings.of(frame, |meta| beginnings_of(meta, &format.names));
        out.clear();
        out.extend_from_slice(beginnings.of(record.flags.stream()));
        put_message(out, format, record, seq, text_bytes_max, &frame.meta.parse);
    }
}

/// From the text on: the rest is the same for every record of a source and stream.
fn put_message(
    out: &mut Vec<u8>,
    format: &GelfFormat,
    record: &Record<'_>,
    seq: u64,
    text_bytes_max: usize,
    how: &Parse,
) {
    let is_cut = record.line.len() > text_bytes_max;
    let line = if is_cut { cut(record.line, text_bytes_max) } else { record.line };
    let text = String::from_utf8_lossy(line);
    let is_blank = text.trim().is_empty();
    escape::text(out, if is_blank { BLANK } else { text.as_bytes() });
    out.extend_from_slice(b"\",\"timestamp\":");
    let (seconds, rest) = (record.ts.div_euclid(SECOND), record.ts.rem_euclid(SECOND));
    out.extend_from_slice(format!("{seconds}.{rest:09}").as_bytes());
    out.extend_from_slice(b",\"level\":");
    out.extend_from_slice(Decimal::new(u64::from(severity(record.flags))).text());
    let mut put = |key: &str, value: &dyn Fn(&mut Vec<u8>)| {
        if let Some(name) = format.names.of(key) {
            put_key(out, name);
            value(out);
        }
    };
    put("seq", &|out| out.extend_from_slice(Decimal::new(seq).text()));
    if is_blank && !line.is_empty() || std::str::from_utf8(line).is_err() {
        put("line_b64", &|out| {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(line).as_bytes());
            out.push(b'"');
        });
    }
    let marks = [
        ("partial", record.flags.is_partial()),
        ("late", record.flags.is_late()),
        ("control", record.flags.is_control()),
        ("line_truncated", is_cut),
        ("line_blank", is_blank),
    ];
    // Values are texts or numbers: the format has no others.
    for (key, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
        put(key, &|out| out.extend_from_slice(b"\"true\""));
    }
    if !is_cut {
        let mut parsed = Vec::new();
        put_parsed(&mut parsed, &[], record, how);
        if let (false, Ok(text)) = (parsed.is_empty(), std::str::from_utf8(&parsed)) {
            put("parsed", &|out| escape::string(out, text));
        }
    }
    out.push(b'}');
}

fn beginnings_of(meta: &SourceMeta, names: &FieldNames) -> PerStream<Vec<u8>> {
    PerStream::new(|stream| {
        let mut out = b"{\"version\":\"1.1\",\"host\":".to_vec();
        escape::string(&mut out, if meta.host.is_empty() { "-" } else { &meta.host });
        let mut fields = names.described(meta);
        // The host has a place of its own.
        if names.of("host").is_some() {
            fields.remove(0);
        }
        fields.extend(names.of("stream").map(|name| (name.into(), stream.name())));
        for (name, value) in fields {
            put_key(&mut out, &name);
            escape::string(&mut out, value);
        }
        out.extend_from_slice(b",\"short_message\":\"");
        out
    })
}

/// `,"_name":` of an additional field: letters, digits, `_`, `.` and `-`.
fn put_key(out: &mut Vec<u8>, name: &str) {
    let allowed = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c as u8,
        '_' | '.' | '-' => c as u8,
        _ => b'_',
    };
    out.extend_from_slice(b",\"_");
    out.extend(name.chars().map(allowed));
    // The one name that is not allowed.
    if name == "id" {
        out.push(b'_');
    }
    out.extend_from_slice(b"\":");
}

/// Adds a message as one datagram or as chunks of it. `false`: it would be too many, nothing is added.
fn put_datagrams(
    out: &mut Vec<u8>,
    ends: &mut VecDeque<usize>,
    message: &[u8],
    Datagrams { bytes_max, gzip }: Datagrams,
    number: u64,
) -> bool {
    let compressed = if gzip { super::gzip(message).ok() } else { None };
    let message = compressed.as_deref().unwrap_or(message);
    if message.len() <= bytes_max {
        out.extend_from_slice(message);
        ends.push_back(out.len());
        return true;
    }
    let chunks = message.chunks(bytes_max.saturating_sub(CHUNK_HEAD_BYTES).max(1));
    let count = chunks.len();
    if count > CHUNKS_MAX {
        return false;
    }
    for (place, chunk) in (0_u8..).zip(chunks) {
        out.extend_from_slice(&CHUNK_MAGIC);
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&[place, u8::try_from(count).unwrap_or(u8::MAX)]);
        out.extend_from_slice(chunk);
        ends.push_back(out.len());
    }
    true
}
