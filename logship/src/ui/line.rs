//! One record as the page shows it: where it stands among all others, and what of it is sent to a browser.

use serde::Serialize;

use super::level::Level;
use crate::archive::{Entry, Facts};
use crate::record::{Control, Record, Stream};
use crate::source::{Origin, SourceMeta};
use crate::time::Stamp;

#[cfg(test)]
mod tests;

/// Bytes of a line that are sent unasked; all of it is one request away.
pub const SHOWN_BYTES_MAX: usize = 4 << 10;

/// A place among all records: by time, then by source, then by number. The same record has the same one in the log
/// and in every archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Nanoseconds since 1970.
    pub ts: i64,
    /// Which source: a hash of the container's id or of the path.
    pub origin: u64,
    /// The number within the source.
    pub seq: u64,
}

impl Key {
    /// Before every record of `ts` and after every record before it.
    #[must_use]
    pub fn at(ts: i64) -> Self {
        Self { ts, origin: 0, seq: 0 }
    }

    /// From what [`Display`](std::fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let ts = parts.next()?.parse().ok()?;
        let origin = u64::from_str_radix(parts.next()?, 16).ok()?;
        let seq = parts.next()?.parse().ok()?;
        Some(Self { ts, origin, seq })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:016x}.{}", self.ts, self.origin, self.seq)
    }
}

/// The hash of a container's id or of a path.
#[must_use]
pub fn origin(identity: &str) -> u64 {
    let hash = blake3::hash(identity.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The hash of what a source is.
#[must_use]
pub fn origin_of(meta: &SourceMeta) -> u64 {
    match &meta.origin {
        Origin::Engine { id, .. } => origin(id),
        Origin::File { path, .. } => origin(path),
    }
}

/// A record, wherever it was found.
#[derive(Debug)]
pub struct Line<'a> {
    /// Where it stands.
    pub key: Key,
    /// Its container or path.
    pub source: &'a str,
    /// Where it was written.
    pub stream: &'a str,
    /// The line; empty for what tells of the source.
    pub text: &'a [u8],
    /// What happened to the source.
    pub control: Option<Control>,
    /// It goes on in the next record.
    pub is_partial: bool,
    /// It came after younger ones.
    pub is_late: bool,
}

impl<'a> Line<'a> {
    /// A record of the log, whose source has the hash `origin`. `None` for a control record that is none.
    #[must_use]
    pub fn of_record(
        meta: &'a SourceMeta,
        origin: u64,
        seq: u64,
        record: &Record<'a>,
    ) -> Option<Self> {
        let control = match record.flags.is_control() {
            true => Some(serde_json::from_slice(record.line).ok()?),
            false => None,
        };
        Some(Self {
            key: Key { ts: record.ts, origin, seq },
            source: meta.origin.name(),
            stream: record.flags.stream().name(),
            text: if control.is_some() { &[] } else { record.line },
            control,
            is_partial: record.flags.is_partial(),
            is_late: record.flags.is_late(),
        })
    }

    /// A record of an archive.
    #[must_use]
    pub fn of_entry(entry: &'a Entry<'_>, facts: &'a Facts<'_>) -> Self {
        let identity = facts.names.last().map_or("", AsRef::as_ref);
        Self {
            key: Key { ts: facts.ts, origin: origin(identity), seq: facts.seq },
            source: facts.name(),
            stream: &facts.stream,
            text: &entry.line,
            control: facts.control.clone(),
            is_partial: false,
            is_late: false,
        }
    }
}

/// What is sent of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Where it stands: names it in requests.
    pub id: String,
    /// Its time, with nine digits of a second.
    pub time: String,
    /// Its container or path.
    pub source: String,
    /// Where it was written.
    pub stream: String,
    /// How grave it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The line, or its beginning. What is no UTF-8 became U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Bytes of the whole line, when `line` is only its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// The line goes on in the next record.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// It came after younger ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// What happened to the source, in place of a line.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub control: Option<ShownControl>,
}

/// What happened to a source, with times that people and browsers can read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownControl {
    /// As in the log; times in nanoseconds are taken out of it.
    pub control: serde_json::Value,
    /// Where a gap begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A time as text.
#[must_use]
pub fn stamp(ts: i64) -> String {
    String::from_utf8_lossy(Stamp::default().write(ts)).into_owned()
}

impl Shown {
    /// What is sent of a record: of a line, at most the first [`SHOWN_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(line: &Line<'_>) -> Self {
        let (text, cut) = beginning(line.text);
        let is_line = line.control.is_none();
        Self {
            id: line.key.to_string(),
            time: stamp(line.key.ts),
            source: line.source.to_owned(),
            stream: line.stream.to_owned(),
            level: if is_line { Level::of(line.text) } else { None },
            line: is_line.then(|| String::from_utf8_lossy(text).into_owned()),
            cut,
            partial: line.is_partial,
            late: line.is_late,
            control: line.control.as_ref().map(ShownControl::new),
        }
    }

    /// As JSON without a line feed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // The type has string keys and no foreign code: it cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl ShownControl {
    fn new(control: &Control) -> Self {
        let mut value = serde_json::to_value(control).unwrap_or_default();
        let mut take = |name: &str| {
            let ts = value.as_object_mut()?.remove(name)?.as_i64()?;
            Some(stamp(ts))
        };
        let (from, to) = (take("from"), take("to"));
        Self { control: value, from, to }
    }
}

/// The beginning of a line up to a whole character, and the length of all of it when that is more.
fn beginning(line: &[u8]) -> (&[u8], Option<usize>) {
    if line.len() <= SHOWN_BYTES_MAX {
        return (line, None);
    }
    let is_inside = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has four bytes at the most.
    let end = (SHOWN_BYTES_MAX - 3..=SHOWN_BYTES_MAX).rev().find(|at| !is_inside(*at));
    (line.get(..end.unwrap_or(SHOWN_BYTES_MAX)).unwrap_or_default(), Some(line.len()))
}

/// Names of all streams.
pub const STREAMS: [Stream; 4] = [Stream::Stdout, Stream::Stderr, Stream::Console, Stream::File];
