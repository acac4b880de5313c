//! The syslog protocol: RFC 5424 messages, framed by counting octets (RFC 6587, section 3.4.1) on a stream.

use std::collections::VecDeque;

use super::{Controls, Decimal, PerSource, PerStream, cut, passes, severity};
use crate::record::Record;
use crate::source::SourceMeta;
use crate::template::Template;
use crate::time::Stamp;
use crate::wal::Frame;

/// Our structured data; 32473 is the number kept for documentation (RFC 5612), since we have none.
const SD_ID: &str = "logship@32473";

/// Longest host name, application name and parameter name, in bytes (RFC 5424, section 6).
const HOST_BYTES_MAX: usize = 255;
const APP_BYTES_MAX: usize = 48;
const PARAM_BYTES_MAX: usize = 32;

/// Longest value of a parameter, in bytes before escaping; what is longer is cut.
const VALUE_BYTES_MAX: usize = 1024;

/// Bytes of a message beside its header, its parameters and its text, at the most: priority and version, time,
/// number, marks, the mark of a cut, and what ends the structured data.
const REST_BYTES_MAX: usize = 128;

/// Bytes of a time with six digits of a second, without its `Z`: the protocol allows no more.
const TIME_BYTES: usize = 26;

/// What a message says about itself when it was cut.
const TRUNCATED: &[u8] = b" truncated=\"true\"";

/// `facility=`: names and numbers of RFC 5424, table 1, as syslog.conf(5) writes them.
pub const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// How messages look.
#[derive(Debug, Clone)]
pub struct SyslogFormat {
    /// Number of the facility.
    pub facility: u8,
    /// The application name.
    pub app: Template,
    /// Longest message, in bytes; a longer one is cut and says so.
    pub message_bytes_max: usize,
    /// What is sent beside lines.
    pub controls: Controls,
}

/// Writes records as syslog messages.
#[derive(Debug)]
pub struct Syslog {
    format: SyslogFormat,
    parts: PerSource<PerStream<Parts>>,
    stamp: Stamp,
    message: Vec<u8>,
}

/// What is the same for every message of a source and stream.
#[derive(Debug)]
struct Parts {
    /// From the space after the time to the one before the structured data.
    header: Vec<u8>,
    /// The structured data without its closing bracket.
    data: Vec<u8>,
}

impl Syslog {
    /// An encoder without memory of any source.
    #[must_use]
    pub fn new(format: SyslogFormat) -> Self {
        Self { format, parts: PerSource::default(), stamp: Stamp::default(), message: Vec::new() }
    }

    /// Adds the records of `frame` from number `from` of it on as counted messages, until `out` has `limit`
    /// bytes; says how many of the frame's records are done then.
    pub fn encode(&mut self, frame: &Frame, from: u32, limit: usize, out: &mut Vec<u8>) -> u32 {
        self.each(frame, from, |message| {
            out.extend_from_slice(Decimal::new(message.len() as u64).text());
            out.push(b' ');
            out.extend_from_slice(message);
            out.len() < limit
        })
    }

    /// Adds them as datagrams: the bytes to `out`, where each ends to `ends`.
    pub fn encode_datagrams(
        &mut self,
        frame: &Frame,
        from: u32,
        limit: usize,
        out: &mut Vec<u8>,
        ends: &mut VecDeque<usize>,
    ) -> u32 {
        self.each(frame, from, |message| {
            out.extend_from_slice(message);
            ends.push_back(out.len());
            out.len() < limit
        })
    }

    /// Calls `take` with every message until it says that it was enough.
    fn each(&mut self, frame: &Frame, from: u32, mut take: impl FnMut(&[u8]) -> bool) -> u32 {
        let Self { format, parts, stamp, message } = self;
        let parts = parts.of(frame, |meta| parts_of(meta, format));
        let mut seq = Decimal::new(frame.first_seq.saturating_add(u64::from(from)));
        let mut done = from;
        for record in frame.block.records().skip(from as usize) {
            done += 1;
            let is_for_us = !record.flags.is_control() || passes(format.controls, record.line);
            if is_for_us {
                let parts = parts.of(record.flags.stream());
                put_message(message, format, parts, &record, seq.text(), stamp.write(record.ts));
                if !take(message) {
                    return done;
                }
            }
            seq.increment();
        }
        done
    }
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD] MSG` (RFC 5424, section 6).
fn put_message(
    out: &mut Vec<u8>,
    format: &SyslogFormat,
    parts: &Parts,
    record: &Record<'_>,
    seq: &[u8],
    time: &[u8],
) {
    let severity = severity(record.flags);
    out.clear();
    out.push(b'<');
    out.extend_from_slice(
        Decimal::new(u64::from(format.facility) * 8 + u64::from(severity)).text(),
    );
    out.extend_from_slice(b">1 ");
    out.extend_from_slice(time.get(..TIME_BYTES).unwrap_or(time));
    out.push(b'Z');
    out.extend_from_slice(&parts.header);
    out.extend_from_slice(&parts.data);
    out.extend_from_slice(b" seq=\"");
    out.extend_from_slice(seq);
    out.push(b'"');
    let marks = [
        (record.flags.is_partial(), &b" partial=\"true\""[..]),
        (record.flags.is_late(), b" late=\"true\""),
        (record.flags.is_control(), b" control=\"true\""),
    ];
    for (_, mark) in marks.into_iter().filter(|(is_set, _)| *is_set) {
        out.extend_from_slice(mark);
    }
    // The closing bracket and the space before the message.
    let room = format.message_bytes_max.saturating_sub(out.len() + 2);
    let text = match record.line.len() <= room {
        true => record.line,
        false => {
            out.extend_from_slice(TRUNCATED);
            cut(record.line, room.saturating_sub(TRUNCATED.len()))
        }
    };
    out.extend_from_slice(b"] ");
    out.extend_from_slice(text);
}

/// Parameters that would take more than half of the room are left out: a datagram has a limit, and the text of the
/// record is what it is sent for.
fn parts_of(meta: &SourceMeta, format: &SyslogFormat) -> PerStream<Parts> {
    PerStream::new(|stream| {
        let mut header = Vec::new();
        let app = format.app.expand(meta, stream, 0);
        for (value, max) in [(meta.host.as_str(), HOST_BYTES_MAX), (&app, APP_BYTES_MAX)] {
            header.push(b' ');
            put_printable(&mut header, value, max);
        }
        header.extend_from_slice(b" - - [");
        let room = format.message_bytes_max.saturating_sub(header.len() + REST_BYTES_MAX) / 2;
        let mut data = SD_ID.as_bytes().to_vec();
        let mut put = |key: &str, value: &str| {
            let mut param = vec![b' '];
            put_name(&mut param, key);
            param.extend_from_slice(b"=\"");
            let value = match value.len() > VALUE_BYTES_MAX {
                true => cut(value.as_bytes(), VALUE_BYTES_MAX),
                false => value.as_bytes(),
            };
            for byte in value {
                if matches!(byte, b'"' | b'\\' | b']') {
                    param.push(b'\\');
                }
                param.push(*byte);
            }
            param.push(b'"');
            if data.len() + param.len() <= room {
                data.append(&mut param);
            }
        };
        put("stream", stream.name());
        for (key, value) in meta.origin.pairs() {
            put(key, value);
        }
        for (key, value) in &meta.fields {
            put(key, value);
        }
        Parts { header, data }
    })
}

/// Printable ASCII without spaces, or the nil value `-`.
fn put_printable(out: &mut Vec<u8>, value: &str, bytes_max: usize) {
    let start = out.len();
    let printable = |c: char| if c.is_ascii_graphic() { c as u8 } else { b'_' };
    out.extend(value.chars().take(bytes_max).map(printable));
    if out.len() == start {
        out.push(b'-');
    }
}

/// The name of a parameter: printable ASCII without `=`, `]` and `"`.
fn put_name(out: &mut Vec<u8>, name: &str) {
    let allowed = |c: char| match c {
        '=' | ']' | '"' => b'_',
        c if c.is_ascii_graphic() => c as u8,
        _ => b'_',
    };
    out.extend(name.chars().take(PARAM_BYTES_MAX).map(allowed));
}
